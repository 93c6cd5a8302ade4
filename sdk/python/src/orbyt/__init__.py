"""The official OpenAI client, pointed at an Orbyt gateway, with the gateway's extensions typed.

    client = Orbyt(trace_id="checkout-42")
    client.chat.completions.create(..., extra_body=extra(fallback_models=["openai/gpt-4o-mini"], retry=1))
"""

import os
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack

from openai import AsyncOpenAI, OpenAI, OpenAIError

__all__ = ["DEFAULT_BASE_URL", "AsyncOrbyt", "CacheOptions", "Extra", "Orbyt", "extra"]

DEFAULT_BASE_URL = "http://127.0.0.1:3001/v1"
"""Where a gateway listens when nothing else is said."""


class CacheOptions(TypedDict, total=False):
    """How a request uses the gateway's cache."""

    ttl: int | str
    """How long the answer is kept: seconds, or a duration such as `"5m"`."""
    semantic: bool
    """Whether the answer to a question in other words will do."""


class Extra(TypedDict, total=False):
    """What one request can say to the gateway; none of it reaches a provider. See docs/extra.md."""

    fallback_models: list[str]
    """Models to try next, in this order; or providers, for the same model there."""
    provider: str
    """A strategy (`"cheap"`, `"fast"`, `"reliable"`, …), or the id of the only provider that may serve."""
    retry: int
    """How often the same target is tried again, 0 to 10."""
    timeout_ms: int
    """The deadline of the whole request."""
    byok: str | Mapping[str, str]
    """Your own provider key, or keys by provider."""
    cache: Literal[False] | CacheOptions
    """Past the cache, or how it is used."""
    preset: str
    """The slug of a preset."""
    session_id: str
    """Requests of one session keep to one target where the gateway is told so."""
    trace_id: str
    """The trace that the request belongs to."""
    store: Literal[False]
    """Keep nothing of what the request carries."""
    max_cost: float
    """What the request may cost at most, in dollars."""


def extra(**options: Unpack[Extra]) -> dict[str, object]:
    """What is given as `extra_body=`."""
    return {"extra": dict(options)}


class Orbyt(OpenAI):
    """`openai.OpenAI`, by default at `ORBYT_BASE_URL` with `ORBYT_API_KEY`."""

    def __init__(
        self, *, api_key: Any = None, base_url: Any = None, trace_id: str | None = None, **options: Any
    ) -> None:
        super().__init__(**_options(api_key, base_url, trace_id, options))


class AsyncOrbyt(AsyncOpenAI):
    """`openai.AsyncOpenAI`, by default at `ORBYT_BASE_URL` with `ORBYT_API_KEY`."""

    def __init__(
        self, *, api_key: Any = None, base_url: Any = None, trace_id: str | None = None, **options: Any
    ) -> None:
        super().__init__(**_options(api_key, base_url, trace_id, options))


def _options(api_key: Any, base_url: Any, trace_id: str | None, options: dict[str, Any]) -> dict[str, Any]:
    key = api_key or os.environ.get("ORBYT_API_KEY")
    if not key:
        # The official client would take OPENAI_API_KEY, which is nobody else's business.
        raise OpenAIError("a gateway key is needed: api_key=, or ORBYT_API_KEY in the environment")
    url = base_url or os.environ.get("ORBYT_BASE_URL") or DEFAULT_BASE_URL
    headers = dict(options.pop("default_headers", None) or {})
    if trace_id is not None:
        headers["x-trace-id"] = trace_id
    return {**options, "api_key": key, "base_url": url, "default_headers": headers}
