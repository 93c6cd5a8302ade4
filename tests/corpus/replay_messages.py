#!/usr/bin/env python3
"""Replays recorded traffic of Anthropic's messages through `POST /v1/messages`: the client's request and the provider's answer are those
of the recording, so both have to come out of the gateway byte by byte.

  replay_messages.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop] [--only WORD]

The answers of the other formats are asked for through the same route, and have to mean the same in Anthropic's words.

What is compared: the body and the `anthropic-` headers that the provider received with those that the client sent (but for the model's
name and `extra`), and the answer with the recorded one: equal bytes, or for an error the same type and message.
"""

import json
import sys

import recording
from passing import choice_problems, first_difference, load, run, usage_problems
from replay_corpus import route
from rig import KEY

APIS = ("anthropic.messages", "anthropic.count_tokens")
TRANSLATED = ("openai.chat", "gemini.generateContent")
STOP = "event: message_stop"


def main():
    is_own = lambda entry: entry["api"] in APIS and entry["provider"] == "anthropic"
    return run("anthropic", is_own, TRANSLATED, one, translated, crlf=False)


def one(folder, replay, gateway, entry, name):
    """The differences of one exchange."""
    exchange = load(folder, entry)
    recorded = exchange["request"].get("body")
    # Where the recording has only the answer, any request will do.
    if not isinstance(recorded, dict) or not recorded.get("messages"):
        recorded = {"max_tokens": 64, "messages": [{"role": "user", "content": "Say it again."}]}
    small = len(exchange["response"].get("body_text", "")) <= 16_000
    options = {"whole": "", "chop": "-chop1" if small else "-chop7"}[name]
    request = {**recorded, "model": f"anthropic/replay-{entry['id']}{options}", "extra": {"retry": 0}}
    if entry["api"] == "anthropic.messages":
        request["stream"] = bool(entry["stream"])
    if entry["status"] != 200:
        # The key of the request, not one of the pool, which a recorded 401 would take out of service.
        request["extra"]["byok"] = "sk-ant-byok-of-this-request"
    status, said, cut, received = send(gateway, request, exchange["request"]["headers"], entry["api"])
    try:
        problems = answer_problems(entry, exchange, status, said, cut)
        if name == "whole" and isinstance(received, str):
            problems.append(received)
        if name == "whole":
            problems += request_problems(replay.received(entry["id"]), request, exchange["request"]["headers"])
        return problems
    except (ValueError, KeyError, TypeError) as problem:
        return [f"harness: {problem!r}"]


def send(gateway, request, recorded, api):
    """Sends a client's request; returns status, body, whether HTTP broke off, and what is wrong with the head."""
    headers = {name: value for name, value in recorded.items() if name.lower().startswith("anthropic-")}
    headers = {name: value if isinstance(value, str) else ",".join(value) for name, value in headers.items()}
    headers |= {"x-api-key": KEY, "content-type": "application/json"}
    path = "/v1/messages" if api == "anthropic.messages" else "/v1/messages/count_tokens"
    status, head, said, cut = gateway.ask(path, request, headers)
    estimated = head["x-orbyt-token-count"]
    return status, said, cut, f"the tokens were {estimated}" if estimated else None


def translated(folder, gateway, entry, name):
    """The differences in meaning of an answer in another format, asked for by one of Anthropic's clients."""
    exchange = load(folder, entry)
    small = len(exchange["response"].get("body_text", "")) <= 4_000
    suffix = {"whole": "", "chop": "-chop1" if small else "-chop7"}[name]
    request = {
        "model": f"{route(entry)}/replay-{entry['id']}{suffix}",
        "max_tokens": 64,
        "stream": bool(entry["stream"]),
        "messages": [{"role": "user", "content": "Say it again."}],
        "extra": {"retry": 0},
    }
    status, said, cut, _ = send(gateway, request, {}, "anthropic.messages")
    try:
        expected = recording.read(exchange)
        text = said.decode("utf-8", "replace")
        complete = status == 200 and not cut and (STOP in text or not request["stream"]) and "event: error" not in text
        if expected.spliced:
            return []
        if not expected.complete or complete != expected.complete:
            # Snowflake's whole answers have an empty finish reason, always.
            fine = not complete or entry["provider"] == "snowflake"
            return [] if not expected.complete and fine else [f"complete={complete}: {status} {text[-200:]!r}"]
        ours = recording.read({"api": "anthropic.messages", "response": {"body_text": text}})
        return meaning_problems(expected, ours, entry["api"] == "gemini.generateContent")
    except (ValueError, KeyError, TypeError) as problem:
        return [f"harness: {problem!r}"]


