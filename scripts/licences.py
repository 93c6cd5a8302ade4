#!/usr/bin/env python3
"""Checks every crate of the dependency tree against `deny.toml`: its licence is allowed, and it comes from the registry.

Stands in for `cargo deny check licenses sources` where that is not installed. Standard library only.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def allowed(expression, licences):
    """Whether an SPDX expression (or the older form with slashes) can be met with these licences alone."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either():
        met = both()
        while peek() == "OR":
            take()
            met = both() or met
        return met

    def both():
        met = one()
        while peek() == "AND":
            take()
            met = one() and met
        return met

    def one():
        if peek() == "(":
            take()
            met = either()
            take()
            return met
        name = take()
        if peek() == "WITH":
            take()
            name += " WITH " + take()
        return name in licences

    return either()


def check_the_check():
    """The reader of expressions, tried on some."""
    for expression, met in [
        ("MIT", True),
        ("GPL-3.0", False),
        ("GPL-3.0 OR MIT", True),
        ("MIT AND GPL-3.0", False),
        ("(GPL-3.0 OR MIT) AND ISC", True),
        ("GPL-3.0/MIT", True),
        ("ISC WITH X-exception", False),
    ]:
        assert allowed(expression, {"MIT", "ISC"}) == met, expression


def main():
    check_the_check()
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)["packages"]
    complaints = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not package["license"] or not allowed(package["license"], set(rules["licenses"]["allow"])):
            complaints.append(f"{name}: licence {package['license']}")
        if package["source"] and not package["source"].startswith("registry+"):
            complaints.append(f"{name}: comes from {package['source']}")
        if not package["source"]:
            complaints += [f"{name}: any version of {it['name']}" for it in package["dependencies"] if it["req"] == "*"]
    print("\n".join(complaints) or f"licences and sources of {len(packages)} crates: fine")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
