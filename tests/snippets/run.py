#!/usr/bin/env python3
"""Runs the code snippets of the product documents, as they stand there but for URL and key, against the gateway and simulated providers.

Run it with the Python that has the OpenAI SDK; the SDK for Node is looked for in `tests/sdk/node`.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))

from gateway import free_port, running  # noqa: E402  (found by the path above)

PROVIDER_KEY = "AIza-key-of-the-user"
COMMANDS = {".mjs": ["node"], ".py": [sys.executable], ".sh": ["sh", "-e"]}


def run(gateway, name):
    """Runs a snippet; returns what it printed, and what the providers received meanwhile."""
    text = (HERE / name).read_text(encoding="utf-8")
    for place, value in (("{{URL}}", gateway.url), ("{{KEY}}", gateway.key), ("{{PROVIDER_KEY}}", PROVIDER_KEY)):
        text = text.replace(place, value)
    before = len(calls(gateway))
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, name)
        copy.write_text(text, encoding="utf-8")
        pathlib.Path(folder, "node_modules").symlink_to(HERE.parent / "sdk" / "node" / "node_modules")
        command = [*COMMANDS[copy.suffix], str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{name} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Error" not in done.stderr, f"{name} printed\n{done.stderr}"
    return done.stdout, calls(gateway)[before:]


def calls(gateway):
    """What the providers were asked; that the gateway asks some of them what they have, of its own accord, is beside the point."""
    with urllib.request.urlopen(gateway.sim_calls) as answer:
        return [call for call in json.load(answer) if call["method"] == "POST"]


def keys(call):
    """The provider key of a call, wherever its provider has it."""
    headers = call["headers"]
    return [headers.get("authorization"), headers.get("x-api-key"), headers.get("x-goog-api-key")]


def drop_in(gateway):
    _, received = run(gateway, "drop_in.mjs")
    assert len(received) == 1, received
    assert "extra" not in received[0]["body"], received


def readme(gateway):
    printed, received = run(gateway, "readme.mjs")
    assert "object: 'chat.completion'" in printed and "finish_reason: 'stop'" in printed, printed
    assert len(received) == 1 and "What is the capital of germany?" in json.dumps(received[0]["body"]), received


def byok(gateway):
    printed, received = run(gateway, "byok.mjs")
    assert printed.strip() == "What is the capital of germany?", printed
    assert len(received) == 1 and any(PROVIDER_KEY in (key or "") for key in keys(received[0])), received
    assert PROVIDER_KEY not in gateway.log.read_text(encoding="utf-8")


def curl(gateway):
    printed, received = run(gateway, "curl.sh")
    assert [call["provider"] for call in received] == ["openai", "anthropic"], received
    first, end = json.JSONDecoder().raw_decode(printed)
    second = json.loads(printed[end:])
    assert [answer["choices"][0]["message"]["content"] for answer in (first, second)] == ["Hello!", "Hello!"], printed


def change_base_url(gateway):
    printed, _ = run(gateway, "change_base_url.py")
    assert printed.strip() == "Explain quantum computing", printed


def failover():
    """The chain of the documents with its first provider down: every request is served, and none by that provider."""
    lines = (HERE / "failover.env").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if not line.startswith("#"))
    environment = {name: value.strip('"') for name, value in pairs}
    # Nobody listens there.
    environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{free_port()}/v1"
    with running(**environment) as gateway:
        served = collect(gateway, 12)
    assert "openai" not in served and served, served


def collect(gateway, times):
    """Asks for a model of the provider that is down; returns who served."""
    served = set()
    body = json.dumps({"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}).encode()
    for _ in range(times):
        headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{gateway.url}/chat/completions", body, headers)
        with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"] == "Hello!"
            served.add(answer.headers["x-provider"])
    return served


def main():
    with running() as gateway:
        for check in (drop_in, readme, byok, curl, change_base_url):
            check(gateway)
            print(f"snippet {check.__name__}: ok", flush=True)
    failover()
    print("snippet failover: ok")


if __name__ == "__main__":
    main()