def meaning_problems(expected, ours, signed):
    """Only the first choice has a place in this format; a refusal is text there, whatever reason it has. `signed`: the recording's
    signatures are known."""
    wanted, had = expected.choice(0), ours.choice(0)
    problems = choice_problems(wanted, had)
    if not had.finish & wanted.finish and not wanted.refusal and "function_call" not in wanted.finish:
        problems.append(f"finish: {had.finish} for {wanted.finish}")
    problems += usage_problems(expected.usage, ours.usage)
    if not signed:
        return problems
    proofs = [proof for proof in had.proofs if proof != "orbyt:v1::0:"]
    if len(wanted.proofs) != len(proofs) or any(not ours.endswith(theirs or "") for ours, theirs in zip(proofs, wanted.proofs)):
        problems.append(f"signatures: {proofs} for {wanted.proofs}"[:300])
    return problems


def answer_problems(entry, exchange, status, said, cut):
    recorded = exchange["response"].get("body_text", "")
    text = said.decode("utf-8", "replace")
    if entry["status"] != 200:
        return refusal_problems(entry["status"], recorded, status, text)
    if not entry["stream"]:
        same = status == 200 and not cut and text == recorded.strip()
        return [] if same else [f"{status}, cut={cut}: {text[:200]!r} for {recorded[:200]!r}"]
    if "event: error" in recorded:
        told = (status >= 400 or "event: error" in text) and STOP not in text
        return [] if told else [f"an error in the stream came out as {status}: {text[-200:]!r}"]
    if STOP not in recorded:
        complete = '"stop_reason":"' in recorded.replace(" ", "")
        return [] if complete == (STOP in text) else [f"an unfinished stream came out as {status}: {text[-200:]!r}"]
    same = status == 200 and not cut and text.strip() == recorded.strip()
    return [] if same else [f"{status}, cut={cut}: the stream is not the same: {first_difference(text, recorded)}"]


def refusal_problems(wanted, recorded, status, text):
    theirs, ours = json.loads(recorded), json.loads(text)
    error, told = theirs.get("error", {}), ours.get("error", {})
    problems = []
    if status != wanted:
        problems.append(f"{status} for {wanted}")
    if ours.get("type") != "error" or told.get("type") != error.get("type"):
        problems.append(f"{told.get('type')} for {error.get('type')}")
    message = " ".join(str(error.get("message", "")).split())[:40]
    if message not in " ".join(str(told.get("message")).split()):
        problems.append(f"{message!r} is not in {told.get('message')!r}")
    return problems


def request_problems(received, request, recorded):
    if not received:
        return ["nothing arrived at the provider"]
    got = received[-1]
    expected = {name: value for name, value in request.items() if name != "extra"}
    expected["model"] = expected["model"].removeprefix("anthropic/")
    text = json.dumps(expected)
    sent = got.get("body_text") or json.dumps(got["body"])
    problems = [] if sent == text else [f"the request is not the same: {first_difference(sent, text)}"]
    headers = {name.lower(): value for name, value in got["headers"].items()}
    for name, value in recorded.items():
        if name.lower() in ("anthropic-version", "anthropic-beta") and headers.get(name.lower()) != value:
            problems.append(f"{name}: {headers.get(name.lower())!r} for {value!r}")
    return problems


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RuntimeError) as problem:
        sys.exit(f"replay_messages: {problem}")
