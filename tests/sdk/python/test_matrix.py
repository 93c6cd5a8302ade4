"""Every official SDK × every upstream format × the cases of `matrix.json`, which the tests for Node read too."""

import json
import time

import pytest
from conftest import MATRIX, calls_of
from drivers import DRIVERS


@pytest.mark.parametrize("case", MATRIX["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("upstream", MATRIX["upstreams"], ids=lambda upstream: upstream["provider"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_matrix(gateway, driver, upstream, case):
    sdk = DRIVERS[driver](gateway.url, case.get("key", gateway.key), MATRIX)
    provider, media, stream = upstream["provider"], case.get("media"), case.get("stream", False)
    model = upstream["sees" if media else "model"]
    if "model" in case:
        model = f"{provider}/{case['model']}"
    turns = sdk.user(case["say"], media)
    question = model, turns, "calls" in case, case.get("structured", False)
    if case.get("left"):
        is_left(sdk, gateway, f"{driver} of Python leaves {provider}", question)
    elif case.get("breaks"):
        heard = ""
        with pytest.raises(sdk.ERROR):
            for text in sdk.texts(*question):
                heard += text
        assert case["say"].startswith(heard.strip())  # Nothing, where the break came with the first words.
    elif "status" in case or media in upstream.get("cannot", ()):
        with pytest.raises(sdk.ERROR) as refused:
            sdk.ask(stream, *question)
        assert refused.value.status_code == case.get("status", 400)
        assert case.get("status") or "does not take documents" in str(refused.value)
    else:
        told = sdk.ask(stream, *question)
        assert [name for _, name, _ in told.calls] == case.get("calls", [])
        if told.calls:
            assert isinstance(told.calls[0][2]["city"], str) and len({call for call, _, _ in told.calls}) == 2
            results = sdk.results([(call, f"result {at}") for at, (call, _, _) in enumerate(told.calls)])
            told = sdk.ask(stream, model, [*turns, *told.turn, *results], True, False)
            assert "result 0" in told.text and "result 1" in told.text
        elif case.get("structured"):
            assert set(json.loads(told.text)) == set(MATRIX["schema"]["required"])
        else:
            assert told.text == case["text"] or (media == "pdf" and case["text"] in told.text)


def is_left(sdk, gateway, marker, question):
    """A stream that its reader leaves ends at the provider too."""
    model, _, *rest = question
    texts = sdk.texts(model, sdk.user(f"{marker} " + "and on " * 200, None), *rest)
    next(texts)
    texts.close()
    deadline = time.monotonic() + 10
    while not [call["client_gone"] for call in calls_of(gateway, marker)] == [True]:
        assert time.monotonic() < deadline, "the provider still streams long after the client left"
        time.sleep(0.02)
