"""Somebody takes away by hand what agent/network has made: it is back within seconds, by the kernel's own news of it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

from tests.lab.netlab import APP, PORT, PUBLISHED, VIP, ask, inside, ping, three_machines
from tests.lab.support import Lab, until

pytestmark = pytest.mark.lab
REPAIRED = 30.0  # seconds, on a machine that is busy with something else; usually one


async def test_every_kind_of_object_comes_back() -> None:
    with tempfile.TemporaryDirectory(prefix="shoal-net-") as folder:
        async with three_machines(Path(folder)) as (swarm, client):
            await swarm.spread_five()
            machine = swarm.machines[0]
            task = swarm.paths[swarm.name(1)]
            far = swarm.addresses(swarm.name(5))[0]
            sandbox = machine.folder / "netns" / f"n-{APP}"

            async def repaired(where: Path, *deeds: str) -> None:
                """Taken away, put back by itself, and nothing of it is left to do."""
                before = await machine.ask(do="changes")
                for deed in deeds:
                    inside(where, *deed.split())
                async with asyncio.timeout(REPAIRED):
                    while await machine.ask(do="changes") < before + len(deeds):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await machine.ask(do="reconcile")
                after = await machine.ask(do="changes")
                await machine.ask(do="reconcile")
                assert await machine.ask(do="changes") == after, deeds

            entries = json.loads(inside(sandbox, "bridge", "-j", "fdb", "show", "dev", "vxlan0"))
            entry = next(e for e in entries if e.get("dst") == swarm.machines[2].address)
            await repaired(
                sandbox, f"bridge fdb del {entry['mac']} dev vxlan0 dst {entry['dst']} self", f"ip neigh del {far} dev vxlan0"
            )  # fmt: skip
            await repaired(sandbox, "ip link set vxlan0 down")
            await repaired(sandbox, "ip link del vxlan0")
            ping(task, far)
            await repaired(machine.path, "nft flush ruleset")
            assert len({(await ask(client, (machine.address, PUBLISHED)))[0] for _ in range(5)}) == 5
            await repaired(machine.path, f"nft flush chain ip shoal tcp_{PUBLISHED}")
            assert len({(await ask(client, (machine.address, PUBLISHED)))[0] for _ in range(5)}) == 5
            changes = await machine.ask(do="changes")
            inside(machine.path, "nft", "add", "table", "ip", "foreign")  # news, but none that concern us
            await machine.ask(do="reconcile")
            assert await machine.ask(do="changes") == changes
            await repaired(
                task, "nft delete table ip shoal", "ip route del default",
                "ip route flush table 1002", "ip rule del priority 100 fwmark 2",
            )  # fmt: skip
            await repaired(task, "ip link del eth1")
            inside(task, "nft", "add", "table", "ip", "own")  # a container's own affair
            assert len({(await ask(task, (VIP, PORT)))[0] for _ in range(5)}) == 5
            await machine.ask(do="reconcile")
            assert "table ip own" in inside(task, "nft", "list", "tables")


def test_traffic_flows_again_on_a_machine(web: Lab) -> None:
    """A machine of the lab loses its tunnel, its rules and its entries: the mesh through it answers from everywhere."""
    manager, worker = web.manager, web.machines["worker1"]
    for deed in (
        "nft flush ruleset",
        "for n in /run/shoal/netns/n-*; do nsenter --net=$n ip link del vxlan0; done",
        "for n in /run/shoal/netns/n-*; do nsenter --net=$n sh -c 'bridge fdb show dev vxlan0 | grep dst |"
        " while read mac word vtep rest; do bridge fdb del $mac dev vxlan0 dst $vtep self; done'; done",
        "ip link del docker_gwbridge",
    ):
        worker.sh(deed)
        until(lambda: web.serves(80, 5, (worker, manager)), REPAIRED, f"all five tasks answer after: {deed}")
