#!/usr/bin/env bash
# Puts a build in place as a service, or takes it away again:   install.sh BINARY ASSETS | install.sh --remove
# PREFIX is where programs go (/usr/local), DESTDIR a folder that stands for the root. What is in /etc/orbyt is never overwritten or removed.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local} root=${DESTDIR:-}
units=$root/etc/systemd/system
if [ "$prefix" = /usr ]; then units=$root/usr/lib/systemd/system; fi
lib=$root$prefix/lib
share=$root$prefix/share

# Where nothing stands for the root, the machine is told.
on_this_machine() { [ -z "$root" ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; }

if [ "${1:-}" = --remove ]; then
    if on_this_machine; then systemctl disable --now orbyt.service || true; fi
    rm -f "$root$prefix/bin/orbyt" "$units/orbyt.service" "$units/orbyt-upgrade.service" "$lib/sysusers.d/orbyt.conf" "$lib/tmpfiles.d/orbyt.conf" \
        "$share/bash-completion/completions/orbyt" "$share/zsh/site-functions/_orbyt" "$share/fish/vendor_completions.d/orbyt.fish"
    rm -f "$share"/man/man1/orbyt.1.gz "$share"/man/man1/orbyt-*.1.gz
    rm -rf "$share/doc/orbyt"
    if on_this_machine; then systemctl daemon-reload; fi
    echo "Removed. Left: $root/etc/orbyt and $root/var/lib/orbyt."
    exit 0
fi

binary=$1 assets=$2
put() { install -D -m "$1" "$2" "$3"; }
put 755 "$binary" "$root$prefix/bin/orbyt"
# It only makes it smaller, and belongs to compilers.
if command -v strip >/dev/null; then strip --strip-unneeded "$root$prefix/bin/orbyt"; fi
for page in "$assets"/man/*.1.gz; do put 644 "$page" "$share/man/man1/$(basename "$page")"; done
put 644 "$assets/completions/orbyt" "$share/bash-completion/completions/orbyt"
put 644 "$assets/completions/_orbyt" "$share/zsh/site-functions/_orbyt"
put 644 "$assets/completions/orbyt.fish" "$share/fish/vendor_completions.d/orbyt.fish"
for page in README.md CHANGELOG.md LICENSE "$assets/third-party.txt"; do put 644 "$page" "$share/doc/orbyt/$(basename "$page")"; done
(cd docs && find . -name '*.md' -type f) | while read -r page; do put 644 "docs/$page" "$share/doc/orbyt/docs/$page"; done
(cd conf && find . -type f) | while read -r example; do put 644 "conf/$example" "$share/doc/orbyt/conf/$example"; done
for unit in orbyt.service orbyt-upgrade.service; do
    put 644 "systemd/$unit" "$units/$unit"
    sed -i "s|/usr/bin/orbyt|$prefix/bin/orbyt|; s|/usr/share/doc|$prefix/share/doc|" "$units/$unit"
done
put 644 systemd/orbyt.sysusers "$lib/sysusers.d/orbyt.conf"
put 644 systemd/orbyt.tmpfiles "$lib/tmpfiles.d/orbyt.conf"
install -d -m 755 "$root/etc/orbyt"
install -d -m 700 "$root/etc/orbyt/credentials"
if [ ! -e "$root/etc/orbyt/orbyt.toml" ]; then put 644 "$assets/orbyt.toml" "$root/etc/orbyt/orbyt.toml"; fi
if [ ! -e "$root/etc/orbyt/orbyt.env" ]; then put 600 packaging/orbyt.env "$root/etc/orbyt/orbyt.env"; fi

if on_this_machine; then
    systemd-sysusers orbyt.conf
    systemctl daemon-reload
fi
if [ -z "$root" ]; then
    echo "Put keys of providers into /etc/orbyt/orbyt.env, then: systemctl enable --now orbyt"
fi
