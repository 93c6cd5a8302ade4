#!/usr/bin/env bash
# Installs the official SDKs that the tests use, as pinned, below target/ and tests/sdk/node/node_modules. Does nothing when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=tests/sdk/python/requirements.txt
venv=target/sdk-venv
if ! cmp -s "$pins" "$venv/pins.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
    cp "$pins" "$venv/pins.txt"
fi

lock=tests/sdk/node/package-lock.json
modules=tests/sdk/node/node_modules
if ! cmp -s "$lock" "$modules/lock.json"; then
    npm ci --prefix tests/sdk/node --no-audit --no-fund --loglevel=error
    cp "$lock" "$modules/lock.json"
fi
