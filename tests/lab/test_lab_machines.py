"""The lab does what its commands say: shells, power, cables, journals, images. Nothing of Shoal itself is tested here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.support import until

pytestmark = pytest.mark.lab

LAB = str(Path(__file__).resolve().parents[2] / "deploy" / "lab" / "lab")
ENVIRONMENT = {**os.environ, "SHOAL_LAB": f"test{os.getpid()}"}


def lab(*arguments: str, feed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAB, *arguments],
        env=ENVIRONMENT,
        input=feed,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def output(*arguments: str) -> str:
    done = lab(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def machines() -> Iterator[None]:
    lab("down")
    up = lab("up", "--nodes", "2")
    assert "is up" in up.stderr, up.stderr
    yield
    lab("down")


def reaches(machine: str, address: str) -> bool:
    return lab("exec", machine, "ping", "-c", "1", "-W", "1", address).returncode == 0


def comes_to_reach(machine: str, address: str) -> None:
    """A cable that was plugged in carries nothing yet: the kernel takes note of that in its own time."""
    until(lambda: reaches(machine, address), 30, f"{machine} reaches {address}")


def test_a_shell_passes_streams_and_exit_code_on() -> None:
    done = lab("exec", "worker1", "sh", "-c", "hostname; cat; echo lost >&2; exit 7", feed="fed\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "worker1\nfed\n", "lost\n")


def test_every_machine_has_an_identity_of_its_own() -> None:
    first, second = (output("exec", name, "cat", "/etc/machine-id") for name in ("manager", "worker1"))
    assert len(first.strip()) == 32
    assert first != second


@pytest.mark.parametrize(("name", "process"), [("manager", "self"), ("manager", "1"), ("outside", "self")])
def test_nobody_in_a_lab_may_set_the_hosts_clock(name: str, process: str) -> None:
    """Looked up, never tried: the clock is the host's."""
    status = output("exec", name, "cat", f"/proc/{process}/status")
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")]
    assert len(masks) == 5
    cap_sys_time = 1 << 25
    assert not any(mask & cap_sys_time for mask in masks)


def test_the_host_and_its_uplink_are_out_of_reach() -> None:
    assert output("exec", "outside", "ip", "-4", "route", "show", "default") == ""
    comes_to_reach("manager", "10.99.0.100")
    comes_to_reach("manager", "198.51.100.10")
    assert not reaches("manager", "192.0.2.1")


def test_outside_has_a_web_and_a_dns_server() -> None:
    assert "10.99.0.2" in output("exec", "worker1", "curl", "-s", "http://outside.test/page")
    assert output("exec", "worker1", "getent", "ahostsv4", "far.test").startswith("198.51.100.10 ")
    assert lab("exec", "worker1", "getent", "hosts", "no-such.test").returncode == 2


def test_a_container_of_the_registrys_image_runs_within_limits() -> None:
    image = "10.99.0.254:5000/library/busybox:latest"
    output("exec", "worker1", "ctr", "-n", "lab", "image", "pull", "--plain-http", image)
    run = ("exec", "worker1", "ctr", "-n", "lab", "run", "--rm", "--memory-limit", "50000000", image, "one")
    assert output(*run, "echo", "ran") == "ran\n"


def test_power_cut_and_power_on_keep_the_disk() -> None:
    output("exec", "worker1", "sh", "-c", "echo kept >/root/file; echo gone >/run/file; sync")
    boots = len(json.loads(output("logs", "worker1", "--list-boots", "-o", "json")))
    output("power-off", "worker1")
    assert lab("exec", "worker1", "true").returncode == 1
    assert "worker1" in output("logs", "worker1", "-n", "5")
    assert not reaches("manager", "10.99.0.2")
    lab("power-on", "worker1")
    assert output("exec", "worker1", "cat", "/root/file") == "kept\n"
    assert lab("exec", "worker1", "test", "-e", "/run/file").returncode == 1
    assert len(json.loads(output("logs", "worker1", "--list-boots", "-o", "json"))) == boots + 1


def test_a_reboot_from_inside_comes_back() -> None:
    boot = ("exec", "worker1", "systemctl", "show", "-p", "UserspaceTimestampMonotonic", "--value")
    before = output(*boot)
    lab("reboot", "worker1")
    assert output(*boot) != before


def test_cut_and_heal() -> None:
    comes_to_reach("manager", "10.99.0.2")
    output("cut", "worker1")
    output("cut", "worker1")
    assert not reaches("manager", "10.99.0.2")
    assert not reaches("worker1", "10.99.0.100")
    output("heal", "worker1")
    comes_to_reach("manager", "10.99.0.2")


def shown(machine: str) -> str:
    """The machine's line of `lab status`."""
    return next(line for line in output("status").splitlines() if line.split()[0] == machine)


def test_a_paused_machine_stands_still_and_goes_on() -> None:
    output(
        "exec",
        "worker1",
        "sh",
        "-c",
        "(while :; do date +%s%N >/run/shoal/beat; sleep 0.05; done) >/dev/null 2>&1 &",
    )
    beat = (
        Path(next(word for word in shown("worker1").split() if word.endswith("docker.sock"))).parent / "beat"
    )
    until(beat.exists, 30, "the machine writes")
    output("pause", "worker1")
    output("pause", "worker1")
    last = beat.read_text()
    assert shown("worker1").split()[2] == "paused"
    assert lab("exec", "worker1", "true").stderr == "lab: worker1 is paused (lab resume worker1)\n"
    assert "worker1" in output("logs", "worker1", "-n", "5")
    comes_to_reach("manager", "10.99.0.2")  # the kernel answers: it isn't cut off
    assert beat.read_text() == last
    output("resume", "worker1")
    until(lambda: beat.read_text() not in ("", last), 30, "it goes on writing")
    assert shown("worker1").split()[2] == "ready"


def test_a_paused_daemon_is_stopped_alone() -> None:
    before = output("exec", "worker1", "systemctl", "show", "-p", "MainPID", "--value", "containerd").strip()
    output("pause", "worker1", "containerd")
    line = shown("worker1")
    assert (line.split()[2], line.split("(")[1]) == ("ready", "paused: containerd)")
    assert "T (stopped)" in output("exec", "worker1", "grep", "State", f"/proc/{before}/status")
    output("resume", "worker1")
    assert "T (stopped)" not in output("exec", "worker1", "grep", "State", f"/proc/{before}/status")
    assert "(" not in shown("worker1")
    assert lab("pause", "worker1", "nothing").stderr == "lab: no process nothing in worker1\n"


def test_the_plug_of_a_paused_machine_can_be_pulled() -> None:
    output("pause", "worker1")
    output("power-off", "worker1")
    assert shown("worker1").split()[2] == "off"
    lab("power-on", "worker1")
    assert output("exec", "worker1", "hostname") == "worker1\n"


def test_unknown_machines_and_commands_are_named() -> None:
    assert (
        lab("power-off", "nobody").stderr
        == "lab: no machine nobody in this lab (machines: manager, worker1)\n"
    )
    assert lab("dance").returncode == 1
