"""OpenAI's text completions (legacy) through the official SDK: passed on as they are, and asked as a chat of each upstream format."""

import asyncio

import openai
import pytest

WORDS = "one two three four five"
# The first is passed on: the catalog does not know it, so it may be a model that completes texts.
PASSED = "openai/gpt-3.5-turbo-instruct"
MODELS = [PASSED, "openai/gpt-4o", "anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"]
every_model = pytest.mark.parametrize("model", MODELS, ids=["passed", "openai", "anthropic", "google"])


@every_model
def test_a_completion(client, model):
    answer = client.completions.create(model=model, prompt=WORDS, max_tokens=100, temperature=0)
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == ("text_completion", WORDS, "stop")
    assert answer.choices[0].index == 0 and answer.choices[0].logprobs is None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert answer.id and answer.created > 0 and model.endswith(answer.model)


@every_model
def test_a_stream(client, model):
    chunks = list(client.completions.create(model=model, prompt=[WORDS], stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in choices) == WORDS
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert {chunk.object for chunk in chunks} == {"text_completion"} and len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 5


@every_model
def test_a_stream_without_usage(client, model):
    chunks = list(client.completions.create(model=model, prompt=WORDS, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@every_model
def test_an_answer_that_is_cut_short(client, model):
    answer = client.completions.create(model=model, prompt=WORDS, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


def test_what_only_the_route_itself_can_do(client):
    answer = client.completions.create(model=PASSED, prompt=["a", "b"], suffix="z", echo=True, n=2, best_of=3, logprobs=1)
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2, 3]
    tokens = client.completions.create(model=PASSED, prompt=[1, 2, 3])
    assert tokens.choices[0].text == "1 2 3"


@every_model
def test_what_a_chat_cannot_say_is_named(client, model):
    if model == PASSED:
        return
    for request, param in [({"prompt": ["a", "b"]}, "prompt"), ({"prompt": [1]}, "prompt"), ({"suffix": "x"}, "suffix"), ({"echo": True}, "echo")]:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(**{"model": model, "prompt": "x", **request})
        assert refused.value.param == param


@every_model
def test_a_broken_stream_is_an_error(client, model):
    broken = f"{model.split('/')[0]}/sim-cut-after-tokens"
    with pytest.raises(openai.APIError):
        for chunk in client.completions.create(model=broken, prompt=WORDS, stream=True):
            assert not any(choice.finish_reason for choice in chunk.choices)


@every_model
def test_a_refusal_is_the_sdks_exception(client, model):
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=f"{model.split('/')[0]}/sim-400", prompt=WORDS)


def test_the_asynchronous_client(gateway):
    async def stream():
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            chunks = await client.completions.create(model="anthropic/claude-sonnet-4-20250514", prompt=WORDS, stream=True)
            return "".join([chunk.choices[0].text async for chunk in chunks])

    assert asyncio.run(stream()) == WORDS
