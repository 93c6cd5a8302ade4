"""Chat, streams and usage through the official SDK, against each upstream format."""

import asyncio
import concurrent.futures

import openai
from conftest import MODELS

WORDS = "one two three four five"


def said(text):
    return [{"role": "system", "content": "Repeat."}, {"role": "user", "content": text}]


def test_an_answer(client, model):
    answer = client.chat.completions.create(model=model, messages=said(WORDS), temperature=0.5, max_tokens=100)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_several_turns(client, model):
    turns = [*said("first"), {"role": "assistant", "content": "first"}, {"role": "user", "content": "second"}]
    answer = client.chat.completions.create(model=model, messages=turns)
    assert answer.choices[0].message.content == "second"


def test_an_answer_cut_by_its_limit(client, model):
    answer = client.chat.completions.create(model=model, messages=said(WORDS), max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "one two "


def test_a_stream_without_usage(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=said(WORDS), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == WORDS
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_with_usage(client, model):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=model, messages=said(WORDS), stream=True, stream_options=options))
    with_usage = [chunk for chunk in chunks if chunk.usage]
    assert len(with_usage) == 1
    assert with_usage[0] is chunks[-1]
    assert with_usage[0].choices == []
    assert with_usage[0].usage.completion_tokens == 5
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == WORDS


def test_the_stream_helper(client, model):
    with client.chat.completions.stream(model=model, messages=said(WORDS)) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert len(pieces) > 1
    assert final.choices[0].message.content == WORDS


def test_fifty_at_once(client, gateway):
    def ask(number):
        text = f"number {number} of fifty"
        answer = client.chat.completions.create(model=MODELS[number % len(MODELS)], messages=said(text))
        return answer.choices[0].message.content == text

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert all(pool.map(ask, range(50)))


def test_fifty_streams_at_once(gateway):
    async def ask(client, number):
        text = f"stream number {number} of fifty"
        stream = await client.chat.completions.create(model=MODELS[number % len(MODELS)], messages=said(text), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(50)))

    assert all(asyncio.run(all_of_them()))


def test_the_list_of_models(client):
    models = {item.id: item for item in client.models.list()}
    assert "openai/gpt-4o" in models
    assert client.models.retrieve("openai/gpt-4o").id == "openai/gpt-4o"
