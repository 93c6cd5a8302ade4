"""What the replays of Anthropic's and Google's formats have in common: the exchanges of the format itself pass through the gateway, those of other
formats are asked for by clients of it and have to mean the same."""

import concurrent.futures
import json
import os

from meaning import arguments as meant
from replay_corpus import arguments, route
from rig import Gateway, ReplayServer, unpack


def run(provider, is_own, others, one, translated, crlf=True):
    """Replays in every pass that was asked for and prints what came of it. `one` and `translated` give the problems of an exchange: of the
    format's own (`is_own`), and of those whose api is in `others`. `crlf`: whether the format has streams that a pass may frame anew."""
    options = arguments()
    folder = unpack(options.corpus, options.work)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        everything = [entry for entry in json.load(file)["exchanges"] if options.only in json.dumps(entry)]
    own = [entry for entry in everything if is_own(entry)]
    foreign = [entry for entry in everything if entry["api"] in others and entry["status"] == 200]
    names = sorted({provider, *(route(entry) for entry in foreign)})
    failed, counts = [], {}
    with ReplayServer(options.corpus, folder) as replay, Gateway(options.gateway, replay.url, options.work, names) as gateway:

        def play(what, name, entries, problems_of):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                found = list(pool.map(problems_of, entries))
            counts[what] = (len(found), sum(not problems for problems in found))
            failed.extend((entry["file"], name, problems) for entry, problems in zip(entries, found) if problems)

        for name in [name for name in options.passes.split(",") if crlf or name != "crlf"]:
            chosen = [entry for entry in own if name != "crlf" or (entry["stream"] and entry["status"] == 200)]
            play(name, name, chosen, lambda entry, name=name: one(folder, replay, gateway, entry, name))
            if name != "crlf":
                play(f"{name}, translated", name, foreign, lambda entry, name=name: translated(folder, gateway, entry, name))
        gateway.check_alive()
    for file, name, problems in failed[: options.show]:
        print(f"FAILED {file} ({name}): {'; '.join(problems)[:600]}")
    for name, (total, good) in counts.items():
        print(f"pass {name}: {good} of {total} right")
    return 1 if failed or not counts else 0


def load(folder, entry):
    with open(os.path.join(folder, entry["file"]), encoding="utf-8") as file:
        return json.load(file)


def choice_problems(wanted, had):
    """Where the texts, thoughts and calls of a choice differ in meaning. A refusal is text in both formats."""
    problems = []
    if had.text not in (wanted.text + wanted.refusal, wanted.refusal + wanted.text):
        problems.append(f"text: {had.text[:100]!r} for {wanted.text[:100]!r}")
    if had.reasoning != wanted.reasoning:
        problems.append(f"reasoning: {had.reasoning[:100]!r} for {wanted.reasoning[:100]!r}")
    calls = [*wanted.calls, *([wanted.function] if wanted.function else [])]
    # An input is an object: what is none is empty. A call of nothing is none.
    plain = lambda calls: [[name, meant(said) or {}] for name, said in calls if name or said]
    cut = "length" in wanted.finish or any("INVALID_JSON" in said for _, said in had.calls)
    if plain(had.calls) != plain(calls) and not (cut and len(had.calls) == len(calls)):
        problems.append(f"calls: {had.calls} for {calls}"[:300])
    return problems


def usage_problems(expected, ours):
    """Counts that were not told are not compared; reasoning may stand beside the completion in a total (xAI)."""
    problems = []
    if "prompt" not in expected:
        return problems
    beside = (expected.get("total") or 0) - expected["prompt"]
    if ours.get("prompt") != expected["prompt"]:
        problems.append(f"prompt: {ours.get('prompt')} for {expected['prompt']}")
    if ours.get("completion") not in (expected.get("completion") or 0, beside):
        problems.append(f"completion: {ours.get('completion')} for {expected.get('completion')}")
    cached = min(expected.get("cached") or 0, expected["prompt"])
    if expected.get("cached") is not None and (ours.get("cached") or 0) != cached:
        problems.append(f"cached: {ours.get('cached')} for {cached}")
    return problems


def first_difference(got, wanted):
    at = next((at for at, (one, other) in enumerate(zip(got, wanted)) if one != other), min(len(got), len(wanted)))
    return f"at {at}: {got[max(0, at - 40): at + 60]!r} for {wanted[max(0, at - 40): at + 60]!r}"
