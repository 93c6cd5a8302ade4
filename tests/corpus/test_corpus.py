"""The replay's own readers and comparison, tried on answers that are right and on the same answers spoiled in one place."""

import copy
import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import answer  # noqa: E402  (found by the path above)
import compare  # noqa: E402
import recording  # noqa: E402

COHERE = {
    "id": "c1",
    "message": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Let me "}, {"type": "text", "text": "One, two."}],
        "tool_plan": "see.",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "t2", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        ],
    },
    "finish_reason": "TOOL_CALL",
    "usage": {"billed_units": {"input_tokens": 2}, "tokens": {"input_tokens": 7, "output_tokens": 5}, "cached_tokens": 3},
}
OLLAMA = [
    {"message": {"role": "assistant", "content": "", "thinking": "Let me see."}, "done": False},
    {"message": {"role": "assistant", "content": "One, two."}, "done": False},
    {"message": {"tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}] * 2}, "done": False},
    {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 5},
]
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3}}


def chunk(delta, finish=None, **more):
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


def call(index, **function):
    begins = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": index, **begins, "function": function}]}


CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Let me see."}),
    chunk({"content": "One, "}),
    chunk({"content": "two."}),
    chunk(call(0, name="add", arguments="")),
    chunk(call(0, arguments='{"a": 1}')),
    chunk(call(1, name="add", arguments='{"a": 1}')),
    chunk({}, "tool_calls"),
    {**chunk({}), "choices": [], "usage": USAGE},
]
ANTHROPIC = {
    "type": "message",
    "content": [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "text", "text": "One, "},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "text", "text": "two."},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "t2", "name": "add", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 5},
}
GEMINI = {
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "Let me see.", "thought": True},
                    {"text": "One, two."},
                    {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
                    {"functionCall": {"name": "add", "args": {"a": 1}}},
                ]
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12, "cachedContentTokenCount": 3},
}


def recorded(api, body):
    return recording.read({"api": api, "response": {"body_text": body}})


def sse(chunks, done=True):
    return "".join(f"data: {json.dumps(item)}\n\n" for item in chunks) + ("data: [DONE]\n\n" if done else "")


def what_differs(expected, chunks, done=True):
    reply = answer.read(200, "text/event-stream", sse(chunks, done).encode(), False, True, True)
    return {what for what, _ in compare.differences(expected, reply, True, True)}


def signed(detail):
    """The chunks with the signature that translated reasoning carries."""
    return [*CHUNKS[:2], chunk({"reasoning_details": [{"type": "reasoning.text", "index": 0, detail: "c2ln"}]}), *CHUNKS[2:]]


def test_each_format_means_the_same():
    assert what_differs(recorded("cohere.v2.chat", json.dumps(COHERE)), CHUNKS) == set()
    lines = "".join(json.dumps(line) + "\n" for line in OLLAMA)
    uncached = copy.deepcopy(CHUNKS)
    uncached[8]["usage"].pop("prompt_tokens_details")
    assert what_differs(recorded("ollama.chat", lines), uncached) == set()
    assert what_differs(recorded("openai.chat", sse(CHUNKS)), CHUNKS) == set()
    assert what_differs(recorded("anthropic.messages", json.dumps(ANTHROPIC)), signed("signature")) == set()
    assert what_differs(recorded("gemini.generateContent", json.dumps(GEMINI)), signed("data")) == set()


@pytest.mark.parametrize(
    ("place", "spoiled", "differs"),
    [
        (2, chunk({"content": "One,"}), {"text"}),
        (1, chunk({"content": "Let me see."}), {"text", "reasoning"}),
        (6, chunk({}), {"calls"}),
        (6, chunk(call(0, arguments='{"a": 1}')), {"calls"}),
        (6, chunk(call(2, name="add", arguments='{"a": 1}')), {"calls", "format"}),
        (4, chunk({"tool_calls": [{"index": 0, "function": {"name": "add"}}]}), {"format"}),
        (7, chunk({}, "stop"), {"finish"}),
        (7, chunk({}), {"finish"}),
        (3, chunk({"content": "two."}, "stop"), {"format"}),
        (8, {**chunk({}), "choices": []}, {"usage"}),
        (8, {**CHUNKS[8], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}}, {"usage"}),
        (2, {**CHUNKS[2], "id": "c2"}, {"format"}),
        (2, {"error": {"message": "overloaded"}, "choices": []}, {"error", "format"}),
    ],
)
def test_a_spoiled_stream_is_noticed(place, spoiled, differs):
    chunks = copy.deepcopy(CHUNKS)
    chunks[place] = spoiled
    assert what_differs(recorded("openai.chat", sse(CHUNKS)), chunks) == differs


def test_a_stream_without_its_end_is_noticed():
    assert what_differs(recorded("openai.chat", sse(CHUNKS)), CHUNKS, done=False) == {"error"}


def test_an_incomplete_recording_must_not_come_out_clean():
    cut = recorded("openai.chat", sse(CHUNKS[:4], done=False))
    assert not cut.complete
    assert "incomplete" in what_differs(cut, [*CHUNKS[:4], chunk({}, "stop")])
    broken_off = [*CHUNKS[:4], chunk({}, "error", error={"message": "the provider's answer broke off"})]
    assert what_differs(cut, broken_off, done=False) == set()


def test_usage_that_nobody_asked_for_is_noticed():
    reply = answer.read(200, "text/event-stream", sse(CHUNKS).encode(), False, True, True)
    expected = recorded("openai.chat", sse(CHUNKS))
    assert {what for what, _ in compare.differences(expected, reply, True, False)} == {"usage"}
