#!/usr/bin/env bash
# Runs in the machine of systemd.sh, started by its systemd, once after each boot: what docs/service.md and docs/upgrades.md say, done for real.
# The last line that it says is PROVEN, or FAILED with what was wrong.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
cd /proof
ulimit -n "$(ulimit -Hn)"

# An emulated machine is slow.
if [ "$(cat pace)" = native ]; then
    pace=1 streams=100 rate=50 watchdog=4
else
    pace=6 streams=40 rate=10 watchdog=20
fi

step() { printf '== %s\n' "$1"; }
note() { printf '   %s\n' "$1"; }
over() {
    sync
    systemctl poweroff --force
    sleep infinity
}
fail() {
    printf 'FAILED: %s\n' "$1"
    systemctl status --no-pager --full orbyt.service orbyt-upgrade.service 2>&1 | tail -50
    journalctl --no-pager --boot --lines 60 2>&1
    over
}
property() { systemctl show --property "$1" --value "${2:-orbyt.service}"; }
is() { [ "$(property "$1")" = "$2" ] || fail "$1 is $(property "$1") and not $2"; }
# until_true SECONDS WHAT COMMAND…
until_true() {
    local tries=$(($1 * 10 * pace)) what=$2
    shift 2
    for _ in $(seq "$tries"); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "waited in vain for: $what"
}
owned() { # owned PATH "USER MODE"
    [ "$(stat -c '%U %a' "$1" 2>&1)" = "$2" ] || fail "$1 is $(stat -c '%U %a' "$1" 2>&1) and not $2"
}
ask() { python3 client.py "$@"; }
answers() { ask ask "$key" house/sim-ok >/dev/null || fail "the gateway does not answer"; }
# Commands of the administrator, as docs/service.md has them.
as_orbyt() { setpriv --reuid orbyt --regid orbyt --clear-groups env HOME=/ "$@"; }
config=(-c /etc/orbyt/orbyt.toml)
recorded() { as_orbyt orbyt requests list --json --limit 1000000 "${config[@]}" 2>/dev/null; }
all_recorded() { # every id of the files is in the ledger once, as a whole answer
    recorded | python3 -c '
import collections, json, sys
rows = collections.Counter((row["id"], row["ended"]) for row in map(json.loads, sys.stdin))
ids = [line.strip() for path in sys.argv[1:] for line in open(path)]
sys.exit(any(rows[(id, "complete")] != 1 for id in ids))' "$@"
}

# A provider beside the gateway, at other ports after each boot, and the configuration that names it.
provide() {
    rm -f /run/sim.json
    (tail -f /dev/null | ./sim >/run/sim.json 2>/run/sim.log) &
    until_true 20 "the simulated provider" test -s /run/sim.json
    calls=$(python3 -c 'import json; print(json.load(open("/run/sim.json"))["calls"])')
    local url
    url=$(python3 -c 'import json; print(json.load(open("/run/sim.json"))["openai"]["base_url"])')
    [ -e original.toml ] || cp /etc/orbyt/orbyt.toml original.toml
    { sed 's|^#master_key = .*|master_key = { credential = "orbyt_master_key" }|' original.toml; cat <<TOML; } >/etc/orbyt/orbyt.toml.new
[[provider]]
id = "house"
dialect = "openai_chat"
base_url = "$url"
[[provider.key]]
secret = { credential = "orbyt_house" }
TOML
    mv /etc/orbyt/orbyt.toml.new /etc/orbyt/orbyt.toml
}

provider_saw() { # whether the provider was asked with this key
    python3 -c '
import sys, urllib.request
sys.exit(sys.argv[2] not in urllib.request.urlopen(sys.argv[1]).read().decode())' "$calls" "$1"
}

