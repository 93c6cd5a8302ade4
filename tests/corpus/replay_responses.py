#!/usr/bin/env python3
"""Replays recorded exchanges of `POST /v1/responses` through the gateway and compares what comes out with what was recorded.

  replay_responses.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop,crlf] [--only WORD]

Standard library only. Between a client of this format and a provider that has the route itself the bytes pass, so the comparison is
strict: every event and every object as it was, and the provider gets the client's body as it was but for the model. Accepted differences
stand in `responses_exceptions.toml`.
"""

import collections
import concurrent.futures
import json
import os
import sys
import time
import tomllib

from replay_corpus import HERE, PARALLEL, SMALL, arguments, pieces, provider_message
from rig import KEY, Gateway, ReplayServer, unpack

# The gateway's name of the one provider that stands for all: what it speaks to has `/responses`.
PROVIDER = "openai"
# Members that are the gateway's own extensions (OpenRouter's names), and would route the request.
EXTENSIONS = ("models", "provider", "route", "fallbacks")


def main():
    options, started = arguments(), time.monotonic()
    folder = unpack(options.corpus, options.work)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file)["exchanges"] if entry["api"] == "openai.responses"]
    entries = [entry for entry in entries if options.only in json.dumps(entry)]
    with open(os.path.join(HERE, "responses_exceptions.toml"), "rb") as file:
        exceptions = tomllib.load(file).get("exception", [])
    counts, failures, used = collections.Counter(), [], collections.Counter()
    with ReplayServer(options.corpus, folder) as replay, Gateway(options.gateway, replay.url, options.work, [PROVIDER]) as gateway:
        for name in options.passes.split(","):
            chosen = [entry for entry in entries if name != "crlf" or (entry["stream"] and entry["status"] == 200)]
            with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
                results = list(pool.map(lambda entry, name=name: one(folder, replay, gateway, entry, name), chosen))
            for entry, found in zip(chosen, results):
                excuses = [excuse(exceptions, entry, what) for what, _ in found]
                used.update(number for number in excuses if number is not None)
                outcome = "failed" if None in excuses else "excepted" if found else "passed"
                counts[name, outcome] += 1
                if None in excuses:
                    failures.append((entry["file"], name, entry["fidelity"], found))
        gateway.check_alive()
    for file, name, fidelity, found in failures[: options.show]:
        print(f"FAILED {file} ({name}, {fidelity})")
        for what, detail in found[:3]:
            print(f"    {what}: {detail[:400]}")
    for (name, outcome), count in sorted(counts.items()):
        print(f"pass {name}: {count} {outcome}")
    for number, exception in enumerate(exceptions):
        print(f"exception {number + 1}, used {used[number]} times: {exception['reason']}")
    print(f"{time.monotonic() - started:.0f} s\n{sum(counts.values()) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures or not counts else 0


def excuse(exceptions, entry, what):
    """The exception that covers a difference, if any."""
    for number, exception in enumerate(exceptions):
        conditions = {key: value for key, value in exception.items() if key not in ("checks", "reason")}
        if what in exception["checks"] and all(entry[key] == value for key, value in conditions.items()):
            return number
    return None


def one(folder, replay, gateway, entry, name):
    """Replays one exchange; returns its differences: (what, detail)."""
    try:
        with open(os.path.join(folder, entry["file"]), encoding="utf-8") as file:
            exchange = json.load(file)
        return compare(replay, gateway, entry, exchange, name)
    except Exception as problem:  # a broken check is a failure of this exchange, not the end of the run
        return [("harness", repr(problem))]


def compare(replay, gateway, entry, exchange, name):
    recorded = exchange["response"].get("body_text", "")
    small = len(recorded) <= SMALL[bool(entry["stream"])]
    suffix = {"whole": "", "chop": "-chop1" if small else "-chop7", "crlf": "-crlf1-chop13"}[name]
    request = ask(entry, exchange, suffix)
    status, _, body, cut = gateway.ask("/v1/responses", request)
    if entry["status"] != 200:
        return refusal(entry, recorded, status, body)
    text = body.decode("utf-8", "replace")
    if entry["stream"] and fails(recorded):
        # The provider failed before any output, so the client gets an error answer.
        return [] if status >= 400 and "error" in json.loads(text) else [("error", f"{status}: {text[:300]}")]
    found = [] if status == 200 else [("status", f"{status}: {body[:300]!r}")]
    if name == "whole" and text.strip() != recorded.strip():
        found.append(("bytes", f"{len(text)} for {len(recorded)}"))
    if entry["stream"]:
        found += stream_differences(recorded, text, cut)
    elif found == [] and json.loads(text) != json.loads(recorded):
        found.append(("body", f"{text[:200]!r} for {recorded[:200]!r}"))
    received = replay.received(entry["id"])
    if name == "whole":
        found += sent_differences(received, request)
    return found


def ask(entry, exchange, suffix):
    """The client's request for an exchange: the recorded one, or where none is there a plain one."""
    recorded = exchange["request"].get("body")
    request = dict(recorded) if isinstance(recorded, dict) else {"input": "Say it again."}
    for member in EXTENSIONS:
        request.pop(member, None)
    request["model"] = f"{PROVIDER}/replay-{entry['id']}{suffix}"
    request["stream"] = bool(entry["stream"])
    # The key of the request, not one of the pool: a recorded 401, or a limit told in-band, must not take a pooled key out of service.
    request["extra"] = {"retry": 0, "byok": "sk-byok-of-this-request"}
    return request


def events(text):
    """The data of a stream's events, as JSON where it is any."""
    found = []
    for frame in text.replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].lstrip(" ") for line in frame.split("\n") if line.startswith("data:"))
        if data:
            try:
                found.append(json.loads(data))
            except ValueError:
                found.append(data)
    return found


