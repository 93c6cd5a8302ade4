"""The request side: what clients send, rendered for every provider format, holds against the official SDK's types and loses nothing in
silence. Our own requests always; recorded ones where the corpus stands beside the repository."""

import collections
import os
import re
import tomllib

import provider_types
import pytest
import rendered
import rig

CORPUS = rendered.ROOT.parent / "shared" / "corpus"
# How often the same kind of leaf is tried.
TRIES = 2
# Longer requests say nothing more about the kinds of leaves.
LONGEST = 60_000


def requests(source):
    if source == "written":
        return list(rendered.written())
    corpus = os.environ.get("ORBYT_CORPUS") or CORPUS
    if not os.path.exists(os.path.join(corpus, "unpack.py")):
        pytest.skip("no recorded traffic beside the repository")
    return list(rendered.recorded(rig.unpack(str(corpus), str(rendered.ROOT / "target" / "corpus"))))


@pytest.fixture(scope="module", params=["written", "recorded"])
def cases(request):
    """Every request with what becomes of it."""
    found = requests(request.param)
    answers = rendered.render([(client, body) for _, client, body in found])
    return [(*case, answer) for case, answer in zip(found, answers, strict=True)]


@pytest.fixture(scope="module")
def losses():
    with open(rendered.ROOT / "expected_losses.toml", "rb") as file:
        return tomllib.load(file)["loss"]


def told(findings):
    """Findings by their kind, the commonest first, each with where it was seen first."""
    kinds = collections.defaultdict(list)
    for kind, place in findings:
        kinds[kind].append(place)
    return "\n".join(f"{len(seen):5} × {kind}: {seen[0]}" for kind, seen in sorted(kinds.items(), key=lambda kind: -len(kind[1])))


def rendering(cases):
    for name, client, _, answer in cases:
        for target, outcome in answer.items():
            if isinstance(outcome, dict) and "body" in outcome:
                yield name, client, target, outcome


def test_each_body_is_one_that_the_providers_sdk_could_have_sent(cases):
    findings, checked = [], collections.Counter()
    for name, client, target, outcome in rendering(cases):
        checked[outcome["dialect"]] += 1
        try:
            provider_types.CHECKS[outcome["dialect"]](outcome["body"], target)
        except ValueError as problem:
            findings.append((f"{client} to {target}: {provider_types.summary(problem)}", name))
    assert not findings, told(findings)
    assert set(checked) == set(provider_types.CHECKS)


def test_what_is_refused_is_known_not_to_be_sayable(cases):
    with open(rendered.HERE / "refusals.toml", "rb") as file:
        known = tomllib.load(file)["refusal"]
    findings = []
    for name, client, _, answer in cases:
        outcomes = {"any": answer} if "refused" in answer else answer
        for outcome in outcomes.values():
            said, dialect = outcome.get("refused"), outcome.get("dialect", "any")
            if said and not any(dialect in one["dialects"] and re.search(one["says"], said) for one in known):
                findings.append((f"{client} to {dialect}: {said}", name))
    assert not findings, told(findings)


def test_what_is_named_as_lost_is_an_accepted_loss(cases, losses):
    noted = collections.defaultdict(set)
    for loss in losses:
        if loss.get("kind", "noted") == "noted":
            noted[loss["dialect"]].add(loss["parameter"])
    findings = []
    for name, client, target, outcome in rendering(cases):
        accepted = noted[outcome["dialect"]]
        # `*` is whatever nobody else has a word for.
        findings += [(f"{client} to {target}: {lost}", name) for lost in outcome["dropped"] if not accepted & {lost, "*"}]
    assert not findings, told(findings)


def test_nothing_is_lost_in_silence(cases, losses):
    """Each leaf of a request is changed and left out: where that changes neither the body nor the list of losses, nobody heard it."""
    rules = [(loss["dialect"], re.compile(loss["at"])) for loss in losses if "at" in loss]
    tried, trials = collections.Counter(), []
    for name, client, body, answer in cases:
        body = {**body, "model": "a-model"}
        if "refused" in answer or len(str(body)) > LONGEST:
            continue
        for path, shape, value in rendered.leaves({name: value for name, value in body.items() if name not in ("model", "stream")}):
            kind = re.sub(r"\.(anyOf|oneOf|allOf|items|\*|properties|\$defs|definitions|additionalProperties)(?=\.)", "", shape)
            if tried[client, kind] < TRIES:
                tried[client, kind] += 1
                trials.append((name, client, kind, path, answer, rendered.variants(body, path, value)))
    answers = iter(rendered.render([(client, body) for _, client, _, _, _, bodies in trials for body in bodies]))
    findings = []
    for name, client, kind, path, answer, bodies in trials:
        others = [next(answers) for _ in bodies]
        for target, outcome in answer.items():
            if "body" not in outcome or any(other.get(target) != outcome for other in others) or is_named(path, outcome["dropped"]):
                continue
            place = f"{client}:{kind}"
            if not any(dialect in (outcome["dialect"], "any") and rule.search(place) for dialect, rule in rules):
                findings.append((place, f"{name} to {target}"))
    assert not findings, told(findings)


# What the members of a request are called in the list of losses, where that is not their own name.
ALSO = {
    "safety_identifier": "user",
    "user_id": "user",
    "effort": "reasoning_effort",
    "reasoning_effort": "reasoning",
    "thinking": "reasoning",
    "include_reasoning": "reasoning",
    "output_config": "reasoning",
    "text": "response_format",
    "output_format": "response_format",
    "format": "response_format",
    "prompt_cache_breakpoint": "cache_control",
    "disable_parallel_tool_use": "parallel_tool_calls",
}


def is_named(path, dropped):
    """Whether a loss is named that covers this place: by its last word, or by the member that it stands in."""
    words = {word for word in path if isinstance(word, str)}
    for _ in range(2):
        words |= {ALSO[word] for word in words if word in ALSO}
    return any(set(name.split(".")) & words for name in dropped)
