#!/usr/bin/env bash
# What is written for others to read: the unit, the examples for nginx, Caddy, Prometheus and Grafana, the image. Each by the program that it
# is for; where that is not installed, this says so and goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/target/tools/bin:$PATH:/usr/sbin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

there() { # there PROGRAM WHAT: whether it is installed
    command -v "$1" >/dev/null && return
    echo "$2: NOT CHECKED (needs $1)"
    return 1
}
quietly() { # what a program says is only of interest when it is not content
    "$@" >"$work/said" 2>&1 || {
        cat "$work/said" >&2
        return 1
    }
}

if there systemd-analyze "systemd/*.service"; then
    # The binary stands elsewhere before it is installed; one unit names the other.
    for unit in systemd/*.service; do sed 's|/usr/bin/orbyt|/bin/true|' "$unit" >"$work/$(basename "$unit")"; done
    for unit in systemd/*.service; do
        # 1.5 of 10: what is left is that it listens, and talks to the network.
        quietly systemd-analyze security --offline=true --no-pager --threshold=15 "$unit" || exit 1
        quietly systemd-analyze verify --man=no "$work/$(basename "$unit")"
        # Keys that this version of systemd does not know are no error to it, but are to us.
        [ ! -s "$work/said" ] || { cat "$work/said" >&2 && exit 1; }
        echo "$unit: sound, exposure $(systemd-analyze security --offline=true --no-pager "$unit" | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\).*/\1/p')"
    done
fi

if there nginx conf/nginx.conf && there openssl conf/nginx.conf; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=llm.example.com -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
    sed "s|ssl_certificate_key .*;|ssl_certificate_key $work/key.pem;|; s|ssl_certificate /.*;|ssl_certificate $work/cert.pem;|" \
        conf/nginx.conf >"$work/site.conf"
    printf 'pid %s/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; include %s/site.conf; }\n' "$work" "$work" >"$work/nginx.conf"
    quietly nginx -t -q -p "$work" -c "$work/nginx.conf"
    echo "conf/nginx.conf: fine"
fi
if there caddy conf/Caddyfile; then
    quietly caddy validate --adapter caddyfile --config conf/Caddyfile
    echo "conf/Caddyfile: fine"
fi
if there promtool "conf/prometheus"; then
    quietly promtool check config conf/prometheus/prometheus.yml
    quietly promtool test rules conf/prometheus/alerts.test.yml
    mkdir "$work/prometheus"
    cp conf/compose/prometheus.yml conf/prometheus/alerts.yml "$work/prometheus/"
    quietly promtool check config "$work/prometheus/prometheus.yml"
    echo "conf/prometheus: fine, and every alert is raised by what it is for"
fi
python3 -c 'import json; json.load(open("conf/grafana/orbyt.json"))'

# Both are packages of Python's too, so that they are there wherever the network is.
pins=scripts/deploy-check.txt
venv=target/deploy-venv
if ! cmp -s "$pins" "$venv/pins.txt" && ! { command -v hadolint && docker compose version; } >/dev/null 2>&1; then
    { python3 -m venv --clear "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"; } >"$work/said" 2>&1 &&
        cp "$pins" "$venv/pins.txt" || true
fi
export PATH=$PATH:$PWD/$venv/bin
if there hadolint Dockerfile; then
    quietly hadolint Dockerfile
    echo "Dockerfile: linted"
fi
if docker compose version >/dev/null 2>&1; then
    POSTGRES_PASSWORD=x GRAFANA_PASSWORD=x quietly docker compose --file compose.yaml config --quiet
    echo "compose.yaml: fine"
elif there check-jsonschema compose.yaml; then
    quietly check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
    echo "compose.yaml: as its schema wants it"
fi
