#!/usr/bin/env python3
"""Asks a running gateway's admin API what its OpenAPI description allows, and more: no 5xx, no answer that the description does not have.

  run.py [MORE ARGUMENTS OF SCHEMATHESIS…]

Needs schemathesis beside this Python (scripts/sdks.sh). The seed is fixed, so that what fails here fails there.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sdk"))

import gateway

TOKEN = "admin-token-of-schemathesis"
# Every answer has a status, a content type and a body as described; what is not described is refused.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
# The gateway logs in nobody here (guesses would close the door), and must not lose the token that it is asked with.
LEFT_OUT = ["/api/v1/session"]


def main():
    console = f"127.0.0.1:{gateway.free_port()}"
    with gateway.running(ORBYT_CONSOLE_LISTEN=console, ORBYT_ADMIN_TOKEN=TOKEN):
        command = [
            pathlib.Path(sys.executable).parent / "schemathesis",
            "--config-file",
            pathlib.Path(__file__).with_name("schemathesis.toml"),
            "run",
            f"http://{console}/api/openapi.json",
            "--header",
            f"Authorization: Bearer {TOKEN}",
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "5",
            "--seed",
            "1",
            "--generation-database",
            "none",
            "--warnings",
            "off",
            *(part for path in LEFT_OUT for part in ("--exclude-path", path)),
            *sys.argv[1:],
        ]
        return subprocess.run([str(part) for part in command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
