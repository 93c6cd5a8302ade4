"""Errors as the SDK's own exceptions, and fallback as the SDK's user sees it."""

import openai
import pytest
from conftest import MODELS

HELLO = [{"role": "user", "content": "Hello there"}]
# Who stands in for whom: the next upstream.
OTHERS = {model.split("/")[0]: other for model, other in zip(MODELS, MODELS[1:] + MODELS[:1], strict=True)}


def test_a_wrong_key(gateway):
    client = openai.OpenAI(base_url=gateway.url, api_key="sk-or-v1-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as raised:
        client.chat.completions.create(model="openai/gpt-4o", messages=HELLO)
    assert raised.value.code
    assert "wrong" not in raised.value.message


def test_a_request_without_messages(client, model):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=model, messages=[])
    assert raised.value.param == "messages"


def test_an_extension_that_is_not_one(client, model):
    with pytest.raises(openai.BadRequestError, match="retries"):
        client.chat.completions.create(model=model, messages=HELLO, extra_body={"extra": {"retries": 3}})


def test_a_rate_limit_when_nobody_else_can_serve(fresh, model):
    client = openai.OpenAI(base_url=fresh.url, api_key=fresh.key, max_retries=0)
    provider = model.split("/")[0]
    with pytest.raises(openai.RateLimitError) as raised:
        body = {"extra": {"retry": 0, "provider": provider}}
        client.chat.completions.create(model=f"{provider}/sim-429", messages=HELLO, extra_body=body)
    assert int(raised.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("fault", ["sim-429", "sim-500", "sim-529", "sim-reset-before-head", "sim-cut-json", "sim-error-first"])
def test_another_model_answers(fresh, model, fault):
    provider = model.split("/")[0]
    client = openai.OpenAI(base_url=fresh.url, api_key=fresh.key, max_retries=0)
    body = {"extra": {"fallback_models": [OTHERS[provider]], "retry": 0}}
    raw = client.chat.completions.with_raw_response.create(model=f"{provider}/{fault}", messages=HELLO, extra_body=body)
    assert raw.headers["x-orbyt-fallback"] == "true"
    assert raw.headers["x-provider"] == OTHERS[provider].split("/")[0]
    assert raw.headers["x-orbyt-attempts"] == "2"
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse().choices[0].message.content == "Hello there"


@pytest.mark.parametrize("fault", ["sim-503", "sim-error-first", "sim-role-only", "sim-reset-after-head"])
def test_another_model_streams(fresh, model, fault):
    provider = model.split("/")[0]
    client = openai.OpenAI(base_url=fresh.url, api_key=fresh.key, max_retries=0)
    body = {"extra": {"fallback_models": [OTHERS[provider]], "retry": 0}}
    raw = client.chat.completions.with_raw_response.create(
        model=f"{provider}/{fault}", messages=HELLO, stream=True, extra_body=body
    )
    assert raw.headers["x-orbyt-fallback"] == "true"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()) == "Hello there"


def test_a_first_choice_that_serves_says_so(client, model):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)
    assert raw.headers["x-orbyt-fallback"] == "false"
    assert raw.headers["x-orbyt-attempts"] == "1"
    assert raw.headers["x-provider"] == model.split("/")[0]
