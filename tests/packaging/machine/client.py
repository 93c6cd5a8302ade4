"""A client of the gateway in the machine: asks once, or for as long as it is wanted, and says what it saw. Standard library only.

    client.py ask KEY MODEL [WORDS]                          one request; prints the answer's text
    client.py stream KEY MODEL WORDS                         the same, streamed
    client.py load KEY --streams N --words N --rate N --until FILE --ids FILE
"""

import argparse
import asyncio
import json
import pathlib
import sys
import time

ADDRESS = ("127.0.0.1", 3001)


async def ask(key, model, words, stream):
    """Asks on a connection of its own. Gives the request's id; an answer that is not whole is an error."""
    text = " ".join(str(number) for number in range(words))
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}).encode()
    reader, writer = await asyncio.open_connection(*ADDRESS)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.read(-1)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    if " 200" not in status:
        raise RuntimeError(f"{status}: {body[:300].decode(errors='replace')}")
    said = streamed(body) if stream else json.loads(body)["choices"][0]["message"]["content"]
    if said != text:
        raise RuntimeError(f"cut after {len(said)} of {len(text)} characters: {body[-300:].decode(errors='replace')}")
    return headers["x-request-id"]


def unchunked(body):
    """The content of a chunked body; one that does not end is an error."""
    content = b""
    while True:
        size, found, rest = body.partition(b"\r\n")
        if not found:
            raise RuntimeError("the body breaks off")
        length = int(size, 16)
        if length == 0:
            return content
        content, body = content + rest[:length], rest[length + 2 :]


def streamed(body):
    """The text of a stream, which has to come to its end."""
    events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    if not events or events[-1].strip() != "[DONE]":
        raise RuntimeError("the stream has no end")
    pieces = [json.loads(event) for event in events[:-1]]
    return "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces if piece["choices"])


async def load(args):
    """Streams that last, and requests at a steady rate beside them, until a file is there; then all come to their end."""
    begun, ids, failures = time.monotonic(), [], []

    async def one(model, words, stream):
        try:
            ids.append(await ask(args.key, model, words, stream))
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            failures.append(f"{'stream' if stream else 'request'}: {error!r}")

    tasks = [asyncio.create_task(one("house/sim-slow", args.words, True)) for _ in range(args.streams)]
    requests = 0
    until = pathlib.Path(args.until)
    while not until.exists():
        due = int((time.monotonic() - begun) * args.rate)
        for _ in range(due - requests):
            tasks.append(asyncio.create_task(one("house/sim-ok", 3, False)))
        requests = max(requests, due)
        await asyncio.sleep(0.01)
    seconds = time.monotonic() - begun
    under_way = sum(not task.done() for task in tasks[: args.streams])
    await asyncio.gather(*tasks)
    pathlib.Path(args.ids).write_text("\n".join(ids) + "\n")
    said = {"streams": args.streams, "still_streaming": under_way, "requests": requests, "per_second": round(requests / seconds)}
    print(json.dumps({**said, "failures": len(failures), "first": failures[:3]}))
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("ask", "stream"):
        command = commands.add_parser(name)
        command.add_argument("key")
        command.add_argument("model")
        command.add_argument("words", type=int, nargs="?", default=3)
    command = commands.add_parser("load")
    command.add_argument("key")
    for name in ("streams", "words", "rate"):
        command.add_argument(f"--{name}", type=int, required=True)
    for name in ("until", "ids"):
        command.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    if args.command == "load":
        return asyncio.run(load(args))
    try:
        print(asyncio.run(ask(args.key, args.model, args.words, args.command == "stream")))
    except (OSError, RuntimeError) as error:
        print(repr(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
