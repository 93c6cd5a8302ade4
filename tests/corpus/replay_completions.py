#!/usr/bin/env python3
"""Replays recorded exchanges of text completions through `POST /v1/completions` and compares what comes out with what was recorded.

  replay_completions.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop,crlf] [--only WORD]

Standard library only. Where the provider has the route itself the bytes pass, so the comparison is strict: every chunk and every object as
it was, but for usage that the client did not ask for. Where its answer is repaired or has the form of a chat, the meaning counts: texts,
finish reasons, log probabilities, counts. Accepted differences stand in `completions_exceptions.toml`.
"""

import collections
import concurrent.futures
import json
import os
import sys
import time
import tomllib

from replay_corpus import HERE, PARALLEL, SMALL, arguments
from replay_responses import events, excuse, refusal
from rig import KEY, Gateway, ReplayServer, unpack

# Those whose row in the catalog has the route; whoever else was recorded is asked as OpenAI is.
OWN = ("together", "fireworks", "openrouter", "deepseek", "mistral", "ollama", "vllm")
# Providers with finish reasons or usage of their own, which are repaired on the way.
REPAIRED = ("together", "fireworks", "openrouter", "deepseek", "ollama", "vllm")
# Members that are the gateway's own extensions (OpenRouter's names), and would route the request.
EXTENSIONS = ("models", "provider", "route", "fallbacks")
FINISH = {"eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "model_length": "length"}


def main():
    options, started = arguments(), time.monotonic()
    folder = unpack(options.corpus, options.work)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file)["exchanges"] if entry["api"] == "openai.completions"]
    entries = [entry for entry in entries if options.only in json.dumps(entry)]
    read = {entry["id"]: load(folder, entry) for entry in entries}
    others = [entry for entry in entries if is_chat(read[entry["id"]])]
    entries = [entry for entry in entries if not is_chat(read[entry["id"]])]
    with open(os.path.join(HERE, "completions_exceptions.toml"), "rb") as file:
        exceptions = tomllib.load(file).get("exception", [])
    counts, failures, used = collections.Counter(), [], collections.Counter()
    names = [*OWN, "openai"]
    with ReplayServer(options.corpus, folder) as replay, Gateway(options.gateway, replay.url, options.work, names) as gateway:
        for name in options.passes.split(","):
            chosen = [entry for entry in entries if name != "crlf" or (entry["stream"] and entry["status"] == 200)]
            with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
                results = list(pool.map(lambda entry, name=name: one(replay, gateway, entry, read[entry["id"]], name), chosen))
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
    print(f"{len(others)} left out: they are chats of agents, which are no text completions")
    print(f"{time.monotonic() - started:.0f} s\n{sum(counts.values()) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures or not counts else 0


def load(folder, entry):
    with open(os.path.join(folder, entry["file"]), encoding="utf-8") as file:
        return json.load(file)


def is_chat(exchange):
    """Whether the recording is of a route that only looks like this one (`/agents/completions`)."""
    body = exchange["request"].get("body")
    return isinstance(body, dict) and "messages" in body


def provider(entry):
    return entry["provider"] if entry["provider"] in OWN else "openai"


def one(replay, gateway, entry, exchange, name):
    """Replays one exchange; returns its differences: (what, detail)."""
    try:
        return compare(replay, gateway, entry, exchange, name)
    except Exception as problem:  # a broken check is a failure of this exchange, not the end of the run
        return [("harness", repr(problem))]


def compare(replay, gateway, entry, exchange, name):
    recorded = exchange["response"].get("body_text", "")
    small = len(recorded) <= SMALL[bool(entry["stream"])]
    suffix = {"whole": "", "chop": "-chop1" if small else "-chop7", "crlf": "-crlf1-chop13"}[name]
    request = ask(entry, exchange, suffix)
    status, _, body, cut = gateway.ask("/v1/completions", request)
    if entry["status"] != 200:
        return [] if names_the_same(recorded, entry, status, body) else refusal(entry, recorded, status, body)
    text = body.decode("utf-8", "replace")
    found = [] if status == 200 else [("status", f"{status}: {body[:300]!r}")]
    if cut:
        found.append(("cut", "the answer broke off"))
    if not found:
        found += stream_differences(entry, request, recorded, text) if entry["stream"] else whole_differences(entry, recorded, text)
    if name == "whole":
        found += sent_differences(replay.received(entry["id"]), request, provider(entry))
    return found


def names_the_same(recorded, entry, status, body):
    """Whether the gateway itself has refused what the provider refuses, for the same member."""
    params = [json.loads(text)["error"].get("param") for text in (recorded, body)]
    return status == entry["status"] == 400 and params[0] is not None and params[0] == params[1]


def ask(entry, exchange, suffix):
    """The client's request for an exchange: the recorded one, or where none is there a plain one."""
    recorded = exchange["request"].get("body")
    request = dict(recorded) if isinstance(recorded, dict) else {"prompt": "Say it again."}
    for member in EXTENSIONS:
        request.pop(member, None)
    request["model"] = f"{provider(entry)}/replay-{entry['id']}{suffix}"
    request["stream"] = bool(entry["stream"])
    # The key of the request, not one of the pool: a recorded 401 must not take a pooled key out of service.
    request["extra"] = {"retry": 0, "byok": "key-of-this-request"}
    return request


class Reading:
    """What an answer says, whole or in chunks, of a text completion or of the chat that stands for one."""

    def __init__(self, items):
        self.texts, self.finish, self.logprobs, self.usage = {}, {}, {}, None
        for item in items:
            for place, choice in enumerate(item.get("choices") or []):
                self.choice(choice.get("index", place), choice)
            self.usage = item.get("usage") or self.usage

    def choice(self, index, choice):
        said = choice.get("text")
        if said is None:
            said = (choice.get("message") or choice.get("delta") or {}).get("content")
        self.texts[index] = self.texts.get(index, "") + (said or "")
        if choice.get("finish_reason"):
            self.finish.setdefault(index, FINISH.get(choice["finish_reason"], choice["finish_reason"]))
        if choice.get("logprobs"):
            self.logprobs.setdefault(index, []).append(choice["logprobs"])

    def counts(self):
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        return self.usage and {name: self.usage.get(name, 0) for name in names}


def meanings(wanted, had, with_usage):
    found = []
    for what in ("texts", "finish", "logprobs"):
        if getattr(wanted, what) != getattr(had, what):
            found.append((what, f"{str(getattr(had, what))[:200]} for {str(getattr(wanted, what))[:200]}"))
    told = wanted.counts() if with_usage else None
    if had.counts() != told:
        found.append(("usage", f"{had.counts()} for {told}"))
    return found


def whole_differences(entry, recorded, text):
    wanted, had = json.loads(recorded), json.loads(text)
    if provider(entry) in REPAIRED or provider(entry) == "mistral":
        named = [] if had.get("object") == "text_completion" else [("object", str(had.get("object")))]
        return named + meanings(Reading([wanted]), Reading([had]), True)
    if text.strip() != recorded.strip():
        return [("bytes", f"{text[:200]!r} for {recorded[:200]!r}")]
    return []


def stream_differences(entry, request, recorded, text):
    wanted, had = events(recorded), events(text)
    if had[-1:] != ["[DONE]"] or had.count("[DONE]") != 1:
        return [("end", f"{str(had[-1:])[:300]}")]
    wanted, had = wanted[: -1 if wanted[-1:] == ["[DONE]"] else None], had[:-1]
    asked = (request.get("stream_options") or {}).get("include_usage") is True
    if not asked:
        wanted = [chunk for chunk in wanted if chunk.get("choices") or not chunk.get("usage")]
    if provider(entry) in REPAIRED or provider(entry) == "mistral":
        return meanings(Reading(wanted), Reading(had), asked)
    if wanted == had:
        return []
    same = next((at for at, (left, right) in enumerate(zip(wanted, had)) if left != right), min(len(wanted), len(had)))
    return [("events", f"{len(had)} for {len(wanted)}, different from {same}: {str(had[same:same + 1])[:200]}")]


def sent_differences(received, request, name):
    """The provider gets the client's body, but for the model's prefix, the gateway's own members, and usage that it asks for."""
    if len(received) != 1:
        return [("calls upstream", f"{len(received)} instead of 1")]
    seen, found = received[0], []
    wanted = {member: value for member, value in request.items() if member != "extra"}
    wanted["model"] = wanted["model"].removeprefix(f"{name}/")
    body = dict(seen["body"])
    if "stream_options" not in wanted:
        body.pop("stream_options", None)
    if body != wanted:
        found.append(("sent", f"{str(seen['body'])[:300]} for {str(wanted)[:300]}"))
    path = {"mistral": "/fim/completions", "deepseek": "/beta/completions"}.get(name, "/v1/completions")
    if not seen["path"].endswith(path):
        found.append(("sent", f"to {seen['path']}"))
    if KEY in json.dumps(seen):
        found.append(("secrets", "the gateway's key reached the provider"))
    return found


if __name__ == "__main__":
    sys.exit(main())
