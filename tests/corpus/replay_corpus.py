#!/usr/bin/env python3
"""Replays recorded provider traffic through the gateway and compares what comes out with what the recording says.

  replay_corpus.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop,crlf] [--only WORD]

Standard library only. Every exchange of the chat formats is asked for through the gateway, streamed as it was recorded: as it
is, in one-byte writes, and (streams) with CRLF line ends. The expectation comes from `recording.py`, which reads the recording
by the provider's documentation and shares nothing with the gateway. Accepted differences stand in `exceptions.toml`.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import time
import tomllib

import answer
import recording
from compare import differences, sent_differences
from rig import Gateway, ReplayServer, unpack

HERE = os.path.dirname(os.path.abspath(__file__))
# Older formats of Cohere (`cohere.v1.chat`, `cohere.generate`) and Ollama (`ollama.generate`) are not spoken to any provider.
APIS = tuple(recording.READERS)
# Which provider of the gateway's has a format that is not OpenAI's.
OWN_FORMAT = {
    "anthropic.messages": "anthropic",
    "gemini.generateContent": "google",
    "cohere.v2.chat": "cohere",
    "ollama.chat": "ollama_native",
    "bedrock.converse": "bedrock",
    "bedrock.converse_stream": "bedrock",
}
# Bodies up to this many bytes, streamed or whole, come in one-byte writes; larger ones in writes of seven, which cut at all the same
# places sooner or later, in a bearable time.
SMALL = {True: 16_000, False: 4_000}
PARALLEL = 16


def main():
    options = arguments()
    started = time.monotonic()
    folder = unpack(options.corpus, options.work)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file)["exchanges"] if entry["api"] in APIS]
    entries = [entry for entry in entries if options.only in json.dumps(entry)]
    with open(os.path.join(HERE, "exceptions.toml"), "rb") as file:
        exceptions = tomllib.load(file).get("exception", [])
    results = []
    names = sorted({route(entry) for entry in entries})
    with ReplayServer(options.corpus, folder) as replay, Gateway(options.gateway, replay.url, options.work, names) as gateway:
        run = Run(folder, replay, gateway, exceptions)
        for name in options.passes.split(","):
            begun = time.monotonic()
            chosen = [entry for entry in entries if name != "crlf" or (entry["stream"] and entry["status"] == 200)]
            with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
                results += pool.map(lambda entry, name=name: run.one(entry, name), chosen)
            print(f"pass {name}: {len(chosen)} exchanges in {time.monotonic() - begun:.0f} s", flush=True)
        gateway.check_alive()
    return report(results, exceptions, options, time.monotonic() - started)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="the folder with unpack.py and replay.py")
    parser.add_argument("--gateway", default=newest_binary(), help="the gateway's binary")
    parser.add_argument("--work", default=os.path.join("target", "corpus"), help="where to unpack and write the report")
    parser.add_argument("--passes", default="whole,chop,crlf")
    parser.add_argument("--only", default="", help="only exchanges whose index entry contains this")
    parser.add_argument("--show", type=int, default=40, help="how many failures to print")
    return parser.parse_args()


def newest_binary():
    built = [path for path in ("target/release/orbyt", "target/debug/orbyt") if os.path.exists(path)]
    return max(built, key=os.path.getmtime, default="target/release/orbyt")


class Run:
    """What every exchange needs."""

    def __init__(self, folder, replay, gateway, exceptions):
        self.folder, self.replay, self.gateway, self.exceptions = folder, replay, gateway, exceptions

    def one(self, entry, name):
        """Replays one exchange; returns the entry, the pass, and its differences: (what, detail, excused by)."""
        try:
            found = self.compare(entry, name)
        except Exception as problem:  # a broken check is a failure of this exchange, not the end of the run
            found = [("harness", repr(problem))]
        return entry, name, [(what, detail, self.excuse(entry, what)) for what, detail in found]

    def compare(self, entry, name):
        with open(os.path.join(self.folder, entry["file"]), encoding="utf-8") as file:
            exchange = json.load(file)
        small = len(exchange["response"].get("body_text") or exchange["response"].get("body_b64", "")) <= SMALL[entry["stream"]]
        suffix = {"whole": "", "chop": "-chop1" if small else "-chop7", "crlf": "-crlf1-chop13"}[name]
        request, provider = ask(entry, exchange, suffix)
        status, content_type, body, cut = self.gateway.post(request)
        translated = entry["api"] != "openai.chat"
        reply = answer.read(status, content_type, body, cut, bool(request.get("stream")), translated)
        wanted_usage = not request.get("stream") or (request.get("stream_options") or {}).get("include_usage") is True
        if entry["status"] == 200:
            expected = recording.read(exchange)
            found = differences(expected, reply, bool(request.get("stream")), wanted_usage)
        else:
            found = refusal(entry, exchange, reply)
        if name == "whole":
            found += sent_differences(self.replay.received(entry["id"]), request, entry["api"], provider)
        return found

    def excuse(self, entry, what):
        """The exception that covers a difference, if any."""
        for number, exception in enumerate(self.exceptions):
            if what in exception["checks"] and all(holds(entry, key, exception[key]) for key in exception if key in CONDITIONS):
                return number
        return None


CONDITIONS = ("api", "provider", "stream", "fidelity", "wire", "feature", "status", "id")


def holds(entry, key, wanted):
    if key in ("wire", "feature"):
        return wanted in entry["wire" if key == "wire" else "features"]
    if key == "fidelity":
        return wanted in entry["fidelity"].split("+")
    return entry[key] == wanted


def route(entry):
    """The provider, as the gateway calls it, that an exchange goes to."""
    if entry["api"] != "openai.chat":
        # The exchanges of a cloud go by the cloud's own paths and keys.
        if entry["provider"] in ("vertex", "vertex_anthropic"):
            return "vertex"
        return OWN_FORMAT[entry["api"]]
    # The OpenAI-compatible side of those who are known for a format of their own.
    name = entry["provider"]
    return f"{name}_compat" if name in ("anthropic", "bedrock", "gemini", "vertex", "cohere") else name


def ask(entry, exchange, suffix):
    """The client's request for an exchange, and the provider it goes to."""
    provider = route(entry)
    recorded = exchange["request"].get("body")
    if entry["api"] == "openai.chat" and entry["status"] == 200 and isinstance(recorded, dict) and recorded.get("messages"):
        # These three members are the gateway's own extensions (OpenRouter's names), and would route the request.
        request = {name: value for name, value in recorded.items() if name not in ("models", "provider", "route")}
    else:
        request = {"messages": [{"role": "user", "content": "Say it again."}]}
        # Most ask for usage in the stream and some do not, so that both ways are seen.
        if entry["stream"] and int(entry["id"][-1], 16) % 4:
            request["stream_options"] = {"include_usage": True}
    # On Vertex the maker before the name says in whose format a model is asked.
    maker = {"anthropic.messages": "anthropic/", "gemini.generateContent": "google/"}.get(entry["api"], "")
    request["model"] = f"{provider}/{maker if provider == 'vertex' else ''}replay-{entry['id']}{suffix}"
    request["stream"] = bool(entry["stream"])
    if not request["stream"]:
        request.pop("stream_options", None)
    request["extra"] = {"retry": 0}
    if entry["status"] != 200:
        # The key of the request, not one of the pool: a recorded 401 or 429 must not take a pooled key out of service.
        # Nor may it begin like one of another provider.
        request["extra"]["byok"] = "byok-of-this-request"
    return request, provider


