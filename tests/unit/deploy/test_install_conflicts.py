"""`install.sh --check`: what is in the way on a machine is named, with what to type. The machine's commands are fakes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[3] / "deploy/install.sh"
NEEDED = ("sh", "sed", "grep", "basename", "dirname")
PORTS = "2377/tcp, 7946/tcp, 7946/udp, 4789/udp and 4790/udp"


@dataclass
class Box:
    """A machine whose only commands are those that a test gives it."""

    folder: Path

    def has(self, name: str, script: str = "exit 1") -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def check(self) -> tuple[int, str]:
        environment = {"PATH": str(self.folder), "SHOAL_MODULE_DIR": str(self.folder)}
        done = subprocess.run(
            [str(self.folder / "sh"), str(INSTALL), "--check"],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def box(tmp_path: Path) -> Box:
    made = Box(tmp_path)
    for name in NEEDED:
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    made.has("id", "echo 0")
    made.has("uname", "echo 6.1.0-test")
    made.has("pgrep")
    made.has("cat", "")  # of /proc: no process has a name
    return made


def commands(text: str) -> list[str]:
    """What is to be typed."""
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def test_nothing_is_in_the_way(box: Box) -> None:
    assert box.check() == (0, "shoal: nothing is in the way here\n")
    for name in ("ufw", "firewall-cmd", "iptables", "docker", "ip"):
        box.has(name)
    assert box.check() == (0, "shoal: nothing is in the way here\n")


def test_only_root_may_look(box: Box) -> None:
    box.has("id", "echo 1000")
    assert box.check() == (1, "shoal: error: must be run as root\n")


def test_docker_by_its_process(box: Box) -> None:
    box.has("pgrep", "echo 77")
    code, text = box.check()
    assert code == 1
    assert text.startswith("shoal: warning: Docker Engine runs here (dockerd, process 77). Both may go on")
    assert commands(text)[0] == "systemctl disable --now docker.socket docker.service"


def test_docker_that_only_answers(box: Box) -> None:
    box.has("docker", 'case "$*" in *version*) echo 28.2.2 ;; *info*) echo inactive ;; esac')
    _, text = box.check()
    assert "(version 28.2.2 answers at /var/run/docker.sock). Both may go on" in text


def test_docker_in_a_swarm_of_its_own(box: Box) -> None:
    box.has("pgrep", "echo 77")
    box.has("docker", 'case "$*" in *info*) echo active ;; esac')
    code, text = box.check()
    assert code == 1
    assert (
        "is in a swarm of its own: it holds the ports 2377, 7946 and 4789 and what IPsec (ESP) does with them"
        in text
    )
    assert commands(text) == ["docker swarm leave --force"]


def test_ufw(box: Box) -> None:
    box.has("ufw", 'echo "Status: active"')
    box.has("iptables", 'echo "-P FORWARD DROP"')  # ufw's own, which its commands open
    code, text = box.check()
    assert code == 1
    assert text.count("warning") == 1 and f"drops what the other nodes send to {PORTS}" in text
    assert "    ufw allow proto udp from $node to any port 7946,4789,4790" in commands(text)
    assert "    ufw allow proto esp from $node to any" in commands(text)
    box.has("ufw", 'echo "Status: inactive"')
    box.has("iptables", 'echo "-P FORWARD ACCEPT"')
    assert box.check()[0] == 0


def test_firewalld(box: Box) -> None:
    box.has("firewall-cmd", 'test "$1" = --state')
    code, text = box.check()
    assert code == 1
    assert f"rejects what the other nodes send to {PORTS}" in text
    typed = commands(text)
    assert (
        "for port in 2377/tcp 7946/tcp 7946/udp 4789/udp 4790/udp; do firewall-cmd --permanent --zone=shoal --add-port=$port; done"
        in typed
    )
    assert "firewall-cmd --permanent --zone=shoal --add-protocol=esp" in typed
    assert typed[-1] == "firewall-cmd --reload"


def test_packets_that_are_not_forwarded(box: Box) -> None:
    box.has("iptables", 'test "$2" = FORWARD && echo "-P FORWARD DROP"')
    code, text = box.check()
    assert code == 1
    assert "something has set iptables to drop forwarded packets" in text
    assert "    iptables -I FORWARD -i $interface -j ACCEPT" in commands(text)
    box.has("iptables", 'echo "-P $2 DROP"')
    box.has("ip", "exit 0")
    _, text = box.check()
    assert "Docker (docker0 is here) has set iptables" in text
    assert "    iptables -I DOCKER-USER -o $interface -j ACCEPT" in commands(text)


def test_what_the_kernel_lacks(box: Box) -> None:
    box.has("modprobe", 'case "$*" in *vxlan | *nft_numgen) exit 1 ;; esac')
    assert box.check()[0] == 0  # no list of modules here: nothing is certain
    (box.folder / "modules.dep").touch()
    code, text = box.check()
    assert code == 1
    assert "the kernel (6.1.0-test) lacks nft_numgen vxlan:" in text
    assert "apt-get install linux-modules-extra-6.1.0-test   # Ubuntu" in commands(text)


def test_what_is_typed_is_shell(box: Box) -> None:
    box.has("pgrep", "echo 77")
    box.has("ufw", 'echo "Status: active"')
    box.has("firewall-cmd", "exit 0")
    _, text = box.check()
    typed = "\n".join(commands(text)).replace("ADDRESS ADDRESS", "10.0.0.2 10.0.0.3")
    subprocess.run(["sh", "-n", "-c", typed], check=True, timeout=60)
    assert text.count("shoal: warning: ") == 3