def fails(recorded):
    """Whether a recorded stream ends in a failure."""
    kinds = [event.get("type") for event in events(recorded) if isinstance(event, dict)]
    return bool(kinds) and kinds[-1] in ("response.failed", "error")


def stream_differences(recorded, text, cut):
    wanted, had = events(recorded), events(text)
    if cut:
        return [("cut", "the stream broke off")]
    if wanted == had:
        return []
    same = next((at for at, (left, right) in enumerate(zip(wanted, had)) if left != right), min(len(wanted), len(had)))
    return [("events", f"{len(had)} for {len(wanted)}, different from {same}: {str(had[same:same + 1])[:200]}")]


def sent_differences(received, request):
    """The provider gets the client's body, but for the model's prefix and the gateway's own members."""
    if len(received) != 1:
        return [("calls upstream", f"{len(received)} instead of 1")]
    seen, found = received[0], []
    wanted = {name: value for name, value in request.items() if name != "extra"}
    wanted["model"] = wanted["model"].removeprefix(f"{PROVIDER}/")
    if seen["body"] != wanted:
        found.append(("sent", f"{str(seen['body'])[:300]} for {str(wanted)[:300]}"))
    if not seen["path"].endswith("/responses"):
        found.append(("sent", f"to {seen['path']}"))
    if KEY in json.dumps(seen):
        found.append(("secrets", "the gateway's key reached the provider"))
    return found


def refusal(entry, recorded, status, body):
    """What differs when the provider refused: the client has to get the provider's message and a fitting status."""
    said = json.loads(body)["error"]["message"]
    wanted, found = entry["status"], []
    no_model = wanted == 400 and status == 404 and "model" in said.lower()
    no_key = wanted == 400 and status in (400, 401) and "key" in said.lower()
    if not (status == wanted or no_model or no_key):
        found.append(("status", f"{status} for the provider's {wanted}: {said[:200]!r}"))
    # What follows is a key, or what is left of one.
    message = provider_message(json.loads(recorded)).split("provided:")[0]
    lost = [piece for piece in pieces(message) if piece not in " ".join(said.split())]
    return found + ([("message", f"{lost[0]!r} is not in {said[:300]!r}")] if lost else [])


if __name__ == "__main__":
    sys.exit(main())
