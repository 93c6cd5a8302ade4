"""Reads a recorded exchange by the provider's own documentation, as tolerantly as real traffic demands. It shares no code with the
gateway and knows nothing of how it translates."""

import base64
import json
import re
import struct

from meaning import Answer, number, openai_usage, sse_data, told

# OpenAI's own words, and those that compatible providers say instead.
OPENAI_FINISH = {"eos": {"stop"}, "end_turn": {"stop"}, "max_tokens": {"length"}}
ANTHROPIC_FINISH = {
    "end_turn": {"stop"},
    "stop_sequence": {"stop"},
    "pause_turn": {"stop"},
    "max_tokens": {"length"},
    "model_context_window_exceeded": {"length"},
    "tool_use": {"tool_calls"},
    "refusal": {"content_filter"},
}
BEDROCK_FINISH = {
    "end_turn": {"stop"},
    "stop_sequence": {"stop"},
    "max_tokens": {"length"},
    "model_context_window_exceeded": {"length"},
    "tool_use": {"tool_calls"},
    "guardrail_intervened": {"content_filter"},
    "content_filtered": {"content_filter"},
}
# By name and, as some Vertex clients recorded it, by number in the protobuf enumeration.
GEMINI_FINISH = {"STOP": {"stop"}, "1": {"stop"}, "MAX_TOKENS": {"length"}, "2": {"length"}}
# The model's own failure to call a tool: neither done nor filtered, and OpenAI has no word for it.
GEMINI_UNNAMED = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "OTHER", "FINISH_REASON_UNSPECIFIED"}


def read(exchange):
    """The meaning of an exchange's response."""
    reader = READERS[exchange["api"]]()
    found, broken = objects(exchange)
    for item in found:
        reader.take(item)
    answer = reader.end()
    if not found:
        answer.unreadable = "no JSON"
    elif broken and not answer.complete:
        answer.unreadable = broken
    return answer


def objects(exchange):
    """The JSON objects of a response, and what could not be read."""
    response = exchange["response"]
    if "body_b64" in response:
        return eventstream(base64.b64decode(response["body_b64"]))
    return parse(response.get("body_text", ""))


def eventstream(body):
    """The messages of Amazon's event-stream framing, each as {its event's or exception's name: its payload}."""
    found = []
    while len(body) >= 16:
        total, headers, _ = struct.unpack(">III", body[:12])
        if total < 16 or total > len(body):
            return found, "a message that is not whole"
        name, rest = "", body[12 : 12 + headers]
        while rest:
            key_length = rest[0]
            key, kind = rest[1 : 1 + key_length].decode(), rest[1 + key_length]
            if kind != 7:
                return found, "a header that is no text"
            (length,) = struct.unpack(">H", rest[2 + key_length : 4 + key_length])
            if key in (":event-type", ":exception-type"):
                name = rest[4 + key_length : 4 + key_length + length].decode()
            rest = rest[4 + key_length + length :]
        found.append({name: json.loads(body[12 + headers : total - 4])})
        body = body[total:]
    return found, "bytes after the last message" if body else None


def parse(text):
    """The JSON objects of a body, whole or streamed, and what could not be read."""
    try:
        whole = json.loads(text)
        return (whole if isinstance(whole, list) else [whole]), None
    except ValueError:
        pass
    objects, broken = [], None
    # A stream of Ollama's is one object a line.
    events = text.splitlines() if text.startswith("{") else sse_data(text)
    for data in events:
        if data.strip() == "[DONE]":
            continue
        try:
            objects.append(json.loads(data))
        except ValueError:
            # Some put no blank line between events.
            for line in data.split("\n"):
                try:
                    objects.append(json.loads(line))
                except ValueError:
                    broken = line[:80]
    return objects, broken


