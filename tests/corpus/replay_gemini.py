#!/usr/bin/env python3
"""Replays recorded traffic of Google's `generateContent` through the route of the same name: the client's request and the provider's answer
are those of the recording, so both have to come out of the gateway byte by byte.

  replay_gemini.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop,crlf] [--only WORD]

The answers of the other formats are asked for through the same route, and have to mean the same in Google's words.

What is compared: the body that the provider received with the one that the client sent (but for `extra`), and the answer with the recorded
one: equal bytes; an array, which the gateway frames anew, equal items; for an error the same status, word and message.
"""

import json
import sys

import recording
from meaning import sse_data
from passing import choice_problems, first_difference, load, run, usage_problems
from replay_corpus import route
from rig import KEY

APIS = ("gemini.generateContent", "gemini.countTokens")
TRANSLATED = ("openai.chat", "anthropic.messages")
# What a body without any of the recording's is.
PLAIN = {"contents": [{"role": "user", "parts": [{"text": "Say it again."}]}]}
# `google.rpc.Code` of the statuses that stand here.
WORDS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


def main():
    return run("google", lambda entry: entry["api"] in APIS, TRANSLATED, one, translated)


def one(folder, replay, gateway, entry, name):
    """The differences of one exchange."""
    exchange = load(folder, entry)
    request, text = exchange["request"].get("body"), exchange["response"].get("body_text", "")
    # Where the recording has only the answer, any request will do.
    request = dict(request) if isinstance(request, dict) and (request.get("contents") or "generateContentRequest" in request) else dict(PLAIN)
    request["extra"] = {"retry": 0}
    if entry["status"] != 200:
        # The key of the request, not one of the pool, which a recorded 401 would take out of service.
        request["extra"]["byok"] = "byok-of-this-request"
    if "generateContentRequest" in request:
        # What is for the gateway stands in the request itself.
        request["generateContentRequest"] = {**request["generateContentRequest"], "extra": request.pop("extra")}
    suffix = {"whole": "", "chop": "-chop1" if len(text) <= 16_000 else "-chop7", "crlf": "-crlf1"}[name]
    method = "countTokens" if entry["api"] == "gemini.countTokens" else "streamGenerateContent" if entry["stream"] else "generateContent"
    events = entry["stream"] and not text.lstrip().startswith("[")
    path = f"/v1beta/models/google/replay-{entry['id']}{suffix}:{method}{'?alt=sse' if events else ''}"
    try:
        status, said, cut, estimated = send(gateway, path, request)
        problems = answer_problems(entry, text, status, said.decode("utf-8", "replace"), cut, events)
        if estimated:
            problems.append("the tokens were estimated")
        if name == "whole" and method != "countTokens":
            problems += request_problems(replay.received(entry["id"]), request)
        return problems
    except (ValueError, KeyError, TypeError, OSError) as problem:
        return [f"harness: {problem!r}"]


def send(gateway, path, request):
    """Sends a client's request; returns status, body, whether HTTP broke off, and how the tokens were counted."""
    status, head, said, cut = gateway.ask(path, request, {"x-goog-api-key": KEY, "content-type": "application/json"})
    return status, said, cut, head["x-orbyt-token-count"]


def answer_problems(entry, recorded, status, text, cut, events):
    if entry["status"] != 200:
        return refusal_problems(entry["status"], recorded, status, text)
    expected = recording.read({"api": "gemini.generateContent", "response": {"body_text": recorded}})
    blocked = expected.error == "" and expected.unreadable is None
    if entry["api"] == "gemini.generateContent" and not expected.complete and not blocked:
        # Nothing says that it is whole, so it must not come out as if it were.
        told = status != 200 or '"error"' in text
        return [] if told else [f"an unfinished answer came out as {status}: {text[-200:]!r}"]
    if status != 200 or cut:
        return [f"{status}, cut={cut}: {text[:300]!r}"]
    plain = lambda text: text.strip().replace("\r\n", "\n")
    if not entry["stream"]:
        return [] if text.strip() == recorded.strip() else [f"not the same: {first_difference(text, recorded)}"]
    if events:
        return [] if plain(text) == plain(recorded) else [f"the stream is not the same: {first_difference(plain(text), plain(recorded))}"]
    return [] if json.loads(text) == json.loads(recorded) else [f"the array is not the same: {first_difference(text, recorded)}"]


