"""Compares the gateway's answer with the meaning of the recording, and what the provider received with what the client sent."""

from meaning import Choice, arguments

# Members of a request that the gateway owns and no provider sees.
GATEWAY_MEMBERS = ("extra",)
# A provider takes one of these names; the gateway says the other one for it where its row says so.
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


def differences(expected, reply, streamed, wanted_usage):
    """What differs, as (what, detail)."""
    if expected.spliced:
        return [("spliced", "several answers are recorded as one")]
    found = [("format", violation) for violation in reply.violations]
    if not expected.complete:
        ended_well = reply.status == 200 and reply.error is None and reply.unreadable is None
        return found + ([("incomplete", "an incomplete recording came out as a clean answer")] if ended_well else [])
    if reply.status != 200 or reply.error is not None or reply.unreadable:
        return found + [("error", f"{reply.status} {reply.error or reply.unreadable}")]
    for index in sorted(set(expected.choices) | set(reply.choices)):
        found += choice_differences(index, expected.choices.get(index, Choice()), reply.choices.get(index, Choice()))
    return found + usage_differences(expected, reply, streamed, wanted_usage)


def choice_differences(index, expected, got):
    found = []
    for name in ("text", "refusal", "reasoning"):
        wanted, had = getattr(expected, name), getattr(got, name)
        if wanted != had:
            found.append((name, f"choice {index}: {around(wanted, had)}"))
    plain = lambda calls: [[name, arguments(said)] for name, said in calls]
    if plain(expected.calls) != plain(got.calls):
        found.append(("calls", f"choice {index}: {got.calls} for {expected.calls}"))
    if expected.function != got.function:
        found.append(("calls", f"choice {index}: function {got.function} for {expected.function}"))
    if not got.finish & expected.finish:
        found.append(("finish", f"choice {index}: {got.finish} for {expected.finish}"))
    if expected.proofs and expected.proofs != got.proofs:
        found.append(("signatures", f"choice {index}: {len(got.proofs)} for {len(expected.proofs)}"))
    return found


def around(wanted, had):
    """Where two texts part."""
    same = next((at for at, (left, right) in enumerate(zip(wanted, had)) if left != right), min(len(wanted), len(had)))
    start = max(0, same - 10)
    return f"{had[start:same + 40]!r} for {wanted[start:same + 40]!r} at {same} of {len(wanted)}/{len(had)}"


def usage_differences(expected, reply, streamed, wanted_usage):
    if streamed and not wanted_usage:
        return [("usage", f"{reply.usage_chunks} usage chunks, none was asked for")] if reply.usage_chunks else []
    found = []
    if streamed and expected.usage and reply.usage_chunks != 1:
        found.append(("usage", f"{reply.usage_chunks} usage chunks in a stream that asked for one"))
    for name in ("prompt", "completion", "total", "cached", "reasoning"):
        wanted, had = expected.usage.get(name), reply.usage.get(name)
        if wanted != had and (wanted or 0, had or 0) != (0, 0):
            found.append(("usage", f"{name}: {had} for {wanted}"))
    return found


def sent_differences(received, request, api, provider):
    """What the provider received that it should not have, and the other way round."""
    if len(received) != 1:
        return [("calls upstream", f"{len(received)} instead of 1")]
    seen, found = received[0], []
    spoken = " ".join([seen["path"], seen["query"], *seen["headers"].values()])
    if "gateway-key" in spoken or "gateway-key" in seen.get("body_text", ""):
        found.append(("secrets", "the gateway's key reached the provider"))
    if "key=" in seen["query"]:
        found.append(("secrets", "a key in the address"))
    if api == "openai.chat":
        found += body_differences(seen["body"] or {}, request, provider)
    return found


def body_differences(sent, request, provider):
    """The provider's body is the client's, but for `model`, the gateway's members and the usage option."""
    expected = {name: value for name, value in request.items() if name not in GATEWAY_MEMBERS}
    expected["model"] = request["model"].removeprefix(f"{provider}/")
    sent = dict(sent)
    if request.get("stream"):
        asked, given = expected.pop("stream_options", None) or {}, sent.pop("stream_options", None) or {}
        if {**asked, "include_usage": True} != {**given, "include_usage": True}:
            return [("request", f"stream_options {given} for {asked}")]
    for body in (expected, sent):
        for name in LIMIT_NAMES:
            if name in body:
                body["limit"] = body.pop(name)
    if sent == expected:
        return []
    names = sorted(name for name in {*sent, *expected} if sent.get(name, "absent") != expected.get(name, "absent"))
    return [("request", "; ".join(f"{name}: {str(sent.get(name))[:120]} for {str(expected.get(name))[:120]}" for name in names))]
