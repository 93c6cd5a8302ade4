#!/usr/bin/env bash
# What has to be on the machine, by purpose:   deps.sh build | deps.sh test
# What is missing is installed with apt where that is possible (as root, or with a sudo that asks nothing); else it is named.
set -euo pipefail

missing=()
need() { # need COMMAND PACKAGE…: the packages that bring a command
    command -v "$1" >/dev/null || missing+=("${@:2}")
}

need cc build-essential
need cmake cmake
if [ "${1:-build}" = test ]; then
    need curl curl
    need redis-server redis-server
    # Debian keeps its programs out of the path.
    if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
        missing+=(postgresql)
    fi
    need node nodejs npm
    need npm npm
    # The browser of the console's tests. Ubuntu's package of that name is a snap, which is of no use without its daemon.
    if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && ! command -v chromium-browser >/dev/null && [ -z "${CHROMIUM:-}" ]; then
        missing+=(chromium)
    fi
    need python3 python3 python3-venv
    if command -v python3 >/dev/null && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3-venv)
    fi
fi

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        echo "Please install: ${missing[*]}" >&2
        exit 1
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    echo "Please install Rust 1.95 or newer (https://rustup.rs)." >&2
    exit 1
fi
