"""Requests as the gateway would send them: recorded ones and our own, through `examples/render.rs`."""

import json
import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("ORBYT_TARGET") or ROOT / "target" / "debug")
CLIENTS = {"openai.chat": "openai_chat", "openai.responses": "openai_responses", "anthropic.messages": "anthropic_messages"}
# The gateway's own extensions (OpenRouter's names): they say where a request goes, and no provider gets them.
ROUTING = ("models", "provider", "route", "preset")


def written():
    """Our own requests: (name, client, body)."""
    for line, case in enumerate(json.loads((HERE / "written_requests.json").read_text(encoding="utf-8"))):
        yield f"written_requests.json[{line}]", case["client"], case["body"]


def recorded(folder):
    """Every request of a client's format that its provider took, each once."""
    entries = json.loads((pathlib.Path(folder) / "index.json").read_text(encoding="utf-8"))["exchanges"]
    seen = set()
    for entry in entries:
        if entry["api"] not in CLIENTS or entry["status"] != 200:
            continue
        # The recordings have no secrets, and no blocks of thoughts that only their provider can read: those were in base64.
        text = (pathlib.Path(folder) / entry["file"]).read_text(encoding="utf-8")
        body = json.loads(re.sub(r'"data": *"redacted_thinking_REDACTED_\d+"', '"data": "dGhvdWdodHM="', text))["request"].get("body")
        if not isinstance(body, dict) or not (body.get("messages") or body.get("input")):
            continue
        body = {"model": "a-model", **{name: value for name, value in body.items() if name not in ROUTING}}
        key = entry["api"] + json.dumps(body, sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield entry["file"], CLIENTS[entry["api"]], body


def render(requests):
    """What becomes of (client, body): one answer each, `refused` or by target."""
    lines = "".join(json.dumps({"client": client, "body": body}) + "\n" for client, body in requests)
    run = subprocess.run([TARGET / "examples" / "render"], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


# Below these a schema or somebody's data begins: what a member is called there says nothing.
NAMES_FOLLOW = ("properties", "$defs", "definitions", "patternProperties", "metadata", "client_metadata", "logit_bias")
DATA = ("arguments", "input")


def leaves(value, path=(), shape=""):
    """Everything that a request says: (path, shape, value), the shape without places in lists and with the kinds of parts."""
    if isinstance(value, dict):
        kind = value.get("role") or value.get("type")
        tag = f"<{kind}>" if isinstance(kind, str) and "schema" not in shape and "parameters" not in shape else ""
        for name, item in value.items():
            last = re.sub(r"<.*>", "", shape).rsplit(".", 1)[-1]
            anybodys = last in NAMES_FOLLOW or (last in DATA and shape.startswith(".messages"))
            yield from leaves(item, (*path, name), f"{shape}{tag}.{'*' if anybodys else name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from leaves(item, (*path, place), shape)
    elif value not in (None, "", False):
        yield path, shape.lstrip("."), value


def without(body, path, *instead):
    """A copy of a request with one thing said otherwise, or not at all."""
    copy = json.loads(json.dumps(body))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    if instead:
        inner[path[-1]] = instead[0]
    else:
        del inner[path[-1]]
    return copy


def variants(body, path, value):
    """The request with a leaf changed in two ways, and without it."""
    if isinstance(value, bool):
        changed = [not value]
    elif isinstance(value, str):
        changed = [value + "x", "x" + value]
    else:
        changed = [value + 1, value / 2]
    return [without(body, path, other) for other in changed] + [without(body, path)]