first_boot() {
    step "install: the package makes user and folders, and starts the service"
    dpkg --install /proof/orbyt_0.0.1-1_amd64.deb || fail "it does not install"
    is ActiveState active
    is NRestarts 0
    owned /etc/orbyt/credentials "root 700"
    owned /etc/orbyt/orbyt.env "root 600"
    owned /var/lib/orbyt "orbyt 700"
    owned /run/orbyt "orbyt 700"
    owned /var/lib/orbyt/orbyt.db "orbyt 600"
    owned /var/lib/orbyt/upgrade.sock "orbyt 600"
    systemctl is-enabled --quiet orbyt || fail "it is not enabled"

    step "credentials: the master key and a provider's key come by LoadCredential"
    openssl_base64 >/etc/orbyt/credentials/master_key
    printf 'key-that-systemd-hands-over' >/etc/orbyt/credentials/house
    systemctl stop orbyt
    rm -rf /var/lib/orbyt/*
    provide
    # Returns when READY=1 came.
    systemctl start orbyt || fail "it does not start"
    is StatusText serving
    orbyt health || fail "it is not healthy when systemctl start returns"
    local pid
    pid=$(property MainPID)
    [ ! -e /var/lib/orbyt/master.key ] || fail "a master key was made though one is given"
    grep -q key-that "/proc/$pid/environ" && fail "the key is in the environment"
    setpriv --reuid nobody --regid nogroup --clear-groups cat /run/credentials/orbyt.service/orbyt_house 2>/dev/null && fail "anybody can read the key"
    key=$(as_orbyt orbyt keys create --name proof "${config[@]}") || fail "no key was made"
    echo "$key" >key
    answers
    ask stream "$key" house/sim-ok 20 >/dev/null || fail "it does not stream"
    provider_saw "Bearer key-that-systemd-hands-over" || fail "the provider was asked with another key"
    # As root, who has no credentials of the service's.
    orbyt keys create --name by-root "${config[@]}" | grep -q '^sk-' || fail "root cannot make a key"
    find /var/lib/orbyt ! -user orbyt | grep . && fail "root has left files there"

    step "the vault: a key that is sealed with the master key of the credential"
    orbyt check "${config[@]}" || fail "the configuration is not good for root"
    orbyt drill --model house/sim-ok --fault house:ok --requests 2 "${config[@]}" || fail "no drill"
    printf 'key-in-the-vault' | orbyt vault add house --name sealed "${config[@]}" || fail "vault add"
    find /var/lib/orbyt ! -user orbyt | grep . && fail "root has left files there"
    until_vault() { ask ask "$key" house/sim-ok && provider_saw "Bearer key-in-the-vault"; }
    until_true 20 "the key of the vault in use" until_vault

    step "hardening is in force"
    local status
    status=$(cat "/proc/$pid/status")
    for line in "NoNewPrivs:	1" "Seccomp:	2" "CapEff:	0000000000000000" "CapBnd:	0000000000000000"; do
        grep -q "^$line$" <<<"$status" || fail "no $line in its status"
    done
    [ "$(awk '/^Uid:/ {print $2}' <<<"$status")" = "$(id -u orbyt)" ] || fail "it is not its user"
    for path in /usr /etc /var /home /boot; do
        nsenter --target "$pid" --mount touch "$path/x" 2>/dev/null && fail "$path can be written in its world"
    done
    nsenter --target "$pid" --mount touch /var/lib/orbyt/x || fail "its state cannot be written"
    rm -f /var/lib/orbyt/x
    for unit in orbyt.service orbyt-upgrade.service; do
        local exposure
        exposure=$(systemd-analyze security --no-pager "$unit" | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\).*/\1/p')
        note "systemd-analyze security $unit: $exposure"
        python3 -c 'import sys; sys.exit(float(sys.argv[1]) > 1.5)' "$exposure" || fail "$unit is too exposed"
    done

    step "reload: in the same process; a bad file changes nothing and is told"
    printf '[[model]]\nname = "mine"\ntargets = ["house/sim-ok"]\n' >>/etc/orbyt/orbyt.toml
    systemctl reload orbyt || fail "it does not reload"
    until_true 10 "the new name of a model" python3 client.py ask "$key" mine
    is MainPID "$pid"
    cp /etc/orbyt/orbyt.toml good.toml
    echo 'nonsense = 1' >/etc/orbyt/orbyt.toml
    systemctl reload orbyt
    told() { [[ $(property StatusText) == *refused* ]]; }
    until_true 10 "the refusal in the status" told
    ask ask "$key" mine >/dev/null || fail "the last good configuration is gone"
    is ActiveState active
    cp good.toml /etc/orbyt/orbyt.toml
    systemctl reload orbyt
    fine() { [ "$(property StatusText)" = serving ]; }
    until_true 10 "the status after a good reload" fine

    step "the journal has lines of JSON, and nobody's keys"
    journalctl --unit orbyt --boot --output cat --no-pager >journal
    grep -c '^{' journal | sed 's/$/ lines of JSON/; s/^/   /'
    grep '^{' journal | python3 -c 'import json, sys; lines = [json.loads(line) for line in sys.stdin]; sys.exit(not any("request_id" in line for line in lines))' ||
        fail "the journal has no request"
    grep -q -e key-that -e key-in-the-vault -e "$key" journal && fail "a key is in the journal"

    upgrades
    drains
    dies
    watchdog
    root_restores

    step "reboot"
    recorded | wc -l >count
    echo second >boot
    sync
    systemctl reboot
    sleep infinity
}

