#!/usr/bin/env python3
"""Replays recorded pictures, speech, transcripts, moderations and rankings through the routes that pass them as they are: what the client
sends has to arrive but for the model's name, and what the provider answers has to come back byte for byte.

  replay_relays.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop] [--only WORD]

Standard library only.
"""

import base64
import collections
import concurrent.futures
import http.client
import json
import os
import re
import sys
import time
import urllib.parse

from replay_corpus import PARALLEL, arguments, pieces, provider_message
from rig import KEY, Gateway, ReplayServer, unpack

APIS = {
    "openai.images": ("/images/generations", "/images/edits"),
    "openai.audio.speech": ("/audio/speech",),
    "openai.audio.transcriptions": ("/audio/transcriptions",),
    "openai.audio.translations": ("/audio/translations",),
    "openai.moderations": ("/moderations",),
    "cohere.rerank": ("/rerank",),
    "rerank": ("/rerank",),
}
# Mistral's other kind of moderation, and statistics of an account, are no routes of the gateway.
OTHERS = ("/chat/moderations", "/organization/")
EXTENSIONS = ("models", "provider", "route", "fallbacks", "preset", "extra")
BOUNDARY = "edge-of-the-replay"


def main():
    options, started = arguments(), time.monotonic()
    folder = unpack(options.corpus, options.work)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file)["exchanges"] if entry["api"] in APIS]
    entries = [entry for entry in entries if options.only in json.dumps(entry)]
    exchanges = [(entry, exchange) for entry in entries if (exchange := load(folder, entry)) and path_of(entry, exchange)]
    names = sorted({entry["provider"] for entry, _ in exchanges})
    counts, failures = collections.Counter(), []
    with ReplayServer(options.corpus, folder) as replay, Gateway(options.gateway, replay.url, options.work, names) as gateway:
        for name in [name for name in options.passes.split(",") if name != "crlf"]:
            forms = [pair for pair in exchanges if is_form(pair[1])]
            others = [pair for pair in exchanges if not is_form(pair[1])]
            # The replay server does not look for the exchange's name in a form: it is told, so they come one by one, and not in pieces.
            forms = forms if name == "whole" else []
            with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
                results = list(pool.map(lambda pair, name=name: one(replay, gateway, *pair, name), others))
            for entry, exchange in forms:
                fall_back(replay, path_of(entry, exchange), entry["id"])
                results.append(one(replay, gateway, entry, exchange, name))
            for (entry, _), found in zip(others + forms, results):
                counts[name, "failed" if found else "passed"] += 1
                if found:
                    failures.append((entry["file"], name, entry["fidelity"], found))
        gateway.check_alive()
    for file, name, fidelity, found in failures[: options.show]:
        print(f"FAILED {file} ({name}, {fidelity})")
        for what, detail in found[:3]:
            print(f"    {what}: {detail[:400]}")
    for (name, outcome), count in sorted(counts.items()):
        print(f"pass {name}: {count} {outcome}")
    print(f"{time.monotonic() - started:.0f} s\n{sum(counts.values()) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures or not counts else 0


def is_form(exchange):
    headers = {key.lower(): value for key, value in exchange["request"].get("headers", {}).items()}
    return "multipart/" in str(headers.get("content-type"))


def fall_back(replay, path, exchange):
    """Has the replay server answer with an exchange at a path, whatever the request names."""
    connection = http.client.HTTPConnection("127.0.0.1", replay.port, timeout=30)
    connection.request("POST", f"/fallback?{urllib.parse.quote(path, safe='')}={exchange}")
    connection.getresponse().read()


def load(folder, entry):
    with open(os.path.join(folder, entry["file"]), encoding="utf-8") as file:
        return json.load(file)


def path_of(entry, exchange):
    """The gateway's path for a recorded request; None for what is no route of the gateway's."""
    path = urllib.parse.urlsplit(exchange["request"]["url"]).path
    if any(other in path for other in OTHERS):
        return None
    return next((f"/v1{end}" for end in APIS[entry["api"]] if path.endswith(end)), None)


def one(replay, gateway, entry, exchange, name):
    """Replays one exchange; returns its differences: (what, detail)."""
    try:
        return compare(replay, gateway, entry, exchange, name)
    except Exception as problem:  # a broken check is a failure of this exchange, not the end of the run
        return [("harness", repr(problem))]


def compare(replay, gateway, entry, exchange, name):
    recorded = exchange["response"]
    wanted = base64.b64decode(recorded["body_b64"]) if "body_b64" in recorded else recorded.get("body_text", "").encode()
    suffix = ("-chop1" if len(wanted) <= 4_000 else "-chop97") if name == "chop" else ""
    content_type, body, parts = ask(entry, exchange, f"{entry['provider']}/replay-{entry['id']}{suffix}")
    headers = {"authorization": f"Bearer {KEY}", "content-type": content_type}
    status, told, said, cut = gateway.ask(path_of(entry, exchange), body, headers)
    if entry["status"] != 200:
        return refusal(entry, wanted.decode(), status, said)
    found = [] if status == 200 else [("status", f"{status}: {said[:300]!r}")]
    found += [("cut", "the answer broke off")] if cut else []
    found += [("bytes", f"{len(said)} for {len(wanted)}: {said[:100]!r}")] if said != wanted else []
    kind = told["content-type"]
    types = {key.lower(): value for key, value in recorded["headers"].items()}.get("content-type")
    types = types[0] if isinstance(types, list) else types
    found += [("content type", f"{kind} for {types}")] if types and kind != types else []
    received = replay.received(entry["id"])
    if name == "whole":
        found += sent_differences(received, parts, f"replay-{entry['id']}")
    return found


def ask(entry, exchange, model):
    """The media type and body of the client's request, and what has to arrive: members, or parts by name."""
    request = exchange["request"]
    headers = {key.lower(): value for key, value in request.get("headers", {}).items()}
    recorded_type = headers.get("content-type") or ""
    recorded_type = recorded_type[0] if isinstance(recorded_type, list) else recorded_type
    body = request.get("body")
    if not recorded_type.startswith("multipart/"):
        members = {name: value for name, value in (body or {}).items() if name not in EXTENSIONS} or {"input": "Say it again."}
        members |= {"model": model}
        sent = members | {"extra": {"retry": 0}}
        if entry["status"] != 200:
            # The key of the request, not one of the pool, which a recorded 401 would take out of service.
            sent["extra"]["byok"] = "byok-of-this-request"
        return "application/json", json.dumps(sent).encode(), members
    parts = parts_of(recorded_type, raw_form(request)) or [(b'form-data; name="file"; filename="a.wav"', b"RIFF")]
    parts = [part for part in parts if b'name="model"' not in part[0]] + [(b'form-data; name="model"', model.encode())]
    extra = {"retry": 0} | ({} if entry["status"] == 200 else {"byok": "byok-of-this-request"})
    sent = [*parts, (b'form-data; name="extra"', json.dumps(extra).encode())]
    edge = f"--{BOUNDARY}".encode()
    lines = [edge + b"\r\nContent-Disposition: " + head + b"\r\n\r\n" + content + b"\r\n" for head, content in sent]
    return f"multipart/form-data; boundary={BOUNDARY}", b"".join(lines) + edge + b"--\r\n", parts


def raw_form(request):
    """The bytes of a recorded form, as far as they were kept."""
    if request.get("body_b64"):
        return base64.b64decode(request["body_b64"])
    text = (request.get("body") or {}).get("_text", "")
    return base64.b64decode(text.removeprefix("base64:")) if text.startswith("base64:") else text.encode()


def parts_of(content_type, body):
    """The disposition and content of each part that is whole."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)[1].encode()
    found = []
    for piece in body.split(b"--" + boundary)[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        disposition = re.search(rb"(?i)content-disposition: *([^\r\n]+)", head)
        if disposition and content.endswith(b"\r\n"):
            found.append((disposition[1], content[:-2]))
    return found


def sent_differences(received, wanted, model):
    if len(received) != 1:
        return [("calls upstream", f"{len(received)} instead of 1")]
    seen = received[0]
    if KEY in json.dumps(seen) or "byok-of" in str(seen.get("body_text", "")):
        return [("secrets", "what is the gateway's own reached the provider")]
    if isinstance(wanted, dict):
        wanted = wanted | {"model": model}
        return [] if seen["body"] == wanted else [("sent", f"{str(seen['body'])[:300]} for {str(wanted)[:300]}")]
    raw = base64.b64decode(seen["body_b64"]) if seen.get("body_b64") else seen.get("body_text", "").encode()
    headers = {key.lower(): value for key, value in seen["headers"].items()}
    had = parts_of(headers["content-type"], raw)
    wanted = [*wanted[:-1], (wanted[-1][0], model.encode())]
    return [] if had == wanted else [("sent", f"{str(had)[:300]} for {str(wanted)[:300]}")]


def refusal(entry, recorded, status, said):
    """What differs when the provider refused: the client has to get the provider's message and a fitting status."""
    message = json.loads(said)["error"]["message"]
    wanted, found = entry["status"], []
    if not (status == wanted or (wanted >= 500 and status >= 500) or (wanted == 400 and status == 404 and "model" in message.lower())):
        found.append(("status", f"{status} for the provider's {wanted}: {message[:200]!r}"))
    lost = [piece for piece in pieces(provider_message(json.loads(recorded))) if piece not in " ".join(message.split())]
    return found + ([("message", f"{lost[0]!r} is not in {message[:300]!r}")] if lost else [])


if __name__ == "__main__":
    sys.exit(main())
