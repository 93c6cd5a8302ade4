"""OpenAI's Responses through the official SDK, against each upstream format."""


import openai
import pydantic
import pytest

WORDS = "one two three four five"
TOOLS = [
    {
        "type": "function",
        "name": name,
        "description": "Tells something of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    for name in ("get_weather", "get_time")
]
BOTH = "Call get_weather and get_time."


class Person(pydantic.BaseModel):
    """What the structured answers are."""

    name: str
    age: int
    tags: list[str]


def test_an_answer(client, model):
    answer = client.responses.create(model=model, input=WORDS, instructions="Repeat.", metadata={"team": "a"})
    assert answer.output_text == WORDS
    assert (answer.status, answer.object, answer.error) == ("completed", "response", None)
    assert answer.id.startswith("resp_")
    assert answer.usage.output_tokens == 5
    assert answer.usage.total_tokens == answer.usage.input_tokens + 5


def test_a_stream(client, model):
    events = list(client.responses.create(model=model, input=WORDS, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == WORDS
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == WORDS
    assert events[-1].response.usage.output_tokens == 5


def test_a_stream_by_the_helper(client, model):
    with client.responses.stream(model=model, input=WORDS) as stream:
        told = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert told == final.output_text == WORDS


def test_an_answer_parsed_by_the_sdk(client, model):
    answer = client.responses.parse(model=model, input="Who?", text_format=Person)
    assert isinstance(answer.output_parsed, Person)


def test_an_answer_that_is_cut_short(client, model):
    answer = client.responses.create(model=model, input=WORDS, max_output_tokens=2)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_reasoning_goes_back_and_forth(client):
    for model in ("anthropic/claude-sonnet-4-5", "google/gemini-2.5-flash"):
        request = {"model": model, "tools": TOOLS, "store": False, "include": ["reasoning.encrypted_content"]}
        request |= {"reasoning": {"effort": "high", "summary": "auto"}, "max_output_tokens": 20_000}
        first = client.responses.create(input="get_weather", **request)
        thought, *_, call = first.output
        assert (thought.type, call.type) == ("reasoning", "function_call")
        assert thought.summary[0].text
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        second = client.responses.create(input=[{"role": "user", "content": "get_weather"}, *first.output, result], **request)
        assert "rain" in second.output_text


def test_a_response_that_is_kept(client):
    first = client.responses.create(model="anthropic/claude-sonnet-4-5", input="the first words")
    assert client.responses.retrieve(first.id).output_text == "the first words"
    second = client.responses.create(model="google/gemini-2.5-flash", input="and more", previous_response_id=first.id)
    assert (second.output_text, second.previous_response_id) == ("and more", first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="anthropic/claude-sonnet-4-5", input="x", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"


def test_a_refusal_is_the_sdks_exception(client, model):
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=f"{model.split('/')[0]}/sim-400", input=WORDS)
    if not model.startswith("openai/"):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=model, input=WORDS, tools=[{"type": "web_search"}])
        assert refused.value.param == "tools[0].type"
