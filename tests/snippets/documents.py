#!/usr/bin/env python3
"""Runs the code of the README and of docs/ as it stands there, against the gateway and simulated providers.

  documents.py [PAGE…]      by default all pages but docs/frameworks.md, whose packages are installed by `make test-frameworks` alone

`python` and `js` blocks run with the address and the keys that they name replaced, and what prints has to print what the simulated provider
says to "Hello!". `toml` blocks are checked by `orbyt check`, each line of an `sh` block that calls orbyt by asking the command line what it takes, and
curl runs. An `sh` block that sets variables is a configuration, and checked like one. What is in no such block is not run.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "sdk"))

from gateway import TARGET, running  # noqa: E402  (found by the path above)

ORBYT = str(TARGET / "orbyt")
FRAMEWORKS = ROOT / "docs" / "frameworks.md"
# Files that are of other programs, by their first line.
OTHERS = ("# ~/.codex/config.toml",)


def blocks(page):
    """The language and the text of each block of code."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def placed(gateway, text):
    """A snippet with the address and the keys of the test in the place of those that it names."""
    text = text.replace("http://127.0.0.1:3001/v1", gateway.url).replace("http://127.0.0.1:3001", gateway.url.removesuffix("/v1"))
    text = text.replace("YOUR_GATEWAY_KEY", gateway.key)
    return re.sub(r"YOUR_(\w+)_KEY", lambda name: {"OPENAI": "sk-proj-of-the-user", "ANTHROPIC": "sk-ant-of-the-user"}[name[1]], text)


def program(gateway, page, language, text):
    """Runs a program; it prints the answer."""
    with tempfile.TemporaryDirectory() as folder:
        if language == "python":
            command = [sys.executable, "-c", placed(gateway, text)]
        else:
            modules = pathlib.Path(folder, "node_modules")
            if page == FRAMEWORKS:
                modules.symlink_to(ROOT / "tests/snippets/node_modules")
            else:
                modules.mkdir()
                (modules / "openai").symlink_to(ROOT / "tests/sdk/node/node_modules/openai")
                (modules / "orbyt").symlink_to(ROOT / "sdk/node")
            pathlib.Path(folder, "snippet.mjs").write_text(placed(gateway, text), encoding="utf-8")
            command = ["node", "--preserve-symlinks", "snippet.mjs"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "sdk/python/src")}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"it ended with {done.returncode}\n{done.stdout}{done.stderr}"
    # What prints nothing defines something.
    expected = "Hello!" if "print(" in text or "console.log(" in text else ""
    assert done.stdout.strip() == expected, f"it printed {done.stdout!r}\n{done.stderr}"


def configuration(text, variables=()):
    """Checks a configuration; the secrets that it names are there, whatever they are called."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "orbyt.toml")
        # A model is of the provider before it.
        before = '[[provider]]\nid = "openai"\n' if text.startswith("[[provider.") else ""
        file.write_text(before + text, encoding="utf-8")
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "ORBYT_DATA_DIR": f"{folder}/data", **dict(variables)}
        for provider in ("OPENAI", "ANTHROPIC", "GEMINI"):
            environment.setdefault(f"{provider}_API_KEY", "a-key")
        for name in re.findall(r'env = "(\w+)"', text):
            environment.setdefault(name, "access:secret" if "AWS" in name else f"secret-of-{name.lower()}")
        for name in re.findall(r'(?:file|certificate|key) = "([^"/]+)"', text):
            pathlib.Path(folder, name).write_text(f"secret-of-{name}", encoding="utf-8")
        environment.setdefault("CREDENTIALS_DIRECTORY", folder)
        for name in re.findall(r'credential = "(\w+)"', text):
            pathlib.Path(folder, name).write_text(f"https://{name.replace('_', '-')}.example/secret", encoding="utf-8")
        done = subprocess.run([ORBYT, "check", "-c", str(file)], env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def commands(gateway, text):
    """Checks the lines of a shell: what orbyt is asked for exists, what curl asks for is answered, variables are known."""
    text = placed(gateway, text).replace("\\\n", " ")
    for name, value in (("$ORBYT_API_KEY", gateway.key), ("$KEY", gateway.key), ("$ORBYT/v1", gateway.url)):
        text = text.replace(name, value)
    # A JSON text goes over several lines.
    lines = re.findall(r"(?:'[^']*'|[^\n'])+", re.sub(r"; (?=orbyt )", "\n", text))
    variables = {}
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and words[0] in ("sudo", "-u"):
            words = words[1:] if words[0] == "sudo" else words[2:]
        if words and words[0] == "orbyt":
            known(words[1:])
        elif words and words[0] == "curl" and "/v1/chat" in line:
            done = subprocess.run(["curl", "-sS", *words[1:]], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0 and '"choices"' in done.stdout, f"{done.stdout}{done.stderr}"
        elif words and re.fullmatch(r"((GATEWAY|ORBYT)_\w+|REDIS_URL|DATABASE_URL)=.*", words[0]):
            variables.update([words[0].split("=", 1)])
    if variables:
        configuration("", variables)


def known(words):
    """Whether the command line takes these words: with --help behind them nothing is done, and options that there are not are refused."""
    words = words[: next((at for at, word in enumerate(words) if word in ("<", ">", "|", ">>", "&&")), len(words))]
    done = subprocess.run([ORBYT, *words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"orbyt {' '.join(words)}: {done.stderr}"
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout, f"orbyt {' '.join(words)} has no {option}:\n{done.stdout}"


def main():
    named = [pathlib.Path(name).resolve() for name in sys.argv[1:]]
    pages = named or [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page != FRAMEWORKS)]
    failed = 0
    with running() as gateway:
        for page in pages:
            for language, text in blocks(page):
                try:
                    if language in ("python", "js"):
                        program(gateway, page, language, text)
                    elif language == "toml" and not text.startswith(OTHERS):
                        configuration(text)
                    elif language == "sh":
                        commands(gateway, text)
                except AssertionError as problem:
                    failed += 1
                    print(f"{page.relative_to(ROOT)}: {language} block that begins {text.splitlines()[0]!r}: {problem}", flush=True)
            print(f"{page.relative_to(ROOT)}: {len(blocks(page))} blocks", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
