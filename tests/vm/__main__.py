"""Encrypted overlays between real kernels: `make vm` (root, by hand, some ten minutes).

Three virtual machines with Debian's cloud kernel become a swarm. The test then looks at the wire between them: what two tasks
of an encrypted network say to each other, in a stream that goes on while the managers turn the keys again and again, must be seen
as ESP only, and nothing of it may be lost. Everything happens in a network namespace of this process.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.vm import image, report
from tests.vm.capture import PLAIN_PORT, SEALED_PORT, Tally
from tests.vm.machines import REGISTRY, Failed, Machine, World, until

NODES: Final = 3
TURN: Final = 30  # seconds between two turns of the keys, in this test
_NAMESPACE: Final = "SHOAL_VM_NAMESPACE"
_STREAM_PORT: Final = 9000
_START: Final = time.monotonic()
# What an IKE daemon's start, a firewall's, and both at once do.
FLUSHED: Final = (
    "ip xfrm state flush",
    "ip xfrm policy flush",
    "ip xfrm policy flush; ip xfrm state flush; nft flush ruleset",
)
# Whether there are states, policies for peers and against all else, and both tables: five times 1.
STANDING: Final = (
    "ip xfrm state | grep -c -m 1 'proto esp'; ip xfrm policy | grep -c -m 1 'dport 4790'; "
    "ip xfrm policy | grep -c 'action block'; "
    'for table in shoal_seals shoal_seals_held; do nft list tables | grep -c -x "table ip $table"; done'
)
REPAIRED: Final = 15.0  # seconds; it takes some 0.2, but the machines are emulated

SETTINGS: Final = f"""
set -e
mkdir -p /etc/shoal /etc/systemd/system/shoal-manager.service.d
printf '[registry]\\nmirrors = ["http://{REGISTRY}"]\\ninsecure = ["{REGISTRY}"]\\n' >/etc/shoal/agent.toml
printf '[Service]\\nEnvironment=SHOAL_KEY_INTERVAL={TURN}\\n' >/etc/systemd/system/shoal-manager.service.d/keys.conf
systemctl daemon-reload
systemctl restart shoal-agent
"""


def say(text: str) -> None:
    print(f"{time.monotonic() - _START:6.0f} s  {text}", flush=True)


def require(condition: object, what: str) -> None:
    if not condition:
        raise Failed(what)
    say(f"ok: {what}")


class Swarm:
    """The machines as nodes: the first is the manager."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machines = world.machines
        self.manager = world.machines[0]

    def make(self) -> None:
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(lambda machine: machine.run(SETTINGS), self.machines))
        for machine in self.machines:
            until(partial(_quiet, partial(machine.docker, "info")), f"vm{machine.number}'s engine", 120)
        address = self.manager.address
        # Emulated machines on a busy host may say nothing for a while: that isn't what is tested here.
        self.manager.docker("swarm", "init", "--advertise-addr", address, "--dispatcher-heartbeat", "20s")
        token = self.manager.docker("swarm", "join-token", "-q", "worker")
        for machine in self.machines[1:]:
            machine.docker("swarm", "join", "--token", token, f"{address}:2377")
        until(lambda: self.manager.docker("node", "ls").count("Ready") == NODES, "a swarm of three", 120)

    def network(self, name: str, *options: str) -> int:
        """Its number on the wire."""
        self.manager.docker("network", "create", "-d", "overlay", *options, name)
        found = self.inspect("network", name)["Options"]["com.docker.network.driver.overlay.vxlanid_list"]
        return int(found)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.manager.docker(kind, "inspect", name))
        return found[0]

    def service(self, name: str, network: str) -> dict[str, tuple[Machine, str, str]]:
        """One task on each node: (machine, task, address in the network) by machine."""
        self.manager.docker(
            "service",
            "create",
            "-d",
            "--name",
            name,
            "--replicas",
            str(NODES),
            "--replicas-max-per-node",
            "1",
            "--network",
            network,
            "busybox",
            "sleep",
            "1d",
        )

        def running() -> bool:
            states = self.manager.docker(
                "service", "ps", name, "-f", "desired-state=running", "--format", "{{.CurrentState}}"
            )
            return sum(state.startswith("Running") for state in states.splitlines()) == NODES

        until(lambda: _quiet(running), f"service {name}", 300)
        nodes = {self.inspect("node", f"vm{m.number}")["ID"]: m for m in self.machines}
        found = {}
        for task in self.manager.docker("service", "ps", "-q", "--no-trunc", name).split():
            record = self.inspect_task(task)
            machine = nodes[record["NodeID"]]
            address = record["NetworksAttachments"][0]["Addresses"][0].partition("/")[0]
            found[f"vm{machine.number}"] = (machine, task, address)
        return found

    def inspect_task(self, task: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.manager.docker("inspect", "--type", "task", task))
        return found[0]