upgrades() {
    step "two upgrades by the unit, under load: $streams streams, $rate requests a second"
    local since before
    since=$(property ActiveEnterTimestampMonotonic)
    rm -f done
    python3 client.py load "$key" --streams "$streams" --words 400 --rate "$rate" --until /proof/done --ids ids >load.json 2>load.err &
    local load=$!
    sleep 4
    for _ in 1 2; do
        before=$(property MainPID)
        systemctl start orbyt-upgrade || fail "it does not upgrade"
        local after
        after=$(property MainPID)
        [ "$after" != "$before" ] && [ "$after" != 0 ] || fail "the main process is $after, as before"
        note "main process $before -> $after"
        owned /var/lib/orbyt/upgrade.sock "orbyt 600"
        until_true 5 "the status of the successor" fine
        sleep 3
    done
    touch done
    wait "$load" || { cat load.json load.err; fail "a request was refused or cut"; }
    note "$(cat load.json)"
    [ "$(property ActiveEnterTimestampMonotonic)" = "$since" ] || fail "the service was started anew"
    is NRestarts 0
    one_process() { [ "$(pgrep --exact --count orbyt)" = 1 ]; }
    until_true 40 "the end of the processes before" one_process
    is ActiveState active
    until_true 30 "every request in the ledger" all_recorded ids
    note "$(wc -l <ids) requests, each recorded once as whole"
    journalctl --boot --no-pager | grep "reception only permitted" && fail "systemd has refused to hear somebody"
    # One that is the gateway's own successor can be replaced by hand, too, by root.
    before=$(property MainPID)
    orbyt upgrade "${config[@]}" || fail "root cannot order an upgrade"
    [ "$(property MainPID)" != "$before" ] || fail "the main process is as before"
    setpriv --reuid nobody --regid nogroup --clear-groups orbyt upgrade "${config[@]}" && fail "anybody can order an upgrade"
    until_true 20 "the end of the process before" one_process
    grep -q "^NoNewPrivs:	1$" "/proc/$(property MainPID)/status" || fail "the successor is outside of the sandbox"
    answers
    # The next hop still reloads.
    systemctl reload orbyt || fail "the successor does not reload"
}

drains() {
    step "stop: a stream of 6 s is finished, though TimeoutStopSec is 2 s"
    mkdir -p /etc/systemd/system/orbyt.service.d
    printf '[Service]\nTimeoutStopSec=2\n' >/etc/systemd/system/orbyt.service.d/proof.conf
    systemctl daemon-reload
    ask stream "$key" house/sim-slow 120 >stream 2>stream.err &
    local stream=$!
    until_true 5 "a stream in flight" in_flight
    local begun=$SECONDS
    systemctl stop orbyt || fail "it does not stop"
    wait "$stream" || { cat stream.err; fail "the stream was cut"; }
    note "stopped after $((SECONDS - begun)) s"
    is Result success
    rm -r /etc/systemd/system/orbyt.service.d
    systemctl daemon-reload
    systemctl start orbyt || fail "it does not start again"
    until_true 20 "the stream in the ledger" all_recorded stream
}

in_flight() {
    python3 -c 'import urllib.request as url
assert b"\norbyt_requests_in_flight 0\n" not in url.urlopen("http://127.0.0.1:4000/metrics").read()'
}

dies() {
    step "kill -9: started anew, and so after an upgrade"
    local pid restarts=0
    systemctl reset-failed orbyt
    for how in first successor; do
        if [ "$how" = successor ]; then
            systemctl start orbyt-upgrade
            until_true 20 "the end of the process before" one_process
        fi
        pid=$(property MainPID)
        kill -9 "$pid"
        restarted() { [ "$(property NRestarts)" = $((restarts + 1)) ] && orbyt health; }
        until_true 30 "the restart of the $how" restarted
        restarts=$((restarts + 1))
        answers
    done
    step "kill -9 of a successor while the process before still streams"
    ask stream "$key" house/sim-slow 400 >stream 2>stream.err &
    local stream=$! begun
    sleep 1
    systemctl start orbyt-upgrade || fail "it does not upgrade"
    begun=$SECONDS
    kill -9 "$(property MainPID)"
    until_true 90 "the restart of the successor" restarted
    note "serves again after $((SECONDS - begun)) s"
    wait "$stream" && note "the stream came to its end" || note "the stream: $(cat stream.err)"
    systemctl reset-failed orbyt
}

watchdog() {
    step "watchdog: fed by successors too, and one that hangs is started anew"
    mkdir -p /etc/systemd/system/orbyt.service.d
    printf '[Service]\nWatchdogSec=%s\nTimeoutAbortSec=2\n' "$watchdog" >/etc/systemd/system/orbyt.service.d/proof.conf
    systemctl daemon-reload
    systemctl restart orbyt
    systemctl start orbyt-upgrade || fail "it does not upgrade"
    local pid
    pid=$(property MainPID)
    sleep $((watchdog * 5 / 2))
    is NRestarts 0
    is MainPID "$pid"
    kill -STOP "$pid"
    hung() { [ "$(property NRestarts)" = 1 ] && orbyt health; }
    until_true 30 "the restart of one that hangs" hung
    answers
    rm -r /etc/systemd/system/orbyt.service.d
    systemctl daemon-reload
    systemctl restart orbyt
}

