"""From running to reachable, and from killed to gone: when every node's name server says so. In measure.py's list.

A task on each node watches: a program in its network namespace asks for the addresses of `tasks.NAME` every few milliseconds. Clocks are
the host's, which all machines of both labs have. Alone: python -m benchmarks.swarm --only reach
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.engine import BenchError, wait_until
from benchmarks.lab import IMAGE, MACHINES, OVERLAY, Side

WATCHERS, TARGET = "bench-watch", "bench-reach"
SLEEP = ("--stop-signal", "SIGKILL", IMAGE, "sleep", "1000000")
SECONDS = 12.0  # that is watched
SETTLED = 2.0  # after the start of the watchers, and between running and killed
REPLICAS = 3
# Changes of the answer, with their times, from the beginning on; a name that is not there has none.
WATCH = """
import json, socket, struct, sys, time
query = struct.pack("!6H", 7, 256, 1, 0, 0, 0) + b"".join(
    bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + b"\\0" + struct.pack("!2H", 1, 1)
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.settimeout(1)
made.connect(("127.0.0.11", 53))
end, changes = time.time() + float(sys.argv[2]), [[time.time(), []]]
while time.time() < end:
    made.send(query)
    answer, at = made.recv(4096), time.time()
    offset, found = len(query), []
    for _ in range(struct.unpack_from("!H", answer, 6)[0]):
        while 0 < answer[offset] < 192:  # a name in full, or a pointer to one
            offset += 1 + answer[offset]
        offset += 12 if answer[offset] else 11
        found.append(socket.inet_ntoa(answer[offset:offset + 4]))
        offset += 4
    if sorted(found) != changes[-1][1]:
        changes.append([at, sorted(found)])
    time.sleep(0.005)
print(json.dumps(changes))
"""
Changes = list[tuple[float, list[str]]]


@dataclass(frozen=True, slots=True)
class Reach:
    """Seconds until the last of the three nodes knows."""

    name: str = "reach"
    what: str = f"docker service create --replicas {REPLICAS} on an overlay; kill -9 of a task; A of tasks.NAME asked on every node"

    def take(self, sides: Sequence[Side]) -> dict[str, Mapping[str, list[float]]]:
        return {side.name: one(side) for side in sides}


def one(side: Side) -> Mapping[str, list[float]]:
    side.docker(
        "service",
        "create",
        "--detach",
        "--name",
        WATCHERS,
        "--replicas",
        str(len(MACHINES)),
        "--network",
        OVERLAY,
        *SLEEP,
    )
    wait_running(side, WATCHERS, len(MACHINES))
    places = [side.task_place(task) for task in side.manager.running_tasks(WATCHERS)]
    if {machine for _, machine in places} != set(MACHINES):
        raise BenchError(f"{side.name}: not one watcher on each machine, but {places}")
    with ThreadPoolExecutor(len(places)) as pool:
        watching = [pool.submit(watched, side, machine, inner) for inner, machine in places]
        time.sleep(SETTLED)
        created = time.time()
        side.docker(
            "service", "create", "--detach", "--name", TARGET, "--replicas", str(REPLICAS), "--restart-condition", "none",
            "--network", OVERLAY, *SLEEP,
        )  # fmt: skip
        wait_running(side, TARGET, REPLICAS)
        tasks = side.manager.running_tasks(TARGET)
        time.sleep(SETTLED)
        pid = side.task_pid(tasks[0])
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        changes = [each.result() for each in watching]
    if (began := max(each[0][0] for each in changes)) > created:
        raise BenchError(
            f"{side.name}: a watcher began {began - created:.1f} s after what it should have seen"
        )
    for name in (TARGET, WATCHERS):
        side.remove(name)
    return {
        "reachable": [max(first(each, address(t), since(t)) for each in changes) for t in tasks],
        "gone": [max(last(each, address(tasks[0]), killed) for each in changes)],
    }


def wait_running(side: Side, service: str, count: int) -> None:
    wait_until(
        lambda: len(side.manager.running_tasks(service)) == count,
        60,
        lambda: f"{side.name}: {count} tasks of {service}",
    )


def watched(side: Side, machine: str, inner: int) -> Changes:
    inside = (
        "nsenter",
        f"--net=/proc/{inner}/ns/net",
        "python3",
        "-c",
        WATCH,
        f"tasks.{TARGET}",
        str(SECONDS),
    )
    found: Changes = json.loads(side.inside(machine, *inside))
    return found


def address(task: dict[str, Any]) -> str:
    """In the one overlay that it is in."""
    return str(task["NetworksAttachments"][0]["Addresses"][0]).partition("/")[0]


def since(task: dict[str, Any]) -> float:
    """When its node said that it runs."""
    at, _, fraction = str(task["Status"]["Timestamp"]).rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{at}+00:00").timestamp() + float(f"0.{fraction or 0}")


def first(changes: Changes, wanted: str, began: float) -> float:
    """Until the address was among the answers; less than nothing where that was before."""
    for at, found in changes:
        if wanted in found:
            return at - began
    raise BenchError(f"{wanted} was never among the answers")


def last(changes: Changes, gone: str, began: float) -> float:
    """Until the address was no longer among the answers."""
    for at, found in changes:
        if at > began and gone not in found:
            return at - began
    raise BenchError(f"{gone} was still among the answers after {SECONDS:.0f} s")
