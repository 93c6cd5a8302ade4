"""What an answer means, whoever said it: the common ground on which a recording and the gateway's answer are compared."""

import json
from dataclasses import dataclass, field


@dataclass
class Choice:
    """One choice of an answer."""

    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    # Tool calls in order: [name, arguments as JSON text].
    calls: list = field(default_factory=list)
    # Opaque pieces that prove reasoning: signatures and encrypted blocks, in order.
    proofs: list = field(default_factory=list)
    # OpenAI's retired single function call: [name, arguments].
    function: list | None = None
    # Words for its end that are right; empty when it never ended.
    finish: set = field(default_factory=set)


@dataclass
class Answer:
    """A whole answer."""

    choices: dict = field(default_factory=dict)
    # prompt, completion, total, cached, reasoning; a missing one was not told.
    usage: dict = field(default_factory=dict)
    # The in-band error's message.
    error: str | None = None
    # Why it cannot be read at all.
    unreadable: str | None = None
    # More than one answer stands in it: a recording put together from several.
    spliced: bool = False

    def choice(self, index):
        """The choice of an index, made when it is new."""
        return self.choices.setdefault(index or 0, Choice())

    @property
    def complete(self):
        """Every choice has a finish reason, there is at least one, and nothing went wrong."""
        fine = self.error is None and self.unreadable is None
        return fine and bool(self.choices) and all(choice.finish for choice in self.choices.values())


def arguments(text):
    """Arguments in a form that compares: their meaning where they are JSON, `{}` where they are empty, else the text itself."""
    if isinstance(text, (dict, list)):
        return text
    if not text or not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError:
        return text


def number(value):
    """A token count, or None."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def told(**counts):
    """The counts that were told."""
    return {name: value for name, value in counts.items() if value is not None}


def openai_usage(usage):
    """OpenAI's `usage` object."""
    usage = usage or {}
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    return told(
        prompt=number(usage.get("prompt_tokens")),
        completion=number(usage.get("completion_tokens")),
        total=number(usage.get("total_tokens")),
        cached=number(prompt.get("cached_tokens")) if isinstance(prompt, dict) else None,
        reasoning=number(completion.get("reasoning_tokens")) if isinstance(completion, dict) else None,
    )


def sse_data(text):
    """The data of each event in a text/event-stream, by the WHATWG rules, with an unterminated last event read too."""
    events, lines = [], []
    for line in text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n") + [""]:
        if not line:
            if lines:
                events.append("\n".join(lines))
            lines = []
        elif line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
    return events
