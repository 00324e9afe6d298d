"""The data path beside what one would make by hand, and what many containers cost (by hand, root; `make bench` ends with it).

python -m benchmarks.network [--rounds N] [--only NAME]…

In network namespaces on this host, with the agent's own network code (tests/lab/netlab.py); both sides of a ratio in each
round, the order changes. The raw file lies beside the others.

  tcp      one connection from a container to one on another machine: an overlay, and a hand-made VXLAN of the same shape
  vip      new connections a second, one after the other, to a service's address, and to its task directly
  many     300 containers of 100 services on one machine: made from nothing, found again, made anew, and one change
  gossip   100 members: processor time, and how long until all others know that one was killed
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.consensus import keep
from benchmarks.engine import BenchError
from benchmarks.lab import run
from benchmarks.measure import compiler, settle
from benchmarks.results import FOLDER, environment, now
from common import model
from tests.lab.netlab import APP, PORT, VIP, Machine, Swarm, inside, namespace, three_machines

SECONDS: Final = 3.0
CONTAINERS, SERVICES = 300, 100
MEMBERS = 100
HAND_PORT, HAND_VNI = 4790, 99
Figures = Mapping[str, float]


def netload() -> Path:
    """The program, compiled."""
    target = Path(tempfile.mkdtemp(prefix="shoal-bench-")) / "netload"
    run(
        [compiler(), "-O2", "-Wall", "-static", "-o", str(target), str(Path(__file__).with_name("netload.c"))]
    )
    return target


@asynccontextmanager
async def serving(program: Path, where: Path) -> AsyncIterator[None]:
    """`netload serve` in a namespace."""
    process = await asyncio.create_subprocess_exec(
        "nsenter", f"--net={where}", str(program), "serve", str(PORT), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        if await process.stdout.readline() != b"ready\n":
            raise BenchError("the server did not start")
        yield
    finally:
        process.kill()
        await process.wait()


async def asked(program: Path, where: Path, what: str, address: str) -> float:
    settle()
    argv = ["nsenter", f"--net={where}", str(program), what, address, str(PORT), str(SECONDS)]
    return float(await asyncio.to_thread(run, argv))


async def in_turn(turn: int, *asks: tuple[str, Callable[[], Awaitable[float]]]) -> dict[str, float]:
    """The answers by name; who goes first changes from round to round."""
    return {name: await ask() for name, ask in (asks if turn % 2 else asks[::-1])}


# ---- the data path


async def tcp(turn: int) -> Figures:
    program = netload()
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        async with three_machines(Path(folder)) as (swarm, _):
            server = await swarm.client(swarm.machines[1], 91)
            client = await swarm.client(swarm.machines[0], 90)
            with (
                namespace(Path(folder) / "a") as a,
                namespace(Path(folder) / "b") as b,
                namespace(Path(folder) / "sa") as sa,
                namespace(Path(folder) / "sb") as sb,
            ):
                first, second = swarm.machines[:2]
                hand_made(first, second, sa, a, ("10.77.0.1", "10.77.0.2"))
                hand_made(second, first, sb, b, ("10.77.0.2", "10.77.0.1"))
                async with serving(program, server), serving(program, b):
                    there = swarm.addresses(swarm.name(91))[0]
                    found = await in_turn(
                        turn,
                        ("overlay", lambda: asked(program, client, "bulk", there)),
                        ("by hand", lambda: asked(program, a, "bulk", "10.77.0.2")),
                    )
    shutil.rmtree(program.parent)
    return {
        **{f"{k}, Gbit/s": v * 8 / 1e9 for k, v in found.items()},
        "ratio": found["overlay"] / found["by hand"],
    }


def hand_made(here: Machine, there: Machine, sandbox: Path, inner: Path, addresses: tuple[str, str]) -> None:
    """Bridge and tunnel in a namespace, a leg in another, entries instead of learning: what an overlay has, by `ip`."""
    own, other = addresses
    mac = {address: f"02:77:00:00:00:0{address[-1]}" for address in addresses}
    tunnel = (
        "type",
        "vxlan",
        "id",
        str(HAND_VNI),
        "dstport",
        str(HAND_PORT),
        "local",
        here.address,
        "nolearning",
        "proxy",
    )
    inside(here.path, "ip", "link", "add", "hand0", *tunnel)
    inside(here.path, "ip", "link", "set", "hand0", "netns", str(sandbox))
    inside(sandbox, "ip", "link", "add", "br0", "type", "bridge")
    inside(sandbox, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", str(inner))
    for name in ("hand0", "v0"):
        inside(sandbox, "ip", "link", "set", name, "master", "br0")
    for name in ("br0", "hand0", "v0"):
        inside(sandbox, "ip", "link", "set", name, "mtu", "1450", "up")
    inside(inner, "ip", "link", "set", "eth0", "address", mac[own], "mtu", "1450", "up")
    inside(inner, "ip", "addr", "add", f"{own}/24", "dev", "eth0")
    inside(sandbox, "ip", "neigh", "add", other, "lladdr", mac[other], "dev", "hand0", "nud", "permanent")
    inside(
        sandbox, "bridge", "fdb", "add", mac[other], "dev", "hand0", "dst", there.address, "self", "permanent"
    )


async def vip(turn: int) -> Figures:
    program = netload()
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        async with three_machines(Path(folder)) as (swarm, _):
            task = swarm.name(1)
            swarm.placed[task] = swarm.machines[1]
            await swarm.send()
            await swarm.attach(task)
            await swarm.set_state(task, model.EndpointState.ENDPOINT_SERVING)
            client = await swarm.client(swarm.machines[0])
            async with serving(program, swarm.paths[task]):
                found = await in_turn(
                    turn,
                    ("VIP", lambda: asked(program, client, "connect", VIP)),
                    ("direct", lambda: asked(program, client, "connect", swarm.addresses(task)[0])),
                )
    shutil.rmtree(program.parent)
    return {**{f"{k}, connections/s": v for k, v in found.items()}, "ratio": found["VIP"] / found["direct"]}


# ---- many containers


def crowd(swarm: Swarm, machine: Machine, left: str = "") -> bytes:
    """Assignments of one machine with all containers; `left` is of one that is about to stop."""
    serving, leaving = model.EndpointState.ENDPOINT_SERVING, model.EndpointState.ENDPOINT_WITHDRAWN
    changes = [(key, item) for key, item in (*swarm._networks(), *swarm._nodes()) if key != "network/" + APP]
    wide = model.Network(
        id=APP, spec=model.NetworkSpec(name="app", driver=model.Driver(name="overlay")), vni=4097,
        ipam=model.IPAMOptions(configs=(model.IPAMConfig(subnet="10.21.0.0/16", gateway="10.21.0.1"),)),
    )  # fmt: skip
    changes.append(("network/" + APP, model.Assignment(network=model.NetworkRecord(network=wide))))
    for n in range(SERVICES):
        record = model.ServiceRecord(
            id=f"svc{n:03}", name=f"web{n}", mode=model.EndpointMode.VIP,
            virtual_ips=(model.VirtualIP(APP, f"10.21.9.{n + 1}/16"),),
        )  # fmt: skip
        changes.append((f"service/{record.id}", model.Assignment(service=record)))
    for n in range(CONTAINERS):
        task, address = container(n), f"10.21.{1 + n // 250}.{1 + n % 250}"
        endpoint = model.EndpointRecord(
            task_id=task, network_id=APP, addr=address, node_id=machine.id, service_id=f"svc{n % SERVICES:03}",
            task_name=task, state=leaving if task == left else serving,
        )  # fmt: skip
        attachment = model.NetworkAttachment(network_id=APP, addresses=(f"{address}/16",))
        made = model.TaskAssignment(task=model.Task(id=task, networks=(attachment,)))
        changes.append((f"endpoint/{task}/{APP}", model.Assignment(endpoint=endpoint)))
        changes.append((f"task/{task}", model.Assignment(task=made)))
    return model.Assignments(
        complete=True,
        changes=tuple(model.AssignmentChange(key=key, assignment=item) for key, item in changes),
    ).to_bytes()


def container(n: int) -> str:
    return f"many{n:03}manycontainers000id"


async def many(turn: int) -> Figures:
    """Seconds; a full rebuild finds namespaces and legs, but no rule, no tunnel and no entry."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        async with three_machines(Path(folder)) as (swarm, _):
            machine = swarm.machines[0]

            async def apply(left: str = "") -> None:
                data = base64.b64encode(crowd(swarm, machine, left)).decode()
                await machine.ask(do="apply", assignments=data)

            await apply()
            found = {"all attached, from nothing, s": await timed(lambda: attach_all(machine))}
            await timed(apply)  # what the attaching has left to do
            found["one change (a task withdrawn), s"] = await timed(lambda: apply(container(0)))
            await apply()
            found["compared, nothing to do, s"] = await timed(lambda: machine.ask(do="reconcile"))
            await machine.kill()
            await machine.start()
            found["a new process adopts all, s"] = await timed(apply)
            wipe(machine)
            found["full rebuild, s"] = await timed(lambda: machine.ask(do="reconcile"))
            return found


