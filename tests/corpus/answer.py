"""Reads the gateway's answer as a strict OpenAI client would, and notes every way in which it is not one."""

import json
from dataclasses import dataclass, field

from meaning import Answer, openai_usage, sse_data


@dataclass
class Reply(Answer):
    """What came back."""

    status: int = 0
    # The HTTP error's message, where the status says that there is one.
    message: str = ""
    # What breaks OpenAI's format.
    violations: list = field(default_factory=list)
    # How many usage chunks a stream had.
    usage_chunks: int = 0


def read(status, content_type, body, cut, streamed, translated):
    """Reads a reply. `cut` says that HTTP itself broke off; `translated` that every byte of it is the gateway's own."""
    reply = Reply(status=status)
    if status != 200:
        error_body(reply, body)
    elif streamed:
        stream(reply, content_type, body.decode("utf-8", "replace"), cut, translated)
    else:
        whole(reply, body, cut, translated)
    return reply


def error_body(reply, body):
    try:
        error = json.loads(body)["error"]
        reply.message = error["message"]
        for name in ("type", "param", "code"):
            if name not in error:
                reply.violations.append(f"the error has no `{name}`")
        if "None" in (error.get("param"), error.get("code")):
            reply.violations.append("the error says \"None\" for null")
    except (ValueError, KeyError, TypeError) as problem:
        reply.violations.append(f"not an OpenAI error body ({problem!r}): {body[:120]!r}")
    reply.error = reply.message or "no message"


def whole(reply, body, cut, translated):
    if cut:
        reply.unreadable = "cut"
        return
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        reply.unreadable = f"not a JSON object: {body[:120]!r}"
        return
    if translated and answer.get("object") != "chat.completion":
        reply.violations.append("object is not chat.completion")
    for name in ("id", "created", "model") if translated else ():
        if not answer.get(name):
            reply.violations.append(f"no `{name}`")
    reply.usage = openai_usage(answer.get("usage"))
    for source in answer.get("choices") or []:
        message, choice = source.get("message") or {}, reply.choice(source.get("index"))
        saying(reply, choice, message)
        for call in message.get("tool_calls") or []:
            function = call.get("function") or call.get("custom") or {}
            if not call.get("id"):
                reply.violations.append("a tool call has no id")
            choice.calls.append([function.get("name"), function.get("arguments", function.get("input"))])
        finish(reply, choice, source)


def saying(reply, choice, message):
    """The parts of a message or delta that are texts."""
    for name, known in (("content", "text"), ("refusal", "refusal"), ("reasoning_content", "reasoning")):
        said = message.get(name)
        if isinstance(said, str):
            setattr(choice, known, getattr(choice, known) + said)
        elif said is not None:
            reply.violations.append(f"`{name}` is not a text")
    if isinstance(message.get("function_call"), dict):
        choice.function = choice.function or ["", ""]
        choice.function[0] += message["function_call"].get("name") or ""
        choice.function[1] += message["function_call"].get("arguments") or ""
    for detail in message.get("reasoning_details") or []:
        for name in ("signature", "data"):
            if detail.get(name):
                choice.proofs.append(detail[name])


def finish(reply, choice, source):
    reason = source.get("finish_reason")
    if not reason:
        return
    if choice.finish:
        reply.violations.append("a choice finished twice")
    choice.finish = {reason}


def stream(reply, content_type, text, cut, translated):
    if not content_type.startswith("text/event-stream"):
        reply.violations.append(f"content type {content_type!r}")
    events = sse_data(text)
    done = [at for at, data in enumerate(events) if data.strip() == "[DONE]"]
    identity, began = set(), set()
    for data in events:
        if data.strip() == "[DONE]":
            continue
        try:
            chunk = json.loads(data)
        except ValueError:
            reply.violations.append(f"a chunk is not JSON: {data[:80]!r}")
            continue
        identity.add((chunk.get("id"), chunk.get("created"), chunk.get("model")))
        one_chunk(reply, chunk, began)
    if translated and len(identity) > 1:
        reply.violations.append(f"{len(identity)} ids, created or models in one stream")
    if reply.error is not None and done:
        reply.violations.append("[DONE] after an error")
    elif reply.error is None and (cut or done != [len(events) - 1]):
        reply.unreadable = "cut" if cut else f"[DONE] at {done} of {len(events)} events"


def one_chunk(reply, chunk, began):
    if chunk.get("error"):
        reply.error = str(chunk["error"].get("message"))
        return
    if chunk.get("usage"):
        reply.usage = openai_usage(chunk["usage"])
        reply.usage_chunks += 1
    for source in chunk.get("choices") or []:
        delta = source.get("delta")
        choice = reply.choice(source.get("index"))
        if not isinstance(delta, dict):
            reply.violations.append("a choice has no delta")
            continue
        saying(reply, choice, delta)
        for call in delta.get("tool_calls") or []:
            one_call(reply, choice, (source.get("index"), call.get("index")), call, began)
        finish(reply, choice, source)


def one_call(reply, choice, place, call, began):
    """A client's SDK finds the call by its index, and keeps the first delta's id, type and name."""
    function = call.get("function") or call.get("custom") or {}
    index = place[1]
    if place not in began:
        began.add(place)
        if index != len(choice.calls):
            reply.violations.append(f"call {len(choice.calls)} begins with index {index}")
        if not call.get("id") or not call.get("type") or not function.get("name"):
            reply.violations.append("the first delta of a call lacks id, type or name")
        choice.calls.append([function.get("name"), ""])
    if isinstance(index, int) and index < len(choice.calls):
        choice.calls[index][1] += function.get("arguments") or function.get("input") or ""
