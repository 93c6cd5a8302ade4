#!/usr/bin/env bash
# The Debian package in a machine of its own, where systemd really runs: started, reloaded, upgraded under load, stopped, killed, rebooted.
#
#   tests/packaging/systemd.sh [BINARY [SIM]]     by default target/release/orbyt, else target/debug/orbyt, and target/debug/examples/sim
#   MACHINE=qemu|nspawn                           by default qemu where KVM works, else systemd-nspawn, else qemu that emulates (half an hour)
#
# A Debian is put together with debootstrap (kept in target/packaging, so only once) and booted without any network, by qemu with a kernel of
# its own or by systemd-nspawn as a container; what is done in it stands in machine/proof.sh. Needs root, debootstrap, a mirror, one of the
# two, and 2 GB in target/packaging. Ends with 77 where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/target/tools/bin:$PATH:/usr/sbin

target=${CARGO_TARGET_DIR:-target}
binary=${1:-$target/release/orbyt}
[ -x "$binary" ] || binary=${1:-$target/debug/orbyt}
sim=${2:-$target/debug/examples/sim}
architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)
qemu=qemu-system-$(uname -m)

# KVM that is there may still not work, as in some machines that are virtual themselves: only its processor's flags tell.
kvm() { [ -w /dev/kvm ] && grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo && command -v "$qemu" >/dev/null; }
machine=${MACHINE:-}
if [ -z "$machine" ]; then
    if kvm; then machine=qemu; elif command -v systemd-nspawn >/dev/null; then machine=nspawn; else machine=qemu; fi
fi

missing=()
[ "$(id -u)" = 0 ] || missing+=("root")
programs=(debootstrap dpkg-deb)
case $machine in
    nspawn) programs+=(systemd-nspawn) ;;
    qemu)
        programs+=("$qemu" mke2fs)
        [ "$(uname -m)" = x86_64 ] || missing+=("an x86_64 machine, or MACHINE=nspawn")
        ;;
    *) missing+=("MACHINE=qemu or MACHINE=nspawn instead of $machine") ;;
esac
for program in "${programs[@]}"; do command -v "$program" >/dev/null || missing+=("$program"); done
command -v cargo-deb >/dev/null || missing+=("cargo-deb (scripts/tools.sh cargo-deb)")
[ -x "$binary" ] || missing+=("$binary (make release)")
[ -x "$sim" ] || missing+=("$sim (make build)")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'The service was NOT TESTED under systemd. Missing: %s\n' "$(IFS=, && echo "${missing[*]}" | sed 's/,/, /g')" >&2
    exit 77
fi

mkdir -p target/packaging
out=$PWD/target/packaging
base=$out/machine-$machine.tar
root=$(mktemp -d "$out/machine.XXXXXX")
following=
cleanup() {
    if [ -n "$following" ]; then kill "$following" 2>/dev/null || true; fi
    rm -rf --one-file-system "$root" "$root.img" "$root.log"
}
trap cleanup EXIT
if [ ! -e "$base" ]; then
    packages=systemd,systemd-sysv,dbus,procps,ca-certificates,python3
    if [ "$machine" = qemu ]; then packages=$packages,udev,kmod,linux-image-cloud-amd64,initramfs-tools; fi
    debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$out/debootstrap-machine.log"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -cf "$base.new" . && mv "$base.new" "$base"
else
    tar -C "$root" -xf "$base"
fi
chmod 755 "$root"

scripts/assets.sh "$binary" target/package
for version in 0.0.1-1 0.0.2-1; do scripts/deb.sh "$binary" "$version"; done
mkdir "$root/proof"
cp "target/debian/orbyt_0.0.1-1_$architecture.deb" "target/debian/orbyt_0.0.2-1_$architecture.deb" tests/packaging/machine/proof.sh \
    tests/packaging/machine/client.py "$root/proof/"
strip -o "$root/proof/sim" "$sim"
# What make install needs of the repository.
mkdir -p "$root/proof/source/target"
cp -r README.md CHANGELOG.md LICENSE docs conf systemd packaging scripts "$root/proof/source/"
cp -r target/package "$root/proof/source/target/"
cp target/package/cargo/release/orbyt "$root/proof/source/orbyt"
echo machine >"$root/etc/hostname"
: >"$root/etc/fstab"
unit() { # unit HOW-TO-SAY-IT...: what is to be shown, as a service
    printf '%s\n' "[Unit]" "Description=What is to be shown" "[Service]" "ExecStart=/proof/proof.sh" "TasksMax=infinity" "$@" \
        >"$root/etc/systemd/system/proof.service"
    ln -s ../proof.service "$root/etc/systemd/system/multi-user.target.wants/proof.service"
}

in_nspawn() {
    echo native >"$root/proof/pace"
    unit StandardOutput=append:/proof/said StandardError=append:/proof/said
    : >"$root/proof/said"
    : >"$out/machine.log"
    tail --follow --lines=+1 "$root/proof/said" &
    following=$!
    # Nothing of the host is told, so that it need not have booted with systemd itself. 133 is the machine's reboot.
    local ended=133
    while [ "$ended" = 133 ]; do
        ended=0
        timeout --foreground 900 systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe --machine=orbyt-proof \
            --directory="$root" --boot >>"$out/machine.log" 2>&1 </dev/null || ended=$?
    done
    [ "$ended" = 0 ] || echo "systemd-nspawn ended with $ended: see target/packaging/machine.log" >&2
    sleep 0.5
    kill "$following" 2>/dev/null || true
    following=
    cp "$root/proof/said" "$out/proof.log"
}

in_qemu() {
    local accelerator=tcg cpu=max kernel initrd
    unit StandardOutput=tty StandardError=tty TTYPath=/dev/ttyS1
    kernel=$(echo "$root"/boot/vmlinuz-*) initrd=$(echo "$root"/boot/initrd.img-*)
    if [ -w /dev/kvm ]; then
        # Whether a kernel gets to its first line.
        timeout 20 "$qemu" -accel kvm -cpu host -m 512 -display none -monitor none -nic none -no-reboot -kernel "$kernel" \
            -append "console=ttyS0 panic=-1" -serial "file:$root.log" </dev/null >/dev/null 2>&1 || true
        if grep -q 'Linux version' "$root.log" 2>/dev/null; then accelerator=kvm cpu=host; fi
    fi
    # An emulated machine is slow.
    if [ "$accelerator" = kvm ]; then echo native; else echo emulated; fi >"$root/proof/pace"
    echo "accelerator: $accelerator"
    truncate -s 2G "$root.img"
    mke2fs -q -t ext4 -d "$root" "$root.img"
    # The first serial line is the kernel's, the second one says what is shown.
    timeout --foreground 2400 "$qemu" -accel "$accelerator" -cpu "$cpu" -smp 2 -m 2048 -display none -monitor none -nic none \
        -drive "file=$root.img,format=raw,if=virtio,cache=unsafe" -kernel "$kernel" -initrd "$initrd" \
        -append "root=/dev/vda rw console=ttyS0 panic=-1" \
        -serial "file:$out/machine.log" -serial stdio </dev/null | sed -u 's|\r$||' | tee "$out/proof.log" || true
}

echo "machine: $machine"
"in_$machine"
grep -q '^PROVEN$' "$out/proof.log" || {
    echo "FAILED: see target/packaging/proof.log and machine.log" >&2
    exit 1
}
echo "The service with $binary: everything above, under systemd $(sed -n 's/^systemd \([^ ]*\) .*/\1/p' "$out/proof.log" | head -1) ($machine)."
