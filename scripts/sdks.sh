#!/usr/bin/env bash
# Installs the official SDKs that the tests use, as pinned, below target/ and in node_modules beside the locks. Does nothing when they are there.
#   sdks.sh [frameworks]      with it also LangChain, LlamaIndex and the AI SDK
set -euo pipefail
cd "$(dirname "$0")/.."

pins=tests/sdk/python/requirements.txt
venv=target/sdk-venv
if ! cmp -s "$pins" "$venv/pins.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
    cp "$pins" "$venv/pins.txt"
fi

for folder in tests/sdk/node sdk/node; do
    if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/lock.json"; then
        npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error
        cp "$folder/package-lock.json" "$folder/node_modules/lock.json"
    fi
done

# Large, and of interest to one page of the documents alone.
if [ "${1:-}" = frameworks ]; then
    pins=tests/snippets/frameworks.txt
    venv=target/frameworks-venv
    if ! cmp -s "$pins" "$venv/pins.txt"; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
        cp "$pins" "$venv/pins.txt"
    fi
    lock=tests/snippets/package-lock.json
    if ! cmp -s "$lock" tests/snippets/node_modules/lock.json; then
        npm ci --prefix tests/snippets --no-audit --no-fund --loglevel=error
        cp "$lock" tests/snippets/node_modules/lock.json
    fi
fi