class OpenAi:
    """Chat completions, whole or in chunks, of whoever calls itself compatible."""

    def __init__(self):
        self.answer = Answer()
        self.slots = {}
        self.id = None

    def take(self, item):
        if not isinstance(item, dict):
            self.answer.spliced |= isinstance(item, list)
            return
        self.answer.spliced |= self.answer.complete and item.get("id") != self.id and bool(item.get("choices"))
        self.id = self.id or item.get("id")
        if item.get("error"):
            error = item["error"]
            self.answer.error = str(error.get("message") if isinstance(error, dict) else error)
        if isinstance(item.get("usage"), dict):
            self.answer.usage = openai_usage(item["usage"])
        for choice in item.get("choices") or []:
            self.choice(choice, item.get("object") == "chat.completion")

    def choice(self, source, whole):
        # Perplexity says everything twice: the message so far stands beside each delta, an empty delta beside the whole message.
        said = source.get("message") if whole or "delta" not in source else source["delta"]
        finish = source.get("finish_reason")
        if not isinstance(said, dict) and not finish:
            return
        choice = self.answer.choice(source.get("index"))
        self.message(choice, source.get("index") or 0, said or {})
        if finish:
            choice.finish = set(OPENAI_FINISH.get(finish, {finish}))

    def message(self, choice, index, said):
        content = said.get("content")
        if isinstance(content, str):
            choice.text += content
        elif isinstance(content, list):
            for part in content:
                self.part(choice, part)
        reasoning = said.get("reasoning_content")
        if not isinstance(reasoning, str) or not reasoning:
            reasoning = said.get("reasoning")
        if isinstance(reasoning, str):
            choice.reasoning += reasoning
        if isinstance(said.get("refusal"), str):
            choice.refusal += said["refusal"]
        if isinstance(said.get("function_call"), dict):
            choice.function = choice.function or ["", ""]
            choice.function[0] += said["function_call"].get("name") or ""
            choice.function[1] += said["function_call"].get("arguments") or ""
        for call in said.get("tool_calls") or []:
            self.call(choice, index, call)

    @staticmethod
    def part(choice, part):
        """A piece of a list content, as Mistral has it."""
        if part.get("type") == "text":
            choice.text += part.get("text") or ""
        elif part.get("type") == "thinking":
            for piece in part.get("thinking") or []:
                choice.reasoning += piece.get("text") or ""

    def call(self, choice, index, call):
        """A call or a piece of one. Where there is no index, what has a name begins a new call."""
        function = call.get("function") or call.get("custom") or {}
        place, name = call.get("index"), function.get("name")
        slots = self.slots.setdefault(index, {})
        known = slots.get(place) if place is not None else None
        if place is None and not name and choice.calls:
            known = len(choice.calls) - 1
        if known is None:
            choice.calls.append(["", ""])
            known = slots[place] = len(choice.calls) - 1
        target = choice.calls[known]
        target[0] = target[0] or name or ""
        said = function.get("arguments") if function.get("arguments") is not None else function.get("input")
        target[1] += said if isinstance(said, str) else json.dumps(said) if said is not None else ""

    def end(self):
        for choice in self.answer.choices.values():
            # OpenAI itself says `stop` when the call was forced; where bytes pass through, so does that word.
            if choice.calls and choice.finish == {"stop"}:
                choice.finish = {"stop", "tool_calls"}
        return self.answer