def _quiet(look: Callable[[], Any]) -> Any:
    """Nothing, where the answer is that it isn't there yet."""
    try:
        return look()
    except Failed:
        return None


def inside(task: str, script: str) -> str:
    """A command in a task's network."""
    return f"nsenter --net=/run/shoal/netns/t-{task} {script}"


def failures(machine: Machine) -> dict[str, int]:
    """The kernel's own count of packets that IPsec lost, by cause."""
    lines = machine.run("cat /proc/net/xfrm_stat").split("\n")
    pairs = (line.split() for line in lines if line.strip())
    return {name: int(count) for name, count in pairs}


def turn(machine: Machine) -> int:
    """How often the keys were turned, as the indexes of its states say: the newest there."""
    return report.newest_key(machine.run("ip xfrm state"))


def only_sealed(seen: Tally, number: int) -> None:
    require(seen.esp, f"ESP on the wire: {sum(seen.esp.values())} packets")
    plain = sum(count for (_, network), count in seen.vxlan.items() if network == number)
    require(plain == 0, f"no packet of network {number} in plain VXLAN")
    require(
        not [k for k in seen.vxlan if k[0] == SEALED_PORT], f"nothing on port {SEALED_PORT} in plain text"
    )
    require(seen.marked == 0, "what was sent is nowhere to be read")
    require(
        seen.fragments == 0 and seen.longest <= 1500,
        f"no fragment; the longest packet has {seen.longest} bytes",
    )


def stream(sender: Machine, task: str, receiver: Machine, other: str, address: str, seconds: int) -> float:
    """A stream from one task to the other, in Mbit/s; raises when a byte was lost or changed."""
    with ThreadPoolExecutor(2) as pool:
        script = f"python3 /root/guest.py receive {_STREAM_PORT}"
        taken = pool.submit(receiver.run, inside(other, script), seconds + 120)
        until(lambda: f":{_STREAM_PORT} " in receiver.run(inside(other, "ss -tln")), "the receiver", 60)
        script = f"python3 /root/guest.py send {address} {_STREAM_PORT} {seconds}"
        given = pool.submit(sender.run, inside(task, script), seconds + 120)
        require(
            given.result() == taken.result(),
            f"a stream of {seconds} s is whole: {given.result().split()[0]} bytes",
        )
    return int(given.result().split()[0]) * 8 / seconds / 1e6


def across_turns(
    swarm: Swarm, tasks: dict[str, tuple[Machine, str, str]], number: int, found: dict[str, Any]
) -> None:
    """Stream and ping while the keys are turned several times."""
    (one, task, _), (two, other, address) = tasks["vm1"], tasks["vm2"]
    before, first = [failures(m) for m in swarm.machines], turn(one)
    with swarm.world.wire(1) as wire, ThreadPoolExecutor(2) as pool:
        seconds = 4 * TURN
        ping = pool.submit(
            one.run, inside(task, f"ping -q -i 0.2 -w {seconds} {address}"), seconds + 60, False
        )
        found["mbit_sealed"] = round(stream(one, task, two, other, address, seconds), 1)
        answer = ping.result()
        seen = wire.take()
    only_sealed(seen, number)
    turned = turn(one) - first
    require(turned >= 3, f"the keys were turned {turned} times meanwhile")
    outgoing = {spi & 0xFF for spi in seen.esp}
    require(len(outgoing) >= 3, f"packets were sealed with {len(outgoing)} keys in turn")
    lost = [report.grown(b, failures(m)) for b, m in zip(before, swarm.machines, strict=True)]
    require(
        not any(lost), f"the kernels lost no packet for want of a key{'' if not any(lost) else f': {lost}'}"
    )
    # The last may be on its way when ping ends, and a stream that fills the line fills its queues: what keys lose is counted above.
    sent, back = report.ping(answer)
    require(sent > 100 and sent - back <= 5, f"of {sent} pings beside the stream {back} were answered")
    found |= {"turns": turned, "esp_packets": sum(seen.esp.values()), "pings": [sent, back]}


