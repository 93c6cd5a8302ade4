"""One gateway before three simulated providers for all tests, and fresh ones for those that leave a mark on theirs."""

import json
import pathlib
import sys
import urllib.request

import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from gateway import running  # noqa: E402  (found by the path above)

# One model of each upstream format; the tests run against all of them.
MODELS = ["openai/gpt-4o", "anthropic/claude-sonnet-4-20250514", "google/gemini-2.5-flash"]


@pytest.fixture(scope="session")
def gateway():
    """The gateway of all tests that change nothing in it."""
    with running() as started:
        yield started


@pytest.fixture
def fresh():
    """A gateway of its own, for a test that wears out keys or breakers."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def client(gateway):
    """The stock SDK: a base URL and a key are all that is changed. It retries nothing, so that a test sees every failure."""
    return openai.OpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0)


@pytest.fixture(params=MODELS, ids=["openai", "anthropic", "google"])
def model(request):
    """A model of each upstream format."""
    return request.param


def calls_of(gateway, marker):
    """What the simulated providers received that contains a text."""
    with urllib.request.urlopen(gateway.sim_calls) as answer:
        return [call for call in json.load(answer) if marker in json.dumps(call)]