class Anthropic:
    """Messages, whole or as events."""

    def __init__(self):
        self.answer = Answer()
        self.blocks = {}
        self.counts = {}

    def take(self, item):
        kind = item.get("type")
        if kind == "message":
            self.usage(item.get("usage"))
            for block in item.get("content") or []:
                self.block(block)
            self.stop(item)
        elif kind == "message_start":
            self.answer.choice(0)
            self.usage(item["message"].get("usage"))
        elif kind == "content_block_start":
            self.answer.spliced |= self.answer.complete
            self.blocks[item["index"]] = self.block(item["content_block"])
        elif kind == "content_block_delta":
            self.delta(self.blocks.get(item["index"]), item["delta"])
        elif kind == "message_delta":
            self.usage(item.get("usage"))
            self.stop(item.get("delta") or {})
        elif kind == "error":
            self.answer.error = str((item.get("error") or {}).get("message"))

    def block(self, block):
        """A content block; returns the call it is, if it is one of the client's."""
        choice, kind = self.answer.choice(0), block.get("type")
        if kind == "text":
            choice.text += block.get("text") or ""
        elif kind == "thinking":
            choice.reasoning += block.get("thinking") or ""
            if block.get("signature"):
                choice.proofs.append(block["signature"])
        elif kind == "redacted_thinking":
            choice.proofs.append(block.get("data"))
        elif kind == "tool_use":
            given = block.get("input")
            choice.calls.append([block.get("name"), json.dumps(given) if given else ""])
            return choice.calls[-1]
        return None

    def delta(self, call, delta):
        choice, kind = self.answer.choice(0), delta.get("type")
        if kind == "text_delta":
            choice.text += delta.get("text") or ""
        elif kind == "thinking_delta":
            choice.reasoning += delta.get("thinking") or ""
        elif kind == "signature_delta" and delta.get("signature"):
            choice.proofs.append(delta["signature"])
        elif kind == "input_json_delta" and call is not None:
            call[1] += delta.get("partial_json") or ""

    def usage(self, usage):
        """Counts of a later event stand for those of an earlier one."""
        self.counts.update({name: value for name, value in (usage or {}).items() if value is not None})

    def stop(self, source):
        reason = source.get("stop_reason")
        if reason:
            choice = self.answer.choice(0)
            choice.finish = set(ANTHROPIC_FINISH.get(reason, {"stop"}))
            choice.refusal += (source.get("stop_details") or {}).get("explanation") or ""

    def end(self):
        if self.counts:
            count = lambda name: number(self.counts.get(name)) or 0
            prompt = count("input_tokens") + count("cache_read_input_tokens") + count("cache_creation_input_tokens")
            details = self.counts.get("output_tokens_details") or {}
            self.answer.usage = told(
                prompt=prompt,
                completion=count("output_tokens"),
                total=prompt + count("output_tokens"),
                cached=number(self.counts.get("cache_read_input_tokens")),
                reasoning=number(details.get("thinking_tokens")),
            )
        for choice in self.answer.choices.values():
            if choice.calls and choice.finish == {"stop"}:
                choice.finish = {"tool_calls"}
        return self.answer