def refusal(entry, exchange, reply):
    """What differs when the provider refused: the client has to get the provider's message and a fitting status."""
    found = [("format", violation) for violation in reply.violations]
    status = entry["status"]
    # Some say 400 for a model that they do not have.
    no_model = status == 400 and reply.status == 404 and "model" in reply.message.lower()
    fitting = reply.status == status or no_model if status < 500 else reply.status >= 500
    if not fitting:
        found.append(("status", f"{reply.status} for the provider's {status}: {reply.message[:200]!r}"))
    objects, _ = recording.objects(exchange)
    message = provider_message(objects[0] if objects else exchange["response"].get("body_text", ""))
    lost = [piece for piece in pieces(message) if piece not in " ".join(reply.message.split())]
    if lost:
        found.append(("message", f"{lost[0]!r} is not in {reply.message[:300]!r}"))
    return found


def provider_message(body):
    """The message of an error body in any of the forms that the recordings have."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error", body)
    if isinstance(error, str):
        return error
    message = error.get("message") or error.get("detail") or ""
    return message if isinstance(message, str) else ""


def pieces(message):
    """The parts of a message that must survive: its beginning, without what looks like a key and may be redacted."""
    words = " ".join(message.split())[:160]
    for sign in ("sk-", "key:", "REDACTED", "AIza", "req_", "Bearer", "****"):
        words = words.split(sign)[0]
    return [words.strip()[:100]] if len(words.strip()) >= 12 else []


def report(results, exceptions, options, seconds):
    table = collections.defaultdict(collections.Counter)
    failures, used = [], collections.Counter()
    for entry, name, found in results:
        open_ends = [(what, detail) for what, detail, excuse in found if excuse is None]
        used.update({excuse for _, _, excuse in found if excuse is not None})
        outcome = "failed" if open_ends else "excepted" if found else "passed"
        table[entry["api"], entry["provider"]][outcome] += 1
        if open_ends:
            failures.append({"id": entry["id"], "file": entry["file"], "pass": name, "stream": entry["stream"],
                             "fidelity": entry["fidelity"], "wire": entry["wire"], "differences": open_ends})
    for failure in failures[: options.show]:
        print(f"FAILED {failure['file']} ({failure['pass']}, {'stream' if failure['stream'] else 'whole'}, {failure['fidelity']})")
        for what, detail in failure["differences"][:4]:
            print(f"    {what}: {detail[:400]}")
    with open(os.path.join(options.work, "report.json"), "w", encoding="utf-8") as file:
        json.dump(failures, file, indent=1)
    print(f"\n{'api':24} {'provider':22} {'passed':>7} {'excepted':>9} {'failed':>7}")
    for (api, provider), counts in sorted(table.items()):
        print(f"{api:24} {provider:22} {counts['passed']:7} {counts['excepted']:9} {counts['failed']:7}")
    for number, exception in enumerate(exceptions):
        print(f"exception {number + 1} ({', '.join(exception['checks'])}), used {used[number]} times: {exception['reason']}")
    for what, count in collections.Counter(what for item in failures for what, _ in item["differences"]).most_common():
        print(f"difference in {what}: {count}")
    passed = len(results) - len(failures)
    print(f"{seconds:.0f} s\n{passed} passed, {len(failures)} failed")
    return 1 if failures or not results else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.SubprocessError, RuntimeError) as problem:
        sys.exit(f"replay_corpus: {problem}")
