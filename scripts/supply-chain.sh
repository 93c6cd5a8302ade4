#!/usr/bin/env bash
# Licences, sources and bans of the dependency tree, by deny.toml; advisories where their database can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

if cargo deny --version >/dev/null 2>&1; then
    cargo deny check licenses bans sources
    if cargo deny fetch db; then
        cargo deny check advisories
    else
        echo "advisories: NOT CHECKED (their database could not be fetched)"
    fi
else
    python3 scripts/licences.py
    echo "advisories: NOT CHECKED (needs cargo-deny and its database from the network: cargo install cargo-deny)"
fi
