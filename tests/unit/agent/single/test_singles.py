"""Single containers: their starts, ends, names and removals, and what a restarted agent finds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.network.api import Sandbox
from agent.network.bridges import BridgeLeg, OverlayLeg, Wired
from agent.network.names import GATEWAY_BRIDGE
from agent.runtime.api import ContainerConfig, ContainerEvent, EventKind, Status
from agent.single.record import BRIDGE, Leg, SingleRecord
from common import errors
from tests.unit.agent.single.single_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_the_network_comes_with_the_start_and_goes_with_the_end(bench: Bench, tmp_path: Path) -> None:
    one = await bench.create("one")
    assert bench.network.local == set()
    async with bench.running():
        assert await bench.singles.start(one)
        assert bench.network.local == {one}
        assert bench.runtime.addresses[one] == ("172.17.0.2",)
        assert (tmp_path / one / "netns").readlink() == Path("/netns/one")
        config = bench.runtime.found[one].config
        assert config is not None and config.network_namespace == str(tmp_path / one / "netns")
        assert not await bench.singles.start(one)
        assert await bench.singles.stop(one)
        await bench.until(lambda: not bench.network.local)
        assert not await bench.singles.stop(one)
        assert await bench.singles.start(one)
        with pytest.raises(errors.Conflict, match="You cannot remove a running container one"):
            await bench.singles.remove(one)
        await bench.singles.remove(one, force=True)
    assert (bench.network.local, bench.memory.rows, bench.runtime.found) == (set(), {}, {})


async def test_one_that_removes_itself(bench: Bench) -> None:
    one = await bench.create("one", auto_remove=True)
    async with bench.running():
        await bench.singles.start(one)
        await bench.runtime.exit(one)
        await bench.until(lambda: not bench.memory.rows)
    assert (bench.runtime.found, bench.network.local) == ({}, set())


async def test_one_that_removes_itself_can_be_restarted(bench: Bench) -> None:
    one = await bench.create("one", auto_remove=True)
    async with bench.running():
        await bench.singles.start(one)
        await bench.singles.restart(one)
        assert bench.runtime.found[one].status is Status.RUNNING
        await bench.runtime.exit(one)
        await bench.until(lambda: not bench.memory.rows)


async def test_a_start_that_fails_leaves_no_network(bench: Bench) -> None:
    one, two = await bench.create("one"), await bench.create("two", auto_remove=True)
    bench.runtime.fail = errors.InvalidArgument("executable file not found in $PATH")
    for id in (one, two):
        with pytest.raises(errors.InvalidArgument):
            await bench.singles.start(id)
    assert bench.network.local == set()
    assert set(bench.runtime.found) == {one}


async def test_overlays_are_asked_for_at_every_start(bench: Bench) -> None:
    one = await bench.create("one", network_mode="net", legs=(Leg("net", ("al",)),))
    async with bench.running():
        await bench.singles.start(one)
        assert (bench.attachments.held, bench.attachments.running) == ({"a1"}, {"a1"})
        assert bench.singles.sandboxes() == {"a1": one, one: one}
        await bench.singles.stop(one)
        await bench.singles.start(one)
        assert bench.attachments.held == {"a2"}
        # A leg on docker_gwbridge leads out.
        assert bench.network.wired.containers[one] == Wired(
            (BridgeLeg(GATEWAY_BRIDGE, "eth1", "172.18.0.2"),), (OverlayLeg("a2", "eth0"),), GATEWAY_BRIDGE
        )
    bench.attachments.fail = errors.ShoalError("Could not attach to network net: …")
    await bench.singles.remove(one, force=True)
    two = await bench.create("two", network_mode="net", legs=(Leg("net"),))
    with pytest.raises(errors.ShoalError, match="Could not attach"):
        await bench.singles.start(two)
    assert bench.runtime.found[two].status is Status.CREATED


async def test_what_a_container_asks_for_outlives_its_runs(bench: Bench) -> None:
    leg = Leg(BRIDGE, mac="92:d0:c6:0a:29:33", link_local=("169.254.3.4",))
    one = await bench.create("one", legs=(leg,))
    for _ in range(2):
        await bench.singles.start(one)
        bench.again()
        (wired,) = bench.network.wired.containers[one].bridges
        assert (wired.mac, wired.link_local) == ("92:d0:c6:0a:29:33", ("169.254.3.4",))
        await bench.runtime.exit(one)
        async with bench.running():
            await bench.until(lambda: bench.memory.rows[one].legs == (replace(leg, entered=True),))
    for asked, text in (
        (Leg("net", link_local=("169.254.3.4",)), "--link-local-ip in networks of the swarm"),
        (Leg("net", mac="93:d0:c6:0a:29:33"), 'setting MAC to "93:d0:c6:0a:29:33"'),
        (
            Leg(BRIDGE, wanted6="fd00::1"),
            "user specified IP address is supported on user defined networks only",
        ),
    ):
        name = await bench.create(text, legs=(asked,))
        with pytest.raises(errors.ShoalError, match=f"^(error )?{text}"):
            await bench.singles.start(name)
        assert not bench.attachments.held


async def test_a_restart_of_the_agent_finds_them_again(bench: Bench) -> None:
    one = await bench.create("one", network_mode="net", legs=(Leg("net"),))
    two = await bench.create("two", auto_remove=True)
    lost = await bench.create("lost")
    await bench.singles.start(one)
    await bench.singles.start(two)
    await bench.runtime.exit(two)  # while no agent looked
    del bench.runtime.found[lost]
    bench.network.local.add("nobody")
    bench.runtime.events = asyncio.Queue()
    bench.again()
    async with bench.running():
        await bench.until(lambda: set(bench.memory.rows) == {one} and bench.network.local == {one})
    assert (bench.attachments.held, bench.network.local) == ({"a1"}, {one})
    assert bench.singles.record(one) == bench.memory.rows[one]


async def test_a_name_is_given_once(bench: Bench) -> None:
    await bench.create("one")
    with pytest.raises(
        errors.Conflict, match='The container name "/name-one" is already in use by container "one"'
    ):
        await bench.create("one")


async def test_a_name_is_given_once_while_others_ask_for_it(bench: Bench) -> None:
    one, two = await bench.create("one"), await bench.create("two")
    made = await asyncio.gather(
        bench.singles.rename(one, "new"), bench.singles.rename(two, "new"),
        bench.singles.create(ContainerConfig("three", "new", "alpine"), SingleRecord("three", "new")),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in made] == [type(None), errors.Conflict, errors.Conflict]
    assert sorted(c.name for c in bench.runtime.found.values()) == ["name-two", "new"]
    assert set(bench.memory.rows) == {one, two}


async def test_a_container_that_cannot_be_made_leaves_no_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create(config: ContainerConfig) -> None:
        assert config.id in bench.memory.rows  # an agent that ends now finds it half made
        raise FileNotFoundError(2, "No such file or directory", "/x")

    monkeypatch.setattr(bench.runtime, "create", create)
    with pytest.raises(errors.ShoalError, match=r"^/x: no such file or directory$"):
        await bench.create("one")
    assert bench.memory.rows == {}


async def test_a_removal_is_finished_by_the_next_agent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await bench.create("one", restart="always")
    async with bench.running():
        await bench.singles.start(one)
    ends = asyncio.Event()

    async def remove(id: str, force: bool = False) -> None:
        await ends.wait()

    with monkeypatch.context() as patched:
        patched.setattr(bench.runtime, "remove", remove)
        removing = asyncio.create_task(bench.singles.remove(one, force=True))
        await bench.until(lambda: one in bench.runtime.found and bench.runtime.found[one].pid == 0)
        removing.cancel()
        await asyncio.wait([removing])
    bench.again()
    with pytest.raises(errors.Conflict, match="marked for removal"):
        await bench.singles.start(one)
    async with bench.running():
        await bench.until(lambda: not bench.memory.rows)
    assert (bench.runtime.found, bench.network.local) == ({}, set())


async def test_a_new_name_is_known_in_overlays_at_once(bench: Bench) -> None:
    one = await bench.create("one", network_mode="net", legs=(Leg("net"),))
    await bench.singles.start(one)
    await bench.singles.rename(one, "new")
    assert (bench.attachments.names, bench.memory.rows[one].name) == ({"a1": "new"}, "new")
    # An agent that ended between the two has the runtime's name in the end.
    bench.runtime.found[one] = replace(bench.runtime.found[one], name="newer")
    bench.again()
    async with bench.running():
        await bench.until(lambda: bench.memory.rows[one].name == "newer")
    assert bench.attachments.names == {"a1": "newer"}


async def test_one_that_starts_slowly_keeps_no_other_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = await bench.create("slow"), await bench.create("other", auto_remove=True)
    goes = asyncio.Event()

    async def attach_local(id: str) -> Sandbox:
        await goes.wait()
        return Sandbox(id, f"/netns/{id}", ())

    async with bench.running():
        await bench.singles.start(slow)
        await bench.singles.start(other)
        monkeypatch.setattr(bench.network, "attach_local", attach_local)
        await bench.runtime.exit(slow)
        await bench.until(lambda: slow not in bench.network.local)
        starting = asyncio.create_task(bench.singles.start(slow))
        await asyncio.sleep(0)
        await bench.runtime.events.put(ContainerEvent(EventKind.EXIT, slow, 0))
        await bench.runtime.exit(other)
        await bench.until(lambda: other not in bench.memory.rows)
        assert not starting.done()
        goes.set()
        assert await starting


async def test_a_paused_container_is_not_started(bench: Bench) -> None:
    one = await bench.create("one")
    bench.runtime.found[one] = replace(bench.runtime.found[one], status=Status.PAUSED, pid=7)
    with pytest.raises(errors.Conflict, match="cannot start a paused container, try unpause instead"):
        await bench.singles.start(one)
