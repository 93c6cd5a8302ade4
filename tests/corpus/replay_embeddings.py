#!/usr/bin/env python3
"""Replays recorded embeddings of every provider through `POST /v1/embeddings` and compares the vectors and tokens that come out with
what the recording says, read here by the providers' documents.

  replay_embeddings.py --corpus ../shared/corpus [--gateway target/release/orbyt] [--passes whole,chop,base64] [--only WORD]

Standard library only. Where the provider speaks OpenAI's form, the bytes have to come out as they were and to arrive as they were sent,
unless the vectors are not written as the client asked (pass `base64` asks for the other encoding).
"""

import base64
import collections
import concurrent.futures
import json
import os
import struct
import sys
import time

from replay_corpus import PARALLEL, arguments, pieces, provider_message
from rig import KEY, Gateway, ReplayServer, unpack

APIS = ("openai.embeddings", "gemini.embed", "vertex.predict", "cohere.embed", "bedrock.invoke")
PROVIDERS = {"gemini": "google"}
# Members that are the gateway's own extensions, and would route the request.
EXTENSIONS = ("models", "provider", "route", "fallbacks", "preset")


def main():
    options, started = arguments(), time.monotonic()
    folder = unpack(options.corpus, options.work)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        entries = [entry for entry in json.load(file)["exchanges"] if entry["operation"] == "embeddings"]
    entries = [entry for entry in entries if options.only in json.dumps(entry)]
    unknown = {entry["api"] for entry in entries} - set(APIS)
    if unknown:
        print(f"no reader for {sorted(unknown)}")
        return 1
    names = sorted({PROVIDERS.get(entry["provider"], entry["provider"]) for entry in entries})
    passes = ["base64" if name == "crlf" else name for name in options.passes.split(",")]
    counts, failures = collections.Counter(), []
    with ReplayServer(options.corpus, folder) as replay, Gateway(options.gateway, replay.url, options.work, names) as gateway:
        for name in passes:
            with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
                results = list(pool.map(lambda entry, name=name: one(folder, replay, gateway, entry, name), entries))
            for entry, found in zip(entries, results):
                counts[name, "failed" if found else "passed"] += 1
                if found:
                    failures.append((entry["file"], name, entry["fidelity"], found))
        gateway.check_alive()
    for file, name, fidelity, found in failures[: options.show]:
        print(f"FAILED {file} ({name}, {fidelity})")
        for what, detail in found[:3]:
            print(f"    {what}: {detail[:400]}")
    for (name, outcome), count in sorted(counts.items()):
        print(f"pass {name}: {count} {outcome}")
    print(f"{time.monotonic() - started:.0f} s\n{sum(counts.values()) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures or not counts else 0


def one(folder, replay, gateway, entry, name):
    """Replays one exchange; returns its differences: (what, detail)."""
    try:
        with open(os.path.join(folder, entry["file"]), encoding="utf-8") as file:
            exchange = json.load(file)
        return compare(replay, gateway, entry, exchange, name)
    except Exception as problem:  # a broken check is a failure of this exchange, not the end of the run
        return [("harness", repr(problem))]


def compare(replay, gateway, entry, exchange, name):
    recorded = exchange["response"].get("body_text", "")
    wanted, tokens = read(entry["api"], exchange) if entry["status"] == 200 else ([], None)
    suffix = ("-chop1" if len(recorded) <= 4_000 else "-chop97") if name == "chop" else "-tagpacked" if name == "base64" else ""
    request = ask(entry, exchange, suffix, len(wanted))
    if name == "base64":
        request["encoding_format"] = "base64"
    status, _, body, cut = gateway.ask("/v1/embeddings", request)
    if entry["status"] != 200:
        return refusal(entry, recorded, status, body)
    if status != 200 or cut:
        return [("status", f"{status}, cut={cut}: {body[:300]!r}")]
    answer, found = json.loads(body), []
    own = entry["api"] == "openai.embeddings"
    encoding = request.get("encoding_format") or "float"
    as_asked = all(isinstance(item, str) == (encoding == "base64") for item in wanted)
    if own and as_asked and entry["provider"] != "perplexity" and body.decode() != recorded:
        found.append(("bytes", f"{len(body)} for {len(recorded)}"))
    found += vector_differences(entry, wanted, [item["embedding"] for item in answer["data"]], encoding)
    if [item["index"] for item in answer["data"]] != list(range(len(wanted))):
        found.append(("index", str([item["index"] for item in answer["data"]])))
    if tokens is not None and answer["usage"].get("prompt_tokens", answer["usage"]["total_tokens"]) != tokens:
        found.append(("usage", f"{answer['usage']} for {tokens}"))
    return found + sent_differences(entry, replay.received(entry["id"] + suffix.removeprefix("-chop1")), request, own, name)


def ask(entry, exchange, suffix, count):
    """The client's request for an exchange, in OpenAI's form: the recorded one, or what it asks in its own."""
    body = exchange["request"].get("body")
    body = body if isinstance(body, dict) else {}
    request = {}
    if entry["api"] == "openai.embeddings":
        request = {name: value for name, value in body.items() if name not in EXTENSIONS}
        request.setdefault("input", ["Say it again."] * max(count, 1))
    else:
        texts = inputs(entry["api"], body)
        request["input"] = texts if len(texts) == count or count == 0 else ["Say it again."] * count
        types = body.get("embedding_types") or []
        request |= {"embedding_types": types} if len(types) == 1 else {}
    prefix = ""
    if entry["provider"] == "bedrock":
        family = "nova-2-multimodal-embeddings-" if "nova" in entry["model"] else ""
        prefix = ("cohere." if "cohere" in entry["model"] else "amazon.") + family
    elif entry["provider"] == "vertex":
        prefix = "gemini-embedding-2-" if entry["api"] == "gemini.embed" else "text-embedding-00-"
    provider = PROVIDERS.get(entry["provider"], entry["provider"])
    request["model"] = f"{provider}/{prefix}replay-{entry['id']}{suffix}"
    request["extra"] = {"retry": 0}
    if entry["status"] != 200:
        # The key of the request, not one of the pool, which a recorded 401 would take out of service.
        request["extra"]["byok"] = "byok-of-this-request"
    return request


def inputs(api, body):
    """The texts of a request in a provider's form."""
    if api == "gemini.embed":
        found = [item["content"] for item in body.get("requests", [])] or [body.get("content", {})]
        texts = ["".join(part.get("text", "") for part in content.get("parts", [])) for content in found]
    elif api == "vertex.predict":
        texts = [item.get("content", "") for item in body.get("instances", [])]
    elif api == "cohere.embed":
        texts = body.get("texts") or []
    else:
        nova = body.get("singleEmbeddingParams", {}).get("text", {}).get("value")
        texts = body.get("texts") or [text for text in (body.get("inputText"), nova) if text]
    return [text if isinstance(text, str) and text else "Say it again." for text in texts]


def read(api, exchange):
    """The vectors of a recorded answer, as they are written there, and the tokens of the input, where it counts them."""
    body = json.loads(exchange["response"]["body_text"])
    headers = {name.lower(): value for name, value in exchange["response"]["headers"].items()}
    if api == "openai.embeddings":
        usage = body.get("usage") or {}
        items = sorted(body["data"], key=lambda item: item["index"])
        return [item["embedding"] for item in items], usage.get("prompt_tokens", usage.get("total_tokens"))
    if api == "gemini.embed":
        vectors = body.get("embeddings") or [body["embedding"]]
        return [vector["values"] for vector in vectors], (body.get("usageMetadata") or {}).get("promptTokenCount")
    if api == "vertex.predict":
        found = [item["embeddings"] for item in body["predictions"]]
        return [item["values"] for item in found], sum(item["statistics"]["token_count"] for item in found)
    counted = headers.get("x-amzn-bedrock-input-token-count")
    counted = int(counted[0] if isinstance(counted, list) else counted) if counted else None
    if "inputTextTokenCount" in body:
        return [body["embedding"]], body["inputTextTokenCount"]
    vectors = body["embeddings"]
    if isinstance(vectors, dict):
        vectors = next(iter(vectors[kind] for kind in ("float", *vectors) if kind in vectors))
    vectors = [item["embedding"] if isinstance(item, dict) else item for item in vectors]
    billed = ((body.get("meta") or {}).get("billed_units") or {}).get("input_tokens")
    return vectors, counted if billed is None else billed


def numbers(vector, signed_bytes=False):
    if isinstance(vector, list):
        return vector
    packed = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(packed)}b" if signed_bytes else f"<{len(packed) // 4}f", packed))


def vector_differences(entry, wanted, had, encoding):
    if len(wanted) != len(had):
        return [("vectors", f"{len(had)} for {len(wanted)}")]
    for place, (expected, vector) in enumerate(zip(wanted, had)):
        if isinstance(vector, str) != (encoding == "base64"):
            return [("encoding", f"vector {place} is not as {encoding}")]
        expected, got = numbers(expected, entry["provider"] == "perplexity"), numbers(vector)
        # Base64 is of 32-bit floats, so one side may be rounded to those.
        near = [abs(left - right) <= 1e-6 * max(1.0, abs(left)) for left, right in zip(expected, got)]
        if len(expected) != len(got) or not all(near) or (encoding == "float" and isinstance(wanted[place], list) and expected != got):
            return [("vectors", f"vector {place}: {str(got)[:120]} for {str(expected)[:120]}")]
    return []


def sent_differences(entry, received, request, own, name):
    """A provider of OpenAI's form gets the client's body, but for the model's prefix and the gateway's own members."""
    if KEY in json.dumps(received):
        return [("secrets", "the gateway's key reached the provider")]
    if not own or name != "whole" or entry["provider"] == "perplexity":
        return []
    if len(received) != 1:
        return [("calls upstream", f"{len(received)} instead of 1")]
    wanted = {member: value for member, value in request.items() if member != "extra"}
    wanted["model"] = wanted["model"].split("/", 1)[1]
    if entry["provider"] in ("mistral", "voyage") and "dimensions" in wanted:
        wanted["output_dimension"] = wanted.pop("dimensions")
    seen = received[0]["body"]
    return [] if seen == wanted else [("sent", f"{str(seen)[:300]} for {str(wanted)[:300]}")]


def refusal(entry, recorded, status, body):
    """What differs when the provider refused: the client has to get the provider's message and a fitting status."""
    said = json.loads(body)["error"]["message"]
    wanted, found = entry["status"], []
    fits = status == wanted or (wanted >= 500 and status >= 500) or (wanted == 400 and status == 404 and "model" in said.lower())
    # Some say with a 500 that the request is wrong.
    fits = fits or (wanted == 500 and status == 400 and "too large" in said)
    if not fits:
        found.append(("status", f"{status} for the provider's {wanted}: {said[:200]!r}"))
    message = provider_message(json.loads(recorded)).split("provided:")[0]
    lost = [piece for piece in pieces(message) if piece not in " ".join(said.split())]
    return found + ([("message", f"{lost[0]!r} is not in {said[:300]!r}")] if lost else [])


if __name__ == "__main__":
    sys.exit(main())
