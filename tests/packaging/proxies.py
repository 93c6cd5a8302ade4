#!/usr/bin/env python3
"""Streams through nginx and Caddy with the configurations in conf/: the first words arrive while the provider is still at it.

The simulated provider stalls after its first words, so a proxy that collects an answer before it passes it on shows nothing for a minute.
A proxy that is not installed is said to be untested. Standard library only.
"""

import contextlib
import http.client
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "sdk"))

from gateway import child, free_port, running  # noqa: E402  (found by the path above)

PATIENCE = 40


def nginx(folder, gateway, port):
    """Its configuration of the documents, with other ports and a certificate of the test's."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=llm.example.com"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    text = (ROOT / "conf/nginx.conf").read_text(encoding="utf-8")
    for place, value in (
        ("/etc/ssl/certs/llm.example.com.pem", str(certificate)),
        ("/etc/ssl/private/llm.example.com.key", str(key)),
        ("127.0.0.1:3001", gateway),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("listen [::]:443 ", f"listen [::1]:{port} "),
    ):
        assert place in text, place
        text = text.replace(place, value)
    places = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main = f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {places} {text} }}"
    (folder / "nginx.conf").write_text(main, encoding="utf-8")
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf"], True


def caddy(folder, gateway, port):
    """Its configuration of the documents, with another address and without a certificate."""
    text = (ROOT / "conf/Caddyfile").read_text(encoding="utf-8")
    text = text.replace("\nconsole.llm.example.com {", f"\nhttp://:{free_port()} {{").replace("\nllm.example.com {", f"\nhttp://:{port} {{")
    text = "{\n\tadmin off\n}\n" + text.replace("127.0.0.1:3001", gateway)
    (folder / "Caddyfile").write_text(text, encoding="utf-8")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"], False


def connected(port, is_tls):
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        assert time.monotonic() < deadline, "the proxy did not come up"
        time.sleep(0.05)
    if is_tls:
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=ssl._create_unverified_context())
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)


def ask(connection, key, model, stream):
    body = {"model": model, "messages": [{"role": "user", "content": "one two three four"}], "stream": stream}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "host": "llm.example.com"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, f"{answer.status}: {answer.read()}"
    return answer


def streams(gateway, configure):
    """A whole answer, then the beginning of one that stalls. The read fails when nothing comes in PATIENCE."""
    with tempfile.TemporaryDirectory() as name:
        port = free_port()
        command, is_tls = configure(pathlib.Path(name), gateway.url.removeprefix("http://").removesuffix("/v1"), port)
        with child(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            connection = connected(port, is_tls)
            answer = json.load(ask(connection, gateway.key, "openai/sim-ok", False))
            assert answer["choices"][0]["message"]["content"], answer
            stalling = ask(connection, gateway.key, "openai/sim-stall-after-tokens", True)
            while b"one" not in (line := stalling.readline()):
                assert line, "the stream ended without a word"
            connection.close()


def main():
    with running() as gateway:
        for configure in (nginx, caddy):
            if shutil.which(configure.__name__, path="/usr/sbin:/usr/bin:/usr/local/bin:/bin"):
                streams(gateway, configure)
                print(f"streams through {configure.__name__}: ok", flush=True)
            else:
                print(f"streams through {configure.__name__}: NOT TESTED (it is not installed)", flush=True)


if __name__ == "__main__":
    main()