def put(target, piece):
    """Puts a value of `partialArgs` where its path (`$.operations[0].action`) says; texts come in pieces."""
    steps = [name or int(index) for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", piece["jsonPath"])]
    for step, after in zip(steps, steps[1:]):
        empty = [] if isinstance(after, int) else {}
        if isinstance(step, int):
            target.extend([empty] * (step + 1 - len(target)))
            target = target[step]
        else:
            target = target.setdefault(step, empty)
    last = steps[-1]
    if isinstance(last, int):
        target.extend([None] * (last + 1 - len(target)))
    if "stringValue" in piece:
        before = target[last] if isinstance(last, int) else target.get(last)
        target[last] = (before or "") + piece["stringValue"]
    else:
        target[last] = piece.get("numberValue", piece.get("boolValue"))


class Gemini:
    """`generateContent`, whole or in chunks."""

    def __init__(self):
        self.answer = Answer()
        self.arguments = {}

    def take(self, item):
        if item.get("error"):
            self.answer.error = str(item["error"].get("message"))
        if item.get("usageMetadata"):
            self.usage(item["usageMetadata"])
        blocked = (item.get("promptFeedback") or {}).get("blockReason")
        if blocked and not item.get("candidates"):
            self.answer.error = ""
        for candidate in item.get("candidates") or []:
            self.candidate(candidate)

    def candidate(self, candidate):
        choice = self.answer.choice(candidate.get("index"))
        for part in (candidate.get("content") or {}).get("parts") or []:
            if part.get("thoughtSignature"):
                choice.proofs.append(part["thoughtSignature"])
            if "functionCall" in part:
                self.call(choice, part["functionCall"])
            elif isinstance(part.get("text"), str):
                if part.get("thought"):
                    choice.reasoning += part["text"]
                else:
                    choice.text += part["text"]
        reason = candidate.get("finishReason")
        if reason:
            unnamed = {"stop", "content_filter", "tool_calls"} if reason in GEMINI_UNNAMED else {"content_filter"}
            choice.finish = set(GEMINI_FINISH.get(str(reason), unnamed))

    def call(self, choice, call):
        """A call, or a piece of one: Gemini 3 may stream arguments as values at JSON paths, and names the call only once."""
        if call.get("name"):
            self.arguments = call.get("args") or {}
            choice.calls.append([call["name"], ""])
        for piece in call.get("partialArgs") or []:
            put(self.arguments, piece)
        if choice.calls:
            choice.calls[-1][1] = json.dumps(self.arguments)

    def usage(self, usage):
        """Cumulative: the last one counts."""
        count = lambda name: number(usage.get(name)) or 0
        prompt = count("promptTokenCount") + count("toolUsePromptTokenCount")
        completion = count("candidatesTokenCount") + count("responseTokenCount") + count("thoughtsTokenCount")
        self.answer.usage = told(
            prompt=prompt,
            completion=completion,
            total=number(usage.get("totalTokenCount")) or prompt + completion,
            cached=number(usage.get("cachedContentTokenCount")),
            reasoning=number(usage.get("thoughtsTokenCount")),
        )

    def end(self):
        for choice in self.answer.choices.values():
            if choice.calls and choice.finish == {"stop"}:
                choice.finish = {"tool_calls"}
        return self.answer


# Its own words; those that are not here mean that it failed.
COHERE_FINISH = {"COMPLETE": {"stop"}, "STOP_SEQUENCE": {"stop"}, "MAX_TOKENS": {"length"}, "TOOL_CALL": {"tool_calls"}}


class Cohere:
    """The second version of Cohere's chat, whole or as events."""

    def __init__(self):
        self.answer = Answer()
        self.calls = {}

    def take(self, item):
        kind, delta = item.get("type"), item.get("delta") or {}
        if kind is None and isinstance(item.get("message"), str):
            self.answer.error = item["message"]
        elif kind is None:
            self.whole(item)
        elif kind == "message-start":
            self.answer.spliced |= self.answer.complete
            self.answer.choice(0)
        elif kind == "message-end":
            self.end_of(delta)
        else:
            self.addition(kind, item.get("index"), delta.get("message") or {})

    def whole(self, item):
        choice, message = self.answer.choice(0), item.get("message") or {}
        for content in message.get("content") or []:
            choice.text += content.get("text") or ""
            choice.reasoning += content.get("thinking") or ""
        # The plan is the model's reflection before it calls: nothing that it says to the user.
        choice.reasoning += message.get("tool_plan") or ""
        for call in message.get("tool_calls") or []:
            choice.calls.append([call["function"]["name"], call["function"].get("arguments") or ""])
        self.end_of(item)

    def addition(self, kind, index, message):
        choice = self.answer.choice(0)
        if kind in ("content-start", "content-delta"):
            choice.text += message["content"].get("text") or ""
            choice.reasoning += message["content"].get("thinking") or ""
        elif kind == "tool-plan-delta":
            choice.reasoning += message.get("tool_plan") or ""
        elif kind == "tool-call-start":
            function = message["tool_calls"]["function"]
            choice.calls.append([function["name"], function.get("arguments") or ""])
            self.calls[index] = choice.calls[-1]
        elif kind == "tool-call-delta":
            self.calls[index][1] += message["tool_calls"]["function"].get("arguments") or ""

    def end_of(self, item):
        reason, usage = item.get("finish_reason"), item.get("usage") or {}
        if reason and reason not in COHERE_FINISH:
            self.answer.error = item.get("error") or reason
        elif reason:
            self.answer.choice(0).finish = set(COHERE_FINISH[reason])
        # What was processed is the usage; what is billed beside it is a matter of the price.
        counts = usage.get("tokens") or usage.get("billed_units")
        if counts:
            prompt, completion = number(counts.get("input_tokens")) or 0, number(counts.get("output_tokens")) or 0
            self.answer.usage = told(
                prompt=prompt,
                completion=completion,
                total=prompt + completion,
                cached=number(usage.get("cached_tokens")),
                reasoning=number(counts.get("reasoning_tokens")),
            )

    def end(self):
        return self.answer


class Ollama:
    """Ollama's own chat: one object, or one a line."""

    def __init__(self):
        self.answer = Answer()

    def take(self, item):
        if item.get("error"):
            self.answer.error = str(item["error"])
            return
        self.answer.spliced |= self.answer.complete
        choice, message = self.answer.choice(0), item.get("message") or {}
        choice.text += message.get("content") or ""
        choice.reasoning += message.get("thinking") or ""
        for call in message.get("tool_calls") or []:
            choice.calls.append([call["function"]["name"], json.dumps(call["function"].get("arguments") or {})])
        if item.get("done"):
            choice.finish = {"length"} if item.get("done_reason") == "length" else {"stop"}
            prompt, completion = number(item.get("prompt_eval_count")), number(item.get("eval_count"))
            if prompt is not None or completion is not None:
                total = (prompt or 0) + (completion or 0)
                self.answer.usage = told(prompt=prompt or 0, completion=completion or 0, total=total)

    def end(self):
        for choice in self.answer.choices.values():
            if choice.calls and choice.finish == {"stop"}:
                choice.finish = {"tool_calls"}
        return self.answer


class Bedrock:
    """Converse, whole or as events."""

    def __init__(self):
        self.answer = Answer()
        self.calls = {}

    def take(self, item):
        if isinstance(item.get("output"), dict):
            self.whole(item)
            return
        for name, event in item.items():
            if name == "messageStart":
                self.answer.spliced |= self.answer.complete
                self.answer.choice(0)
            elif name == "contentBlockStart":
                self.calls[event["contentBlockIndex"]] = self.call((event.get("start") or {}).get("toolUse"))
            elif name == "contentBlockDelta":
                self.delta(self.calls.get(event["contentBlockIndex"]), event["delta"])
            elif name == "messageStop":
                self.stop(event)
            elif name == "metadata":
                self.usage(event.get("usage"))
            elif name.endswith("xception"):
                self.answer.error = str(event.get("message"))

    def whole(self, item):
        choice = self.answer.choice(0)
        for block in item["output"]["message"].get("content") or []:
            choice.text += block.get("text") or ""
            for piece in (block.get("citationsContent") or {}).get("content") or []:
                choice.text += piece.get("text") or ""
            self.reasoning(choice, (block.get("reasoningContent") or {}).get("reasoningText") or block.get("reasoningContent") or {})
            used = block.get("toolUse")
            call = self.call(used)
            if call is not None and used.get("input"):
                call[1] = json.dumps(used["input"])
        self.stop(item)
        self.usage(item.get("usage"))

    @staticmethod
    def reasoning(choice, said):
        choice.reasoning += said.get("text") or ""
        choice.proofs += [said[name] for name in ("signature", "redactedContent") if said.get(name)]

    def call(self, used):
        """A call of the client's tools; those of Amazon's own have a type."""
        if not used or used.get("type") == "server_tool_use":
            return None
        self.answer.choice(0).calls.append([used.get("name"), ""])
        return self.answer.choice(0).calls[-1]

    def delta(self, call, delta):
        choice = self.answer.choice(0)
        choice.text += delta.get("text") or ""
        self.reasoning(choice, delta.get("reasoningContent") or {})
        if call is not None:
            call[1] += (delta.get("toolUse") or {}).get("input") or ""

    def stop(self, source):
        if source.get("stopReason"):
            self.answer.choice(0).finish = set(BEDROCK_FINISH.get(source["stopReason"], {"stop"}))

    def usage(self, usage):
        """Input, cache reads and cache writes are three disjoint numbers."""
        if not usage:
            return
        count = lambda name: number(usage.get(name)) or 0
        prompt = count("inputTokens") + count("cacheReadInputTokens") + count("cacheWriteInputTokens")
        self.answer.usage = told(
            prompt=prompt,
            completion=count("outputTokens"),
            total=number(usage.get("totalTokens")) or prompt + count("outputTokens"),
            cached=number(usage.get("cacheReadInputTokens")),
        )

    def end(self):
        for choice in self.answer.choices.values():
            if choice.calls and choice.finish == {"stop"}:
                choice.finish = {"tool_calls"}
            elif not choice.calls and choice.finish == {"tool_calls"}:
                choice.finish = {"stop", "tool_calls"}
        return self.answer


READERS = {
    "openai.chat": OpenAi,
    "anthropic.messages": Anthropic,
    "gemini.generateContent": Gemini,
    "bedrock.converse": Bedrock,
    "bedrock.converse_stream": Bedrock,
    "cohere.v2.chat": Cohere,
    "ollama.chat": Ollama,
}
