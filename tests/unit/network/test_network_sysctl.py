"""Sysctls that a kernel may lack: Debian's has the bridge's filter as a module, which nobody may have loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.network import reader

FILTER = "net/bridge/bridge-nf-call-iptables"
FORWARD = "net/ipv4/ip_forward"


@pytest.fixture(autouse=True)
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reader, "PROC", tmp_path)
    return tmp_path


def test_what_is_there_is_set(proc: Path) -> None:
    for path in (FILTER, FORWARD):
        (proc / path).parent.mkdir(parents=True)
        (proc / path).write_text("1\n")
        assert reader.read_sysctl(path) == "1"
        reader.write_sysctl(path, "0")
        assert reader.read_sysctl(path) == "0"


def test_what_may_be_missing_needs_no_setting() -> None:
    reader.write_sysctl(FILTER, "0")
    assert reader.read_sysctl(FILTER) is None


def test_what_must_be_there_is_missed() -> None:
    with pytest.raises(FileNotFoundError):
        reader.write_sysctl(FORWARD, "1")
    assert reader.read_sysctl(FORWARD) == ""


def test_what_an_interface_will_bring_is_still_to_be_set(proc: Path) -> None:
    """As long as the interface isn't there its sysctl doesn't stand, though others of its kind may be missing for good."""
    path = "net/ipv6/conf/eth7/accept_ra"
    assert reader.read_sysctl(path) == ""
    (proc / "net/ipv4/conf/eth7").mkdir(parents=True)
    assert reader.read_sysctl(path) is None  # it has no IPv6
    (proc / path).parent.mkdir(parents=True)
    (proc / path).write_text("1\n")
    assert reader.read_sysctl(path) == "1"