root_restores() {
    step "backup and restore by root"
    orbyt backup /root/orbyt.db "${config[@]}" || fail "no backup"
    local later
    later=$(as_orbyt orbyt keys create --name later "${config[@]}")
    systemctl stop orbyt
    # The master key is a credential, which only systemd hands over while the service is stopped.
    systemd-run --quiet --pipe --wait --property LoadCredential=orbyt:/etc/orbyt/credentials orbyt restore /root/orbyt.db "${config[@]}" || fail "not restored"
    find /var/lib/orbyt ! -user orbyt | grep . && fail "root has left files there"
    systemctl start orbyt || fail "it does not start with what was restored"
    answers
    ask ask "$later" house/sim-ok >/dev/null 2>&1 && fail "a key of after the backup is still good"
    true
}

second_boot() {
    key=$(cat key)
    step "after the reboot: it runs, with all that it had"
    until_true 60 "the service" systemctl is-active orbyt
    [ "$(recorded | wc -l)" -ge "$(cat count)" ] || fail "the ledger has $(recorded | wc -l) requests, and had $(cat count)"
    provide
    systemctl reload orbyt || fail "it does not reload"
    until_vault() { ask ask "$key" house/sim-ok && provider_saw "Bearer key-in-the-vault"; }
    until_true 20 "the key of the vault" until_vault

    step "a newer package, under load: no restart, no request refused"
    rm -f done
    local before since
    before=$(property MainPID) since=$(property ActiveEnterTimestampMonotonic)
    python3 client.py load "$key" --streams 20 --words 200 --rate "$rate" --until /proof/done --ids ids >load.json 2>load.err &
    local load=$!
    sleep 3
    dpkg --install /proof/orbyt_0.0.2-1_amd64.deb || fail "it does not upgrade"
    [ "$(dpkg-query -W -f '${Version}' orbyt)" = 0.0.2-1 ] || fail "it is the old one"
    sleep 2
    touch done
    wait "$load" || { cat load.json load.err; fail "a request was refused or cut"; }
    note "$(cat load.json)"
    [ "$(property MainPID)" != "$before" ] || fail "the old program still runs"
    [ "$(property ActiveEnterTimestampMonotonic)" = "$since" ] || fail "the service was started anew"
    until_true 30 "every request in the ledger" all_recorded ids

    step "remove: the service ends, state and configuration stay; purge: nothing stays"
    dpkg --remove orbyt || fail "it does not go"
    systemctl is-active --quiet orbyt && fail "it still runs"
    pgrep -x orbyt && fail "a process is left"
    [ -e /var/lib/orbyt/orbyt.db ] && [ -e /etc/orbyt/orbyt.toml ] || fail "state or configuration went with it"
    dpkg --install /proof/orbyt_0.0.2-1_amd64.deb || fail "it does not come back"
    answers
    dpkg --purge orbyt || fail "it cannot be purged"
    [ ! -e /var/lib/orbyt ] && [ ! -e /etc/orbyt ] || fail "something is left"

    step "from the source: make install makes user, folders and service, make uninstall takes the service away"
    userdel orbyt || fail "the user cannot go"
    (cd source && scripts/install.sh orbyt target/package) || fail "it does not install"
    systemctl enable --now orbyt || fail "it does not start"
    /usr/local/bin/orbyt health || fail "it is not healthy"
    owned /etc/orbyt/credentials "root 700"
    owned /etc/orbyt/orbyt.env "root 600"
    owned /var/lib/orbyt "orbyt 700"
    systemctl start orbyt-upgrade || fail "it does not upgrade"
    (cd source && scripts/install.sh --remove) || fail "it does not go"
    pgrep -x orbyt && fail "it still runs"
    [ ! -e /usr/local/bin/orbyt ] && [ ! -e /etc/systemd/system/orbyt.service ] || fail "program or unit are left"
    [ -e /var/lib/orbyt/orbyt.db ] && [ -e /etc/orbyt/orbyt.toml ] || fail "state or configuration went with it"
    printf 'PROVEN\n'
    over
}

openssl_base64() { head -c 32 /dev/urandom | base64; }

systemctl is-system-running --wait >/dev/null
if [ ! -e boot ]; then
    systemctl --version | head -1
    first_boot
else
    second_boot
fi
