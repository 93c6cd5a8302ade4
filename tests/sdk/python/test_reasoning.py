"""Reasoning through the official SDK: it comes back, in streams too, and can be sent again with the next turn unchanged."""

import pytest

QUESTION = [{"role": "user", "content": "Think about five words."}]
# OpenAI's own chat completions never show reasoning.
THINKERS = ["anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"]


@pytest.fixture(params=THINKERS, ids=["anthropic", "google"])
def thinker(request):
    """A model that shows its reasoning."""
    return request.param


def test_reasoning_beside_the_answer(client, thinker):
    answer = client.chat.completions.create(model=thinker, messages=QUESTION, reasoning_effort="low")
    message = answer.choices[0].message
    assert message.content == QUESTION[0]["content"]
    assert message.reasoning_content.startswith("The user says")
    assert [detail["index"] for detail in message.reasoning_details] == list(range(len(message.reasoning_details)))


def test_reasoning_in_a_stream(client, thinker):
    thought, said = "", ""
    for chunk in client.chat.completions.create(model=thinker, messages=QUESTION, reasoning_effort="low", stream=True):
        delta = chunk.choices[0].delta
        thought += getattr(delta, "reasoning_content", None) or ""
        assert not (thought and said and getattr(delta, "reasoning_content", None)), "reasoning after the answer began"
        said += delta.content or ""
    assert thought.startswith("The user says")
    assert said == QUESTION[0]["content"]


def test_reasoning_put_together_by_the_stream_helper(client, thinker):
    with client.chat.completions.stream(model=thinker, messages=QUESTION, reasoning_effort="low") as stream:
        message = stream.get_final_completion().choices[0].message
    whole = client.chat.completions.create(model=thinker, messages=QUESTION, reasoning_effort="low").choices[0].message
    assert message.content == whole.content
    assert message.reasoning_content == whole.reasoning_content
    assert [detail["type"] for detail in message.reasoning_details] == [detail["type"] for detail in whole.reasoning_details]


def test_reasoning_sent_back_unchanged(client, gateway, thinker):
    first = client.chat.completions.create(model=thinker, messages=QUESTION, reasoning_effort="low").choices[0].message
    turns = [*QUESTION, first.model_dump(exclude_none=True), {"role": "user", "content": "And now again."}]
    second = client.chat.completions.create(model=thinker, messages=turns, reasoning_effort="low").choices[0].message
    assert second.content == "And now again."


def test_several_choices(client):
    for model in ["openai/gpt-4o", "google/gemini-2.5-flash"]:
        answer = client.chat.completions.create(model=model, messages=QUESTION, n=2)
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
        assert answer.choices[0].message.content != answer.choices[1].message.content
