#!/usr/bin/env python3
"""Starts simulated providers and the gateway in front of them, for tests that come from outside.

  gateway.py COMMAND…     runs a command with ORBYT_URL, ORBYT_KEY, ORBYT_SIM_CALLS, ORBYT_DATA and ORBYT_BINARY in its environment, and for
                          tests of the console ORBYT_CONSOLE_URL, ORBYT_ADMIN_TOKEN and ORBYT_PYTHON

Standard library only. The binaries are those that `cargo build --bins --examples` makes; ORBYT_TARGET names another folder.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("ORBYT_TARGET") or ROOT / "target" / "debug")
KEY = "gateway-sk-12345"
ADMIN_TOKEN = "admin-token-of-the-tests"


@dataclasses.dataclass
class Running:
    """A gateway that runs."""

    # For an SDK: with `/v1`.
    url: str
    # A gateway key.
    key: str
    # Where the simulated providers list the calls that they got, as JSON.
    sim_calls: str
    # The console, without a path.
    console: str
    # What the gateway logs to.
    log: pathlib.Path
    # Its data directory.
    data: pathlib.Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(**environment):
    """Simulated providers and a gateway; `environment` is added to the gateway's, an empty value takes one out."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sims = stack.enter_context(child([TARGET / "examples" / "sim"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        offer = json.loads(sims.stdout.readline())
        port, console = free_port(), free_port()
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "ORBYT_LISTEN": f"127.0.0.1:{port}",
            "ORBYT_CONSOLE_LISTEN": f"127.0.0.1:{console}",
            "ORBYT_DEVTOOLS_LISTEN": "off",
            "ORBYT_DATA_DIR": str(folder / "data"),
            "ORBYT_API_KEYS": KEY,
            "ORBYT_ADMIN_TOKEN": ADMIN_TOKEN,
            "OPENAI_API_KEY": offer["openai"]["key"],
            "OPENAI_BASE_URL": offer["openai"]["base_url"],
            "ANTHROPIC_API_KEY": offer["anthropic"]["key"],
            "ANTHROPIC_BASE_URL": offer["anthropic"]["base_url"],
            "GEMINI_API_KEY": offer["google"]["key"],
            "GEMINI_BASE_URL": offer["google"]["base_url"],
            "COHERE_API_KEY": offer["cohere"]["key"],
            "COHERE_BASE_URL": offer["cohere"]["base_url"],
            "OLLAMA_API_KEY": offer["ollama"]["key"],
            # With `/api` it is Ollama's own format, without it the OpenAI-compatible one.
            "OLLAMA_BASE_URL": offer["ollama"]["base_url"] + "/api",
            "AWS_BEARER_TOKEN_BEDROCK": offer["bedrock"]["key"],
            "BEDROCK_BASE_URL": offer["bedrock"]["base_url"],
            **environment,
        }
        variables = {name: value for name, value in variables.items() if value}
        log = folder / "gateway.log"
        output = stack.enter_context(open(log, "w", encoding="utf-8"))
        gateway = stack.enter_context(child([TARGET / "orbyt", "serve"], env=variables, cwd=folder, stdout=output, stderr=output))
        try:
            wait_until_ready(gateway, port)
        except RuntimeError as problem:
            raise RuntimeError(f"{problem}\n{log.read_text(encoding='utf-8')}") from None
        url, console = f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{console}"
        yield Running(url, KEY, offer["calls"], console, log, folder / "data")


@contextlib.contextmanager
def child(command, **options):
    """A process that ends with the block."""
    process = subprocess.Popen([str(part) for part in command], **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(process, port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the gateway ended with status {process.returncode}")
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError("the gateway was not ready in 30 s")


def main():
    with running() as gateway:
        told = {
            "ORBYT_URL": gateway.url,
            "ORBYT_KEY": gateway.key,
            "ORBYT_SIM_CALLS": gateway.sim_calls,
            "ORBYT_DATA": str(gateway.data),
            "ORBYT_BINARY": str(TARGET / "orbyt"),
        }
        told |= {"ORBYT_CONSOLE_URL": gateway.console, "ORBYT_ADMIN_TOKEN": ADMIN_TOKEN, "ORBYT_PYTHON": sys.executable}
        return subprocess.run(sys.argv[1:], env={**os.environ, **told}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
