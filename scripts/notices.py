#!/usr/bin/env python3
"""Prints the licences of all crates that are linked into the binary, as their authors want them to come with it.

Crates with the same text share it. Standard library only.
"""

import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")


def linked(metadata):
    """The packages that the binary is made of: no tests, and nothing that only runs while it is built."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting, found = [metadata["resolve"]["root"]], set()
    while waiting:
        for edge in nodes[waiting.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in edge["dep_kinds"])
            if is_linked and edge["pkg"] not in found:
                found.add(edge["pkg"])
                waiting.append(edge["pkg"])
    return [package for package in metadata["packages"] if package["id"] in found]


def texts(package):
    """What the crate says about its licence, one text a file; several licences to choose from are all kept."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.upper().startswith(NAMES))
    return [path.read_text(encoding="utf-8", errors="replace").strip() for path in files if path.suffix not in (".rs", ".toml")]


def main():
    # The crates of other systems are not downloaded, and not linked.
    host = next(line.split()[1] for line in run("rustc", "-vV").splitlines() if line.startswith("host: "))
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host))
    owners, without = collections.defaultdict(list), []
    for package in sorted(linked(metadata), key=lambda package: package["name"]):
        name = f"{package['name']} {package['version']} ({package['license']})"
        found = texts(package)
        if not found:
            by = f", by {', '.join(package['authors'])}" if package["authors"] else ""
            without.append(f"  {name}{by}: {package['repository'] or 'no repository named'}")
        for text in found:
            owners[text].append(name)
    print("Orbyt is linked with the following crates. Their licences, with the crates that each is of:\n")
    for text, names in owners.items():
        print("=" * 100, *names, "=" * 100, "", text, "", sep="\n")
    if without:
        print("=" * 100, "Without a text of their own:", *without, sep="\n")


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
