#!/usr/bin/env bash
# The Debian package of a binary that is there:   deb.sh BINARY [VERSION]
# cargo-deb takes what it packs from target/release of a target folder; one is made for it, so that any build can be packed.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1 version=${2:-}

stage=target/package/cargo
mkdir -p "$stage/release"
strip --strip-unneeded -o "$stage/release/orbyt" "$binary"
mkdir -p target/debian
# Packages of other versions are the tests': they need not be small.
CARGO_TARGET_DIR=$stage cargo deb --locked --no-build --no-strip --output target/debian/ ${version:+--fast --deb-version "$version"}
