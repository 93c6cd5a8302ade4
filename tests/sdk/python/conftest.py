"""One gateway before simulated providers of every format for all tests, and fresh ones for those that leave a mark on theirs."""

import json
import pathlib
import sys
import urllib.request

import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from gateway import running  # noqa: E402  (found by the path above)

# One model of each upstream format, one that sees, and what cannot be asked of them; the tests run against all of them, here and in Node.
MATRIX = json.loads((pathlib.Path(__file__).resolve().parents[1] / "matrix.json").read_text(encoding="utf-8"))
UPSTREAMS = MATRIX["upstreams"]
MODELS = [upstream["model"] for upstream in UPSTREAMS]


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


@pytest.fixture(params=MODELS, ids=[upstream["provider"] for upstream in UPSTREAMS])
def model(request):
    """A model of each upstream format."""
    return request.param


def can(model, what):
    """Whether a model's format has a place for something; where it has none, a test asserts what the documents say comes instead."""
    return not any(what in upstream.get("cannot", ()) for upstream in UPSTREAMS if upstream["model"] == model)


def calls_of(gateway, marker):
    """What the simulated providers received that contains a text."""
    with urllib.request.urlopen(gateway.sim_calls) as answer:
        return [call for call in json.load(answer) if marker in json.dumps(call)]
