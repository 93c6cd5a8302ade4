"""Tools, structured output and pictures through the official SDK, against each upstream format."""

import base64
import json

import pydantic

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
# A picture of one pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Person(pydantic.BaseModel):
    """What the structured answers are."""

    name: str
    age: int
    tags: list[str]


def test_tool_calls_and_their_results(client, model):
    first = client.chat.completions.create(model=model, messages=BOTH, tools=TOOLS)
    assert first.choices[0].finish_reason == "tool_calls"
    calls = first.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert json.loads(calls[0].function.arguments)["unit"] == "C"
    assert len({call.id for call in calls}) == 2
    turns = [*BOTH, first.choices[0].message.model_dump(exclude_none=True)]
    turns += [{"role": "tool", "tool_call_id": call.id, "content": f"result {place}"} for place, call in enumerate(calls)]
    second = client.chat.completions.create(model=model, messages=turns, tools=TOOLS)
    assert second.choices[0].finish_reason == "stop"
    assert "result 0" in second.choices[0].message.content
    assert "result 1" in second.choices[0].message.content


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


def test_tool_calls_by_the_stream_helper(client, model):
    with client.chat.completions.stream(model=model, messages=BOTH, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert [call.function.name for call in final.choices[0].message.tool_calls] == ["get_weather", "get_time"]


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
    # Gemini cannot be told; the answer says so in a header, and the calls come as they are.
    wanted = 2 if model.startswith("google/") else 1
    assert len(answer.choices[0].message.tool_calls) == wanted


def test_an_answer_by_a_schema(client, model):
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": Person.model_json_schema()}}
    question = [{"role": "user", "content": "Who?"}]
    answer = client.chat.completions.create(model=model, messages=question, response_format=form)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    Person.model_validate_json(answer.choices[0].message.content)


def test_a_streamed_answer_by_a_schema(client, model):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    question = [{"role": "user", "content": "Who?"}]
    chunks = client.chat.completions.create(model=model, messages=question, response_format=form, stream=True)
    Person.model_validate_json("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def test_an_answer_parsed_by_the_sdk(client, model):
    question = [{"role": "user", "content": "Who?"}]
    answer = client.chat.completions.parse(model=model, messages=question, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_a_picture(client, model):
    url = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == f"What is it?\nI see image/png, {len(PIXEL)} bytes."


def test_a_document(client, model):
    url = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4 x").decode()
    parts = [{"type": "text", "text": "Read."}, {"type": "file", "file": {"filename": "a.pdf", "file_data": url}}]
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])
    assert "I see" in answer.choices[0].message.content
    assert "10 bytes" in answer.choices[0].message.content
