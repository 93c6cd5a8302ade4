#!/usr/bin/env bash
# Installs programs of cargo's that packaging needs, below target/tools:   tools.sh cargo-deb
# Those that are on the machine already are used as they are. The versions are the latest: they are no part of what is built.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in "$@"; do
    if ! command -v "$tool" >/dev/null && [ ! -x "target/tools/bin/$tool" ]; then
        cargo install --quiet --locked --root target/tools "$tool"
    fi
done
