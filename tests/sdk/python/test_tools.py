"""Tools and structured output through the official SDK, against each upstream format."""

import json

import pydantic
from conftest import can

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather at a place.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "description": "The time at a place.",
            "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
        },
    },
]
BOTH = [{"role": "user", "content": "Call get_weather and get_time."}]


class Person(pydantic.BaseModel):
    """What the structured answers are."""

    name: str
    age: int
    tags: list[str]


def test_tool_calls_in_a_stream(client, model):
    calls = {}
    finish = None
    for chunk in client.chat.completions.create(model=model, messages=BOTH, tools=TOOLS, stream=True):
        for piece in chunk.choices[0].delta.tool_calls or []:
            if piece.index not in calls:
                assert piece.id and piece.type == "function" and piece.function.name
                calls[piece.index] = {"name": piece.function.name, "arguments": ""}
            calls[piece.index]["arguments"] += piece.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert finish == "tool_calls"
    assert [calls[index]["name"] for index in sorted(calls)] == ["get_weather", "get_time"]
    assert set(json.loads(calls[0]["arguments"])) == {"city", "unit"}


def test_a_tool_that_must_be_called(client, model):
    choice = {"type": "function", "function": {"name": "get_time"}}
    question = [{"role": "user", "content": "Anything."}]
    answer = client.chat.completions.create(model=model, messages=question, tools=TOOLS, tool_choice=choice)
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["get_time"]


def test_tools_that_must_not_be_called(client, model):
    answer = client.chat.completions.create(model=model, messages=BOTH, tools=TOOLS, tool_choice="none")
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content == BOTH[0]["content"]


def test_one_call_at_a_time(client, model):
    answer = client.chat.completions.create(model=model, messages=BOTH, tools=TOOLS, parallel_tool_calls=False)
    # Some cannot be told; the answer says so in a header, and the calls come as they are.
    wanted = 1 if can(model, "one call at a time") else 2
    assert len(answer.choices[0].message.tool_calls) == wanted


def test_an_answer_parsed_by_the_sdk(client, model):
    question = [{"role": "user", "content": "Who?"}]
    answer = client.chat.completions.parse(model=model, messages=question, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)
