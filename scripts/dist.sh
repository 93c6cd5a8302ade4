#!/usr/bin/env bash
# An archive for machines without a package manager:   dist.sh BINARY ASSETS FOLDER
# Beside it: checksums, and what the binary is made of (SBOM, CycloneDX).
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1 assets=$2 folder=$3
name=$(basename "$folder")

rm -rf "$folder"
mkdir -p "$folder"
strip --strip-unneeded -o "$folder/orbyt" "$binary"
cp -r "$assets/man" "$assets/completions" "$assets/third-party.txt" README.md CHANGELOG.md LICENSE docs conf systemd "$folder/"
python3 scripts/sbom.py >"$folder.sbom.json"
cd "$(dirname "$folder")"
# The same input gives the same archive: names in order, nobody's user, the time of the last commit.
when=$(git -C "$OLDPWD" log -1 --format=%ct 2>/dev/null || echo 0)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" -cf - "$name" | gzip -9n >"$name.tar.gz"
sha256sum "$name.tar.gz" "$name.sbom.json" >"$name.sha256"
rm -rf "$name"
cat "$name.sha256"
