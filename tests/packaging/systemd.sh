#!/usr/bin/env bash
# The Debian package in a machine of its own, where systemd really runs: started, reloaded, upgraded under load, stopped, killed, rebooted.
#
#   tests/packaging/systemd.sh [BINARY]      by default target/release/orbyt, else target/debug/orbyt
#
# A Debian is put together with debootstrap (kept in target/packaging, so only once) and booted by qemu without any network; what is done in it
# stands in machine/proof.sh. Where KVM does not work the machine is emulated, which is slow, and there is less load. Needs root, debootstrap, qemu,
# a mirror, and 2 GB in target/packaging. Ends with 77 where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/target/tools/bin:$PATH:/usr/sbin

target=${CARGO_TARGET_DIR:-target}
binary=${1:-$target/release/orbyt}
[ -x "$binary" ] || binary=$target/debug/orbyt
sim=$target/debug/examples/sim
qemu=qemu-system-$(uname -m)
missing=()
[ "$(id -u)" = 0 ] || missing+=("root")
[ "$(uname -m)" = x86_64 ] || missing+=("an x86_64 machine")
for program in debootstrap dpkg-deb mke2fs "$qemu"; do command -v "$program" >/dev/null || missing+=("$program"); done
command -v cargo-deb >/dev/null || missing+=("cargo-deb (scripts/tools.sh cargo-deb)")
[ -x "$binary" ] && [ -x "$sim" ] || missing+=("a build (make build)")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'The service was NOT TESTED under systemd. Missing: %s\n' "${missing[*]}" >&2
    exit 77
fi

mkdir -p target/packaging
base=$PWD/target/packaging/machine.tar
root=$(mktemp -d "$PWD/target/packaging/machine.XXXXXX")
cleanup() { rm -rf --one-file-system "$root" "$root.img" "$root.log"; }
trap cleanup EXIT
if [ ! -e "$base" ]; then
    packages=systemd,systemd-sysv,udev,kmod,procps,ca-certificates,python3,linux-image-cloud-amd64,initramfs-tools
    debootstrap --variant=minbase --include="$packages" bookworm "$root" >target/packaging/debootstrap-machine.log
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -cf "$base.new" . && mv "$base.new" "$base"
else
    tar -C "$root" -xf "$base"
fi

scripts/assets.sh "$binary" target/package
for version in 0.0.1-1 0.0.2-1; do scripts/deb.sh "$binary" "$version"; done
mkdir "$root/proof"
cp target/debian/orbyt_0.0.[12]-1_amd64.deb tests/packaging/machine/proof.sh tests/packaging/machine/client.py "$root/proof/"
strip -o "$root/proof/sim" "$sim"
echo machine >"$root/etc/hostname"
cat >"$root/etc/systemd/system/proof.service" <<'UNIT'
[Unit]
Description=What is to be shown
[Service]
ExecStart=/proof/proof.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TasksMax=infinity
UNIT
ln -s ../proof.service "$root/etc/systemd/system/multi-user.target.wants/proof.service"
: >"$root/etc/fstab"
truncate -s 2G "$root.img"
mke2fs -q -t ext4 -d "$root" "$root.img"
kernel=$(echo "$root"/boot/vmlinuz-*) initrd=$(echo "$root"/boot/initrd.img-*)

# KVM that is there may still not work, as in some machines that are virtual themselves: whether a kernel gets to its first line shows it.
accelerator=tcg cpu=max
if [ -w /dev/kvm ]; then
    timeout 20 "$qemu" -accel kvm -cpu host -m 512 -display none -monitor none -nic none -no-reboot -kernel "$kernel" \
        -append "console=ttyS0 panic=-1" -serial "file:$root.log" </dev/null >/dev/null 2>&1 || true
    if grep -q 'Linux version' "$root.log"; then accelerator=kvm cpu=host; fi
fi
echo "accelerator: $accelerator"

# The first serial line is the kernel's, the second one says what is shown.
timeout --foreground 1800 "$qemu" -accel "$accelerator" -cpu "$cpu" -smp 2 -m 2048 -display none -monitor none -nic none \
    -drive "file=$root.img,format=raw,if=virtio,cache=unsafe" -kernel "$kernel" -initrd "$initrd" \
    -append "root=/dev/vda rw console=ttyS0 panic=-1 proof.accelerator=$accelerator" \
    -serial "file:target/packaging/machine.log" -serial stdio </dev/null | sed -u 's|\r$||' | tee target/packaging/proof.log
grep -q '^PROVEN$' target/packaging/proof.log || {
    echo "FAILED: see target/packaging/proof.log and machine.log" >&2
    exit 1
}
echo "The service with $binary: everything above, under systemd $(sed -n 's/^systemd \([^ ]*\) .*/\1/p' target/packaging/proof.log | head -1)."
