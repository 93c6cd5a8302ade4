#!/usr/bin/env python3
"""Prints what the binary is made of, as a CycloneDX 1.5 document: each crate that is linked, its licence, its checksum, what it needs.

The same Cargo.lock gives the same document: it has no serial number and no time. Standard library only.
"""

import json
import sys
import tomllib

from notices import ROOT, linked, run


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums):
    """A crate, by the names of the format."""
    said = {"type": "library", "bom-ref": reference(package), "name": package["name"], "version": package["version"]}
    said["purl"] = reference(package)
    if package["license"]:
        # The older form of "or".
        said["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum := checksums.get((package["name"], package["version"])):
        said["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        said["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return said


def main():
    host = next(line.split()[1] for line in run("rustc", "-vV").splitlines() if line.startswith("host: "))
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    checksums = {(crate["name"], crate["version"]): crate.get("checksum") for crate in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = packages[metadata["resolve"]["root"]]
    crates = sorted(linked(metadata), key=lambda package: (package["name"], package["version"]))
    known = {crate["id"] for crate in crates} | {root["id"]}
    needs = [
        {
            "ref": reference(packages[node["id"]]),
            "dependsOn": sorted({reference(packages[edge["pkg"]]) for edge in node["deps"] if edge["pkg"] in known}),
        }
        for node in metadata["resolve"]["nodes"]
        if node["id"] in known
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(root, checksums), "type": "application"}},
        "components": [component(crate, checksums) for crate in crates],
        "dependencies": sorted(needs, key=lambda entry: entry["ref"]),
    }
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    sys.exit(main())