async def attach_all(machine: Machine) -> None:
    for n in range(CONTAINERS):
        await machine.ask(do="attach", task=container(n))


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def wipe(machine: Machine) -> None:
    """Every rule and tunnel goes while nobody looks: the process stands still meanwhile."""
    assert machine.process is not None
    machine.process.send_signal(signal.SIGSTOP)
    folder = machine.folder / "netns"
    for sandbox in folder.glob("n-*"):
        inside(sandbox, "ip", "link", "del", "vxlan0")
    for where in (machine.path, *folder.glob("t-*")):
        inside(where, "nft", "flush", "ruleset")
    machine.process.send_signal(signal.SIGCONT)


# ---- gossip


async def gossip(_: int) -> Figures:
    """In a process and a namespace of its own."""
    argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" -m benchmarks.gossip "$@"']
    done = await asyncio.to_thread(run, [*argv, sys.executable, "--members", str(MEMBERS)], 600)
    found: Figures = json.loads(done.splitlines()[-1])
    return found


MEASURES: Final[Mapping[str, Callable[[int], Awaitable[Figures]]]] = {
    "tcp": tcp, "vip": vip, "many": many, "gossip": gossip,
}  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", choices=list(MEASURES))
    given = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: must be run as root")
    about = environment()
    raw: dict[str, Any] = {"about": about, "repetitions": []}
    path = FOLDER / f"{about['date']}-{about['commit']}-network.json"
    for turn in range(given.rounds):
        for name in given.only or MEASURES:
            busy = settle()
            found = await MEASURES[name](turn)
            raw["repetitions"].append({"at": now(), "measure": name, "busy": round(busy, 3), **found})
            keep(raw, path)
            print(
                f"round {turn}: {name}: {json.dumps({k: round(v, 3) for k, v in found.items()})}", flush=True
            )
    print("\n".join(table(raw["repetitions"])))


def table(repetitions: list[dict[str, Any]]) -> list[str]:
    """Minimum, median and maximum of each figure, as the page has them."""
    lines = ["| figure | min | **median** | max | n |", "|---|---|---|---|---|"]
    figures: dict[tuple[str, str], list[float]] = {}
    for one in repetitions:
        for name, value in one.items():
            if name not in ("at", "measure", "busy"):
                figures.setdefault((one["measure"], name), []).append(value)
    for (measure, name), values in figures.items():
        low, middle, high = (
            f"{v:.3g}" if v < 1000 else f"{v:,.0f}"
            for v in (min(values), statistics.median(values), max(values))
        )
        lines.append(f"| {measure}: {name} | {low} | **{middle}** | {high} | {len(values)} |")
    return lines


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (BenchError, subprocess.CalledProcessError) as problem:
        raise SystemExit(f"bench: {problem}") from problem
