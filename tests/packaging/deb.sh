#!/usr/bin/env bash
# The Debian package in a Debian of its own: installed, used, upgraded, removed, purged.
#
#   tests/packaging/deb.sh [BINARY]      by default target/release/orbyt, else target/debug/orbyt: any build has the same package around it
#
# Needs root, debootstrap and a mirror (the root folder is kept in target/packaging, so only once). There is no systemd at work in it: that
# the unit is enabled and sound is checked, and the gateway is started as its user, with what the unit says. Ends with 77 where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/target/tools/bin:$PATH:/usr/sbin

target=${CARGO_TARGET_DIR:-target}
binary=${1:-$target/release/orbyt}
[ -x "$binary" ] || binary=$target/debug/orbyt
missing=()
[ "$(id -u)" = 0 ] || missing+=("root")
for program in debootstrap dpkg-deb chroot; do command -v "$program" >/dev/null || missing+=("$program"); done
command -v cargo-deb >/dev/null || missing+=("cargo-deb (scripts/tools.sh cargo-deb)")
[ -x "$binary" ] || missing+=("a build (make build)")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'The package was NOT TESTED. Missing: %s\n' "${missing[*]}" >&2
    exit 77
fi

scripts/assets.sh "$binary" target/package
scripts/deb.sh "$binary" 0.0.1-1
scripts/deb.sh "$binary" 0.0.2-1
architecture=$(dpkg --print-architecture)

mkdir -p target/packaging
base=$PWD/target/packaging/base.tar
if [ ! -e "$base" ]; then
    folder=$(mktemp -d)
    debootstrap --variant=minbase --include=systemd,procps,ca-certificates bookworm "$folder" >target/packaging/debootstrap.log
    tar -C "$folder" -cf "$base.new" . && mv "$base.new" "$base"
    rm -rf "$folder"
fi
root=$(mktemp -d)
gateway=
cleanup() {
    if [ -n "$gateway" ]; then kill "$gateway" 2>/dev/null || true; fi
    umount "$root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap cleanup EXIT
tar -C "$root" -xf "$base"
# A folder of mktemp's is root's alone, and so would be the root folder of those in it.
chmod 755 "$root"
mount -t proc proc "$root/proc" 2>/dev/null || echo "note: no /proc in there"
cp "target/debian/orbyt_0.0.1-1_$architecture.deb" "target/debian/orbyt_0.0.2-1_$architecture.deb" "$root/root/"

inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
as_orbyt() { inside setpriv --reuid orbyt --regid orbyt --clear-groups env HOME=/ "$@"; }
step() { printf '== %s\n' "$1"; }
fail() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}
listing() { find "$root" -xdev \( -path "$root/proc" -o -path "$root/root" -o -path "$root/run" -o -path "$root/var/lib/dpkg" -o -path "$root/var/log" \) -prune -o -printf '%P\n' | sort; }

listing >target/packaging/before
step "install"
inside dpkg -i "/root/orbyt_0.0.1-1_$architecture.deb"
[ "$(inside stat -c '%U %a' /etc/orbyt/credentials)" = "root 700" ] || fail "/etc/orbyt/credentials is not root's alone"
[ "$(inside stat -c '%U %a' /etc/orbyt/orbyt.env)" = "root 600" ] || fail "/etc/orbyt/orbyt.env is not root's alone"
[ -L "$root/etc/systemd/system/multi-user.target.wants/orbyt.service" ] || fail "the unit is not enabled"
user=$(inside id -u orbyt) || fail "there is no user orbyt"
inside orbyt --version
inside systemd-analyze verify --man=no orbyt.service || fail "the unit is not sound"
for file in usr/share/man/man1/orbyt.1.gz usr/share/bash-completion/completions/orbyt usr/share/doc/orbyt/copyright \
    usr/share/doc/orbyt/third-party.txt usr/share/doc/orbyt/docs/README.md usr/lib/sysusers.d/orbyt.conf; do
    [ -s "$root/$file" ] || fail "$file is missing"
done

step "use"
inside install -d -o orbyt -g orbyt -m 700 /var/lib/orbyt /run/orbyt
inside orbyt check -c /etc/orbyt/orbyt.toml
ports=(ORBYT_LISTEN=127.0.0.1:39301 ORBYT_CONSOLE_LISTEN=127.0.0.1:39302)
# Not by way of a function, so that the process is the gateway itself.
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ STATE_DIRECTORY=/var/lib/orbyt "${ports[@]}" chroot "$root" \
    setpriv --reuid orbyt --regid orbyt --clear-groups orbyt serve -c /etc/orbyt/orbyt.toml >target/packaging/gateway.log 2>&1 &
gateway=$!
for _ in $(seq 200); do
    inside orbyt health --console http://127.0.0.1:39302 2>/dev/null && break
    kill -0 "$gateway" 2>/dev/null || { cat target/packaging/gateway.log; fail "the gateway ended"; }
    sleep 0.1
done
inside orbyt health --console http://127.0.0.1:39302 || fail "the gateway is not healthy"
# By the administrator, with the same configuration, while it runs.
as_orbyt orbyt keys create --name packaged -c /etc/orbyt/orbyt.toml | grep -q '^sk-' || fail "no key was made"
kill "$gateway" && wait "$gateway" || fail "the gateway did not end well"
gateway=

step "upgrade"
echo '# changed by the administrator' >>"$root/etc/orbyt/orbyt.toml"
echo 'OPENAI_API_KEY=mine' >>"$root/etc/orbyt/orbyt.env"
inside dpkg -i "/root/orbyt_0.0.2-1_$architecture.deb"
grep -q 'changed by the administrator' "$root/etc/orbyt/orbyt.toml" || fail "the configuration was overwritten"
grep -q 'OPENAI_API_KEY=mine' "$root/etc/orbyt/orbyt.env" || fail "the variables were overwritten"
[ "$(inside id -u orbyt)" = "$user" ] || fail "the user is another one"
as_orbyt orbyt keys list -c /etc/orbyt/orbyt.toml | grep -q packaged || fail "the state is gone"

step "remove"
inside dpkg -r orbyt
[ ! -e "$root/usr/bin/orbyt" ] || fail "the program is still there"
[ -e "$root/etc/orbyt/orbyt.toml" ] && [ -e "$root/var/lib/orbyt/orbyt.db" ] || fail "configuration and state went with the program"

step "install again, and purge"
inside dpkg -i "/root/orbyt_0.0.2-1_$architecture.deb"
inside dpkg -P orbyt
listing >target/packaging/after
# The user stays, as its files may; systemd-sysusers keeps the lists as they were before it.
expected='> etc/(\.pwd\.lock|(passwd|group|shadow|gshadow)-)'
left=$(diff target/packaging/before target/packaging/after | grep '^[<>]' | grep -vxE "$expected" || true)
[ -z "$left" ] || fail "left over, or gone:
$left"
echo "The package of $binary: installed, used, upgraded, removed and purged."
