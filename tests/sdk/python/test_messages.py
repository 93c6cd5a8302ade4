"""Anthropic's official SDK against each upstream format: the base URL and the key are all that is changed."""

import anthropic
import pytest

from conftest import calls_of

WORDS = "one two three four five"
TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather at a place.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
    {"name": "get_time", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}},
]


def user(content):
    return [{"role": "user", "content": content}]


def said(message):
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.fixture(scope="session")
def claude(gateway):
    """The stock SDK, which retries nothing here, so that a test sees every failure."""
    return anthropic.Anthropic(base_url=gateway.url.removesuffix("/v1"), api_key=gateway.key, max_retries=0)


def test_an_answer(claude, model):
    answer = claude.messages.create(model=model, max_tokens=100, messages=user(WORDS))
    assert [block.text for block in answer.content] == [WORDS]
    assert (answer.type, answer.role, answer.stop_reason) == ("message", "assistant", "end_turn")
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens == 5
    assert answer._request_id.startswith("req_")


def test_a_stream_is_the_same_message(claude, model):
    whole = claude.messages.create(model=model, max_tokens=100, messages=user(WORDS))
    with claude.messages.stream(model=model, max_tokens=100, messages=user(WORDS)) as stream:
        assert "".join(stream.text_stream) == WORDS
        final = stream.get_final_message()
    assert [block.text for block in final.content] == [block.text for block in whole.content]
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert final.usage.input_tokens > 0


def test_instructions_and_limits(claude, gateway, model):
    marker = f"instructions for {model}"
    answer = claude.messages.create(
        model=model, max_tokens=2, system=[{"type": "text", "text": marker, "cache_control": {"type": "ephemeral"}}],
        messages=user(WORDS), metadata={"user_id": "user-1"},
    )
    assert answer.stop_reason == "max_tokens"
    assert calls_of(gateway, marker)


def test_a_forced_tool(claude, model):
    choice = {"type": "tool", "name": "get_time"}
    answer = claude.messages.create(model=model, max_tokens=500, messages=user("x"), tools=TOOLS, tool_choice=choice)
    assert [block.name for block in answer.content if block.type == "tool_use"] == ["get_time"]


@pytest.mark.parametrize("thinker", ["anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash", "openai/o4-mini"])
def test_thoughts_are_shown_and_taken_back(claude, thinker):
    asked = {"model": thinker, "max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    with claude.messages.stream(messages=user(WORDS), **asked) as stream:
        first = stream.get_final_message()
    # Gemini signs the end of its text, which comes as a block of its own.
    assert first.content[0].type == "thinking" and said(first) == WORDS
    assert first.content[0].thinking.startswith("The user says") and first.content[0].signature
    turns = [*user(WORDS), {"role": "assistant", "content": first.content}, {"role": "user", "content": "And again."}]
    assert said(claude.messages.create(messages=turns, **asked)) == "And again."


def test_counting_tokens(claude, model):
    assert claude.messages.count_tokens(model=model, messages=user(WORDS * 20)).input_tokens > 20


def test_errors_are_the_sdks_own(gateway, claude, model):
    provider = model.split("/")[0]
    wrong = anthropic.Anthropic(base_url=gateway.url.removesuffix("/v1"), api_key="nobodys", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        wrong.messages.create(model=model, max_tokens=1, messages=user("x"))
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model=f"{provider}/sim-400", max_tokens=1, messages=user("x"))
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model=f"{provider}/does-not-exist", max_tokens=1, messages=user("x"))


def test_the_list_of_models(claude):
    models = {model.id: model for model in claude.models.list(limit=10)}
    assert len(models) > 20
    model = models["anthropic/claude-opus-4.5"]
    assert (model.type, model.created_at.year > 2000, bool(model.display_name)) == ("model", True, True)
    assert claude.models.retrieve(model.id) == model
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("nobody/x")
