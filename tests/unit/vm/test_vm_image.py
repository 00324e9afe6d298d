"""The initial RAM disk, how machines are started, and what their commands say."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm import image, machines, report
from tests.vm.cpio import archive


def test_an_archive_is_what_busybox_unpacks(tmp_path: Path) -> None:
    files = {"init": (0o755, b"#!/bin/sh\n"), "bin/odd": (0o644, b"12345"), "bin/empty": (0o600, b"")}
    made = archive(("bin", "dev"), files)
    subprocess.run(["busybox", "cpio", "-i"], input=made, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "dev", "init"]
    for path, (mode, data) in files.items():
        assert (tmp_path / path).read_bytes() == data
        assert (tmp_path / path).stat().st_mode & 0o777 == mode


def test_the_ram_disk_loads_what_there_is_in_order(tmp_path: Path) -> None:
    for name in ("virtio_net", "virtio_ring"):
        (tmp_path / "kernel").mkdir(exist_ok=True)
        (tmp_path / "kernel" / f"{name}.ko").write_bytes(name.encode())
    made = image.ramdisk(tmp_path)
    assert b"modules/virtio_net.ko" in made
    assert b"modules/virtio_blk.ko" not in made  # built into this kernel
    script = image.INIT.format(modules=" ".join(image.EARLY)).encode()
    assert script in made
    assert script.index(b"virtio_ring") < script.index(b"virtio_pci ") < script.index(b"virtio_net")


def test_each_machine_has_a_name_an_address_and_an_identity_of_its_own() -> None:
    made = image.Image(Path("k"), Path("i"), Path("d"), "6.1")
    one, two = (machines.command(made, Path(f"{n}.qcow2"), n, Path(f"{n}.console")) for n in (1, 2))
    differing = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    text = " ".join(f"{a} {b}" for a, b in differing)
    for word in (
        "vm.name=vm2",
        "vm.address=10.99.0.2",
        "ifname=vm2",
        "mac=52:54:00:00:00:02",
        "file=2.qcow2",
        "2.console",
    ):
        assert word in text
    assert f"systemd.machine_id={2:032x}" in text


def test_pings_are_counted() -> None:
    text = "--- 10.0.0.2 ping statistics ---\n900 packets transmitted, 899 received, 0.1% packet loss, time 1ms\n"
    assert report.ping(text) == (900, 899)
    assert report.ping("ping: connect: Network is unreachable") == (0, 0)


def test_the_newest_key_is_read_from_the_indexes() -> None:
    text = "src 10.99.0.1 dst 10.99.0.2\n\tproto esp spi 0x00000103 reqid 368801 mode transport\n" * 2
    text += "\tproto esp spi 0x00000204 reqid 368801 mode transport\n\tanti-replay context: seq 0x0, oseq 0xff, bitmap 0x0\n"
    assert report.newest_key(text) == 4
    assert report.newest_key("") == 0


def test_counters_that_grow() -> None:
    assert report.grown({"a": 1, "b": 2}, {"a": 1, "b": 5, "c": 1, "d": 0}) == {"b": 3, "c": 1}