def refusal_problems(wanted, recorded, status, text):
    theirs, ours = json.loads(recorded), json.loads(text)
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    error, told = theirs.get("error", {}), ours.get("error", {})
    problems = []
    if status != wanted or told.get("code") != wanted or told.get("status") != error.get("status", WORDS.get(wanted)):
        problems.append(f"{status} {told.get('status')} for {wanted} {error.get('status')}")
    message = " ".join(str(error.get("message", "")).split())[:40]
    if message not in " ".join(str(told.get("message")).split()):
        problems.append(f"{message!r} is not in {told.get('message')!r}")
    return problems


def request_problems(received, request):
    if not received:
        return ["nothing arrived at the provider"]
    got = received[-1]
    text = json.dumps({name: value for name, value in request.items() if name not in ("extra", "model", "stream", "alt")})
    sent = got.get("body_text") or json.dumps(got["body"])
    return [] if sent == text else [f"the request is not the same: {first_difference(sent, text)}"]


def translated(folder, gateway, entry, name):
    """The differences in meaning of an answer in another format, asked for by one of Google's clients."""
    exchange = load(folder, entry)
    small = len(exchange["response"].get("body_text", "")) <= 4_000
    suffix = {"whole": "", "chop": "-chop1" if small else "-chop7"}[name]
    stream = bool(entry["stream"])
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    # On Vertex the maker before the name says in whose format a model is asked.
    maker = "anthropic/" if route(entry) == "vertex" and entry["api"] == "anthropic.messages" else ""
    request = {**PLAIN, "generationConfig": {"thinkingConfig": {"includeThoughts": True}}, "extra": {"retry": 0}}
    try:
        status, said, cut, _ = send(gateway, f"/v1beta/models/{route(entry)}/{maker}replay-{entry['id']}{suffix}:{method}", request)
        expected = recording.read(exchange)
        text = said.decode("utf-8", "replace")
        if stream and status == 200:
            # Clients forget a turn in which a piece has no part.
            pieces = [json.loads(data) for data in sse_data(text)]
            if any(not part["content"]["parts"] for piece in pieces for part in piece.get("candidates", [])):
                return ["a piece without a part"]
        ours = recording.read({"api": "gemini.generateContent", "response": {"body_text": text}})
        complete = status == 200 and not cut and ours.complete
        if expected.spliced:
            return []
        if not expected.complete or not complete:
            # Snowflake's whole answers have an empty finish reason, always.
            fine = not complete or entry["provider"] == "snowflake"
            return [] if not expected.complete and fine else [f"complete={complete}: {status} {text[-300:]!r}"]
        return meaning_problems(expected, ours)
    except (ValueError, KeyError, TypeError, OSError) as problem:
        return [f"harness: {problem!r}"]


def meaning_problems(expected, ours):
    """A refusal is text in this format, whatever reason it has."""
    problems = []
    if sorted(expected.choices) != sorted(ours.choices):
        problems.append(f"choices: {sorted(ours.choices)} for {sorted(expected.choices)}")
    for index, wanted in expected.choices.items():
        had = ours.choice(index)
        problems += choice_problems(wanted, had)
        same = had.finish & wanted.finish or ("tool_calls" in wanted.finish | had.finish and "stop" in wanted.finish | had.finish)
        if not same and not wanted.refusal and "function_call" not in wanted.finish:
            problems.append(f"finish: {had.finish} for {wanted.finish}")
    return problems + usage_problems(expected.usage, ours.usage)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RuntimeError) as problem:
        sys.exit(f"replay_gemini: {problem}")
