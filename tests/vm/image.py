"""The disk and the kernel that the virtual machines of tests/vm boot from, cached by what they are made from.

The disk holds what the lab's machines have (deploy/lab: Debian, and Shoal as install.sh leaves it there), with the modules of
Debian's cloud kernel and guest.py. A small initial RAM disk of busybox loads what finds the disk and the network card.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.vm import guest
from tests.vm.cpio import archive

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = Path(os.environ.get("SHOAL_VM_CACHE", "/var/cache/shoal-vm"))
KERNEL_PACKAGE: Final = "linux-image-cloud-amd64"
TOOLS: Final = ("kmod",)
GIGABYTES: Final = 4
# What the kernel needs before it has a disk to load modules from, in the order of their needs.
EARLY: Final = (
    "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
    "failover", "net_failover", "virtio_net",
)  # fmt: skip
_FOLDERS: Final = ("bin", "dev", "proc", "root", "modules")

INIT: Final = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do
    [ ! -e /modules/$module.ko ] || /bin/busybox insmod /modules/$module.ko
done
n=0
until [ -b /dev/vda ] || [ $n -gt 100 ]; do n=$((n + 1)); /bin/busybox usleep 50000; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""

# The machine learns its name and address from the kernel's command line.
NETWORK_UNIT: Final = """[Unit]
Description=The test's network card
DefaultDependencies=no
After=systemd-remount-fs.service
Before=network.target network-online.target
Wants=network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'for word in $(cat /proc/cmdline); do case $word in vm.*) export "$${word#vm.}" ;; esac; done; \
    hostname "$name"; echo "$name" >/etc/hostname; ip address add "$address/24" dev eth0; ip link set eth0 up; \
    ip route add default via "$gateway"'

[Install]
WantedBy=multi-user.target
"""
SHELL_UNIT: Final = """[Unit]
Description=The test's shell
After=network.target

[Service]
ExecStart=/usr/bin/python3 /root/guest.py shell
Restart=always

[Install]
WantedBy=multi-user.target
"""

# Runs in a mount namespace of its own.
MERGE: Final = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LAYER:$BASE,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
for package in "$WORK"/packages/*.deb; do
    dpkg --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$WORK/root"
done
cp -a "$WORK/files/." "$WORK/root/"
rm -f "$WORK/root/etc/systemd/system/multi-user.target.wants/lab-cgroups.service"
systemctl --root "$WORK/root" --quiet enable lab-network.service lab-shell.service
chroot "$WORK/root" /sbin/depmod "$VERSION"
rm -rf "$WORK/root/boot" "$WORK"/root/var/cache/apt/* "$WORK"/root/usr/share/doc/*
truncate -s "$SIZE"G "$WORK/disk.raw"
mkfs.ext4 -q -F -O ^has_journal -d "$WORK/root" "$WORK/disk.raw"
umount "$WORK/root"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine boots from; nobody writes to it."""

    kernel: Path
    ramdisk: Path
    disk: Path
    version: str


def prepare() -> Image:
    """Builds what is missing."""
    layers = _lab_layers()
    packages = _packages()
    parts = [path.name for path in (*layers, layers[0].parent, *packages)]
    code = "".join((INIT, " ".join(EARLY), NETWORK_UNIT, SHELL_UNIT, MERGE, Path(guest.__file__).read_text()))
    name = hashlib.sha256("\n".join((*parts, code)).encode()).hexdigest()[:16]
    target = CACHE / f"image-{name}"
    if not target.exists():
        _build(target, layers, packages)
    version = (target / "version").read_text().strip()
    return Image(target / "vmlinuz", target / "initrd", target / "disk.raw", version)


def _lab_layers() -> tuple[Path, Path]:
    """The two folders that the lab lays its machines on: the newest first."""
    code = "import rootfs, sys; made = rootfs.prepare(lambda text: print(text, file=sys.stderr)); print(made.layer); print(made.base)"
    lab = ROOT / "deploy" / "lab"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=lab, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(lab)},
    )  # fmt: skip
    layer, base = done.stdout.split()
    return Path(layer), Path(base)


def _packages() -> list[Path]:
    """The kernel's package and the tools for its modules, as Debian has them now."""
    folder = CACHE / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    depends = subprocess.run(
        ["apt-cache", "depends", "--important", KERNEL_PACKAGE], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    kernel = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line)
    found = []
    for package in (kernel, *TOOLS):
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "-qq", "download", package], cwd=folder, check=True)
        found.append(max(folder.glob(f"{package}_*.deb")))
    return found


def _build(target: Path, layers: tuple[Path, Path], packages: list[Path]) -> None:
    work = target.with_name(target.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    for name in ("upper", "work", "root", "packages", "files", "kernel"):
        (work / name).mkdir(parents=True)
    for package in packages:
        shutil.copy2(package, work / "packages")
    subprocess.run(["dpkg", "-x", str(packages[0]), str(work / "kernel")], check=True)
    modules = next((work / "kernel" / "lib" / "modules").iterdir())
    (work / "vmlinuz").write_bytes((work / "kernel" / "boot" / f"vmlinuz-{modules.name}").read_bytes())
    (work / "initrd").write_bytes(ramdisk(modules))
    (work / "version").write_text(modules.name + "\n")
    _files(work / "files")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
        "LAYER": str(layers[0]), "BASE": str(layers[1]), "WORK": str(work), "VERSION": modules.name,
        "SIZE": str(GIGABYTES),
    }  # fmt: skip
    subprocess.run(["unshare", "--mount", "sh", "-c", MERGE], env=environment, check=True)
    for name in ("upper", "work", "root", "packages", "files", "kernel"):
        shutil.rmtree(work / name)
    work.rename(target)


def _files(folder: Path) -> None:
    units = folder / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    (units / "lab-network.service").write_text(NETWORK_UNIT)
    (units / "lab-shell.service").write_text(SHELL_UNIT)
    (folder / "root").mkdir(mode=0o700)
    shutil.copy2(guest.__file__, folder / "root" / "guest.py")


def ramdisk(modules: Path) -> bytes:
    """A busybox that loads modules and goes on to the disk."""
    files = {"init": (0o755, INIT.format(modules=" ".join(EARLY)).encode())}
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox (package busybox-static)")
    files["bin/busybox"] = (0o755, Path(busybox).read_bytes())
    for name in EARLY:
        for path in modules.rglob(f"{name}.ko"):
            files[f"modules/{name}.ko"] = (0o644, path.read_bytes())
    return archive(_FOLDERS, files)
