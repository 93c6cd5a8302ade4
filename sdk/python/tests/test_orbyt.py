"""The client against the gateway: what is sent, who serves, what the ledger has of it. Run by `make test-sdks`."""

import asyncio
import json
import os
import pathlib
import subprocess
import time
from typing import Any

import openai
import pytest

from orbyt import AsyncOrbyt, Extra, Orbyt, extra

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODEL = "anthropic/claude-haiku-4.5"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gateway.py tells, by the names that the client reads."""
    monkeypatch.setenv("ORBYT_BASE_URL", os.environ["ORBYT_URL"])
    monkeypatch.setenv("ORBYT_API_KEY", os.environ["ORBYT_KEY"])


def hello(client: Orbyt, **options: Any) -> Any:
    message = {"role": "user", "content": "Hello!"}
    return client.chat.completions.with_raw_response.create(model=MODEL, messages=[message], **options)  # type: ignore[list-item]


def ledger(trace: str) -> list[Any]:
    """The requests of a trace, once there are any: the ledger is written behind the answers."""
    command = [os.environ["ORBYT_BINARY"], "requests", "list", "--trace", trace, "--json"]
    environment = {**os.environ, "ORBYT_DATA_DIR": os.environ["ORBYT_DATA"]}
    for _ in range(300):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        if done.stdout.strip():
            return [json.loads(line) for line in done.stdout.splitlines()]
        time.sleep(0.1)
    raise AssertionError(f"no request of {trace} in the ledger")


def test_the_environment_is_enough() -> None:
    answer = hello(Orbyt()).parse()
    assert answer.choices[0].message.content == "Hello!"


def test_extra_is_the_gateways() -> None:
    raw = hello(Orbyt(), extra_body=extra(provider="openai", retry=0))
    assert raw.headers["x-provider"] == "openai"
    with pytest.raises(openai.BadRequestError) as refused:
        hello(Orbyt(), extra_body={"extra": {"fallback_model": []}})
    assert "fallback_model" in str(refused.value)


def test_a_trace_is_in_the_ledger_and_stays_with_derived_clients() -> None:
    trace = f"python-{os.getpid()}"
    client = Orbyt(trace_id=trace)
    hello(client)
    hello(client.with_options(timeout=30))
    deadline = time.monotonic() + 30
    while len(ledger(trace)) < 2:
        assert time.monotonic() < deadline, ledger(trace)


def test_it_works_without_waiting_too() -> None:
    async def ask() -> str | None:
        async with AsyncOrbyt() as client:
            answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello!"}])
            return answer.choices[0].message.content

    assert asyncio.run(ask()) == "Hello!"


def test_a_key_of_openais_is_never_sent_to_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORBYT_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-the-gateway")
    with pytest.raises(openai.OpenAIError, match="ORBYT_API_KEY"):
        Orbyt()


def test_the_types_have_what_the_documents_have() -> None:
    lines = (ROOT / "docs/extra.md").read_text(encoding="utf-8").split("\n## ")[0].splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    documented = {row[1].strip().strip("`") for row in rows if "refused" not in row[3]}
    assert documented == set(Extra.__annotations__)