def plain_beside_it(swarm: Swarm, number: int, found: dict[str, Any]) -> None:
    """A network without encryption works as before, in plain VXLAN."""
    tasks = swarm.service("open", "open")
    (one, task, _), (two, other, address) = tasks["vm1"], tasks["vm2"]
    with swarm.world.wire(1) as wire:
        found["mbit_plain"] = round(stream(one, task, two, other, address, 20), 1)
        seen = wire.take()
    require(seen.vxlan[PLAIN_PORT, number] > 100, f"network {number} goes in plain VXLAN beside it")


def unsealed_is_dropped(swarm: Swarm, tasks: dict[str, tuple[Machine, str, str]], number: int) -> None:
    """Who sends VXLAN of the network without a key reaches nobody; and where the seals are taken away, nothing leaves."""
    (one, task, _), (_, _, address) = tasks["vm1"], tasks["vm2"]
    before = failures(one).get("XfrmInTmplMismatch", 0) + failures(one).get("XfrmInNoPols", 0)
    packet = bytes((8, 0, 0, 0)) + number.to_bytes(3, "big") + b"\0" + bytes(60)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forged:
        for _ in range(5):
            forged.sendto(packet, (one.address, SEALED_PORT))
    after = failures(one)
    dropped = after.get("XfrmInTmplMismatch", 0) + after.get("XfrmInNoPols", 0) - before
    dropped += report.dropped(one.run("nft list ruleset"), "sealed_in")
    require(dropped == 5, "forged packets in plain text are dropped by the kernel")
    for what in FLUSHED:
        flushed(swarm, one, inside(task, f"ping -q -i 0.02 -w 5 {address}"), what)


def flushed(swarm: Swarm, one: Machine, ping: str, what: str) -> None:
    """Somebody takes the seals away while a task sends: they are back within a few seconds, and meanwhile nothing leaves open."""
    with swarm.world.wire(1) as wire, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(one.run, ping, 60, False)
        until(lambda: wire.take().esp, "sealed packets", 30)
        began = time.monotonic()
        one.run(what)
        until(lambda: one.run(STANDING, 60, False).split() == ["1"] * 5, f"the repair after {what}", REPAIRED)
        took = time.monotonic() - began
        answer = sending.result()
        seen = wire.take()
    require(
        not [k for k in seen.vxlan if k[0] == SEALED_PORT],
        f"after {what} nothing leaves in plain text; all stands again within {took:.1f} s",
    )
    say(f"    (meanwhile: {report.ping(answer)} pings)")
    again = until(lambda: report.ping(one.run(ping, 60, False)), "pings", 60)
    require(again[0] - again[1] <= 5, f"then {again[1]} of {again[0]} are")


