#!/usr/bin/env bash
# Everything that is installed beside the binary and made from it or for it:   assets.sh BINARY FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$1 folder=$2

rm -rf "$folder"
mkdir -p "$folder/man" "$folder/completions"
"$binary" man --dir "$folder/man"
gzip -9nf "$folder"/man/*.1
"$binary" completions bash >"$folder/completions/orbyt"
"$binary" completions zsh >"$folder/completions/_orbyt"
"$binary" completions fish >"$folder/completions/orbyt.fish"
# The service's state is where `orbyt keys` and its like find it too, which are not started by systemd.
sed 's|^#data_dir = .*|data_dir = "/var/lib/orbyt"|' conf/orbyt.toml >"$folder/orbyt.toml"
grep -q '^data_dir = ' "$folder/orbyt.toml"
scripts/notices.py >"$folder/third-party.txt"
