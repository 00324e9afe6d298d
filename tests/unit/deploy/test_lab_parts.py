"""The lab's pure parts: names and addresses of machines, the DNS answers of the world outside, image archives."""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

LAB_CODE = Path(__file__).resolve().parents[3] / "deploy" / "lab"
MODULES = ("plan", "outside", "images", "rootfs", "kernel")


class Modules:
    """The lab's modules: they import each other by their plain names."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    monkeypatch.syspath_prepend(str(LAB_CODE))
    yield Modules()
    for name in MODULES:
        sys.modules.pop(name, None)


def test_names_of_machines(code: Modules) -> None:
    assert code.plan.machine_names(3, 1) == ["manager", "worker1", "worker2"]
    assert code.plan.machine_names(4, 3) == ["manager", "manager2", "manager3", "worker1"]


@pytest.mark.parametrize(("nodes", "managers"), [(1, 2), (0, 0), (3, 0), (51, 1)])
def test_impossible_labs_are_refused(code: Modules, nodes: int, managers: int) -> None:
    with pytest.raises(code.plan.LabError):
        code.plan.machine_names(nodes, managers)


def test_interface_names_fit_the_kernel(code: Modules) -> None:
    assert all(len(f"vb-{name}") <= 15 for name in code.plan.machine_names(50, 25))


def test_addresses_are_the_lowest_free_ones(code: Modules) -> None:
    assert code.plan.next_address([]) == "10.99.0.1"
    assert code.plan.next_address(["10.99.0.1", "10.99.0.3"]) == "10.99.0.2"


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def code_and_count(reply: bytes) -> tuple[int, int]:
    return reply[3] & 15, struct.unpack("!H", reply[6:8])[0]


def test_dns_knows_outside(code: Modules) -> None:
    reply = code.outside.answer(query("OUTSIDE.test"), 512)
    assert code_and_count(reply) == (0, 1)
    assert reply.endswith(bytes([10, 99, 0, 100]))


def test_dns_of_a_known_name_without_that_type_is_no_error(code: Modules) -> None:
    assert code_and_count(code.outside.answer(query("outside.test", 28), 512)) == (0, 0)


def test_dns_of_an_unknown_name(code: Modules) -> None:
    assert code_and_count(code.outside.answer(query("no-such.test"), 512)) == (3, 0)


def test_dns_cuts_a_long_answer_short_only_over_udp(code: Modules) -> None:
    short, whole = (code.outside.answer(query("many.test"), limit) for limit in (512, 65535))
    assert short[2] & 2
    assert code_and_count(short) == (0, 0)
    assert code_and_count(whole) == (0, 60)


@pytest.mark.parametrize("data", [b"", b"\0" * 11, b"\0" * 12, query("outside.test")[:-3], b"\xff" * 40])
def test_dns_survives_nonsense(code: Modules, data: bytes) -> None:
    reply = code.outside.answer(data, 512)
    assert reply is None or reply[3] & 15 in (1, 3, 4)


def test_an_archive_depends_only_on_names_modes_and_contents(code: Modules, tmp_path: Path) -> None:
    for place in ("one", "two"):
        tree = tmp_path / place
        (tree / "bin").mkdir(parents=True)
        (tree / "bin" / "tool").write_text("text")
        (tree / "bin" / "other").symlink_to("tool")
    assert code.images._tar(tmp_path / "one") == code.images._tar(tmp_path / "two")