def sctp(swarm: Swarm) -> None:
    """A port of the mesh: every node leads to the one task, which sees who asks."""
    swarm.manager.docker(
        "service", "create", "-d", "--name", "signals", "--publish", "published=7100,target=7200,protocol=sctp",
        "busybox", "sleep", "1d",
    )  # fmt: skip
    find = ("service", "ps", "-q", "--no-trunc", "signals")
    task = until(lambda: swarm.manager.docker(*find), "the task of signals", 60)
    until(lambda: swarm.inspect_task(task)["Status"]["State"] == "running", "service signals", 120)
    home = {swarm.inspect("node", f"vm{m.number}")["ID"]: m for m in swarm.machines}[
        swarm.inspect_task(task)["NodeID"]
    ]
    client = next(machine for machine in swarm.machines if machine is not home)
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(home.run, inside(task, f"python3 /root/guest.py sctp 7200 {NODES - 1}"), 300)
        until(
            lambda: "7200" in home.run(inside(task, "cat /proc/net/sctp/eps"), check=False),
            "the task's endpoint",
            60,
        )
        for machine in swarm.machines:
            if machine is not client:
                answer = client.run(f"python3 /root/guest.py ask {machine.address} 7100").strip()
                require(
                    answer == client.address,
                    f"SCTP by vm{machine.number} comes from {answer}, the client itself",
                )
        answering.result()
    swarm.manager.docker("service", "rm", "signals")


def gone(swarm: Swarm) -> None:
    """The network's end is the seals' end."""
    for name in ("sealed", "open"):
        swarm.manager.docker("service", "rm", name)
    for machine in swarm.machines:
        look = "ip -o xfrm state; ip -o xfrm policy"
        until(lambda: not machine.run(look).strip(), f"the seals of vm{machine.number} to go", 120)  # noqa: B023
    require(True, "without tasks in the network no state and no policy is left on any machine")


def test(world: World, found: dict[str, Any]) -> None:
    say("booting")
    world.boot(NODES)
    found["kernel"] = world.image.version
    world.registry()
    swarm = Swarm(world)
    swarm.make()
    say("a swarm of three")
    number, other = swarm.network("sealed", "--opt", "encrypted"), swarm.network("open")
    tasks = swarm.service("sealed", "sealed")
    (_, task, _), (_, _, address) = tasks["vm1"], tasks["vm2"]
    text = swarm.manager.run(inside(task, "ip -o link show eth0"))
    require("mtu 1416" in text, "the encrypted network's MTU is 1416")
    swarm.manager.run(inside(task, f"ping -q -c 3 -w 20 {address}"))
    across_turns(swarm, tasks, number, found)
    plain_beside_it(swarm, other, found)
    unsealed_is_dropped(swarm, tasks, number)
    gone(swarm)
    sctp(swarm)


def diagnosis(world: World) -> None:
    """What the machines say, where the test ends early."""
    for machine in world.machines:
        console = machine.console.read_text(errors="replace")[-3000:]
        output = machine.console.with_suffix(".qemu").read_text(errors="replace")[-1000:]
        print(f"--- vm{machine.number}: qemu {machine.process.poll()} {output}\n{console}")
        for script in (
            "ip xfrm policy; free -m; ip -s xfrm state | head -20; grep -v -w 0 /proc/net/xfrm_stat", "journalctl -u shoal-agent -n 12 --no-pager; dmesg | tail -20",
            "journalctl -u shoal-manager -n 6 --no-pager",
        ):  # fmt: skip
            try:
                print(f"--- vm{machine.number}: {script}\n{machine.run(script, 60, check=False)}")
            except OSError as error:
                print(f"--- vm{machine.number}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make vm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--result", type=Path, default=image.ROOT / "tests" / "vm" / "results.json")
    arguments = parser.parse_args()
    if os.environ.get(_NAMESPACE) is None:
        again = [sys.executable, "-m", "tests.vm", *sys.argv[1:]]
        made = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        image.prepare()  # with the host's network
        return subprocess.run([*made, *again], check=False, env={**os.environ, _NAMESPACE: "1"}).returncode
    found = report.beginning()
    with (
        tempfile.TemporaryDirectory(prefix="shoal-vm-") as folder,
        World(image.prepare(), Path(folder)) as world,
    ):
        try:
            test(world, found)
        except (Failed, OSError, subprocess.SubprocessError) as error:
            say(f"FAILED: {error}")
            diagnosis(world)
            return 1
    found["seconds"] = round(time.monotonic() - _START)
    arguments.result.write_text(json.dumps(found, indent=1) + "\n")
    say(f"all as it should be: {json.dumps(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
