"""Links on the default bridge over a runtime that exists only in memory: what they bring, and when they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.single.record import BRIDGE, Leg, Link, LocalNetwork
from common import errors
from tests.unit.agent.single.single_bench import Bench

NET = LocalNetwork("n" * 64, "net", 5, "", "172.28.0.0/16", "", chosen=True)


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    """`me` is linked to `other`, which runs."""
    bench = Bench(tmp_path)
    await bench.create("other", exposed=("80/tcp",))
    await bench.create("me", links=(Link("db", "other", "name-other"),))
    await bench.singles.start("other")
    return bench


def hosts(bench: Bench) -> list[str]:
    return bench.runtime.links["me"][0]


async def test_what_a_link_brings(bench: Bench) -> None:
    await bench.singles.start("me")
    assert hosts(bench) == ["172.17.0.2 db other name-other"]
    assert bench.runtime.links["me"][1][0] == "DB_PORT=tcp://172.17.0.2:80"
    assert bench.runtime.links["me"][1][-1] == "DB_NAME=/name-me/db"
    linking = bench.singles.linking
    assert (linking.names_of("other"), linking.names_of("me")) == (["/name-me/db"], [])
    assert linking.links_of("me") == ["/name-other:/name-me/db"]
    assert [linking.find(name) for name in ("name-me/db", "/name-me/db", "name-me/x", "name-other", "x/db")] == [
        "other", "other", "", "", "",
    ]  # fmt: skip


async def test_the_other_comes_back_with_another_address(bench: Bench) -> None:
    async with bench.running():
        await bench.singles.start("me")
        await bench.singles.stop("other")
        with pytest.raises(errors.ShoalError, match="non running container: /name-other AS /name-me/db"):
            await bench.singles.linking.refuse("me")
        assert hosts(bench) == ["172.17.0.2 db other name-other"]
        await bench.singles.start(await bench.create("filler"))
        await bench.singles.start("other")
        assert hosts(bench) == ["172.17.0.4 db other name-other"]
        await bench.singles.linking.refuse("me")
        bench.again()  # the agent, too
        await bench.singles.rename("me", "renamed")
        assert bench.singles.linking.links_of("me") == ["/name-other:/renamed/db"]


async def test_only_to_one_that_runs_on_the_bridge(bench: Bench) -> None:
    await bench.singles.add_network(NET)
    await bench.create("elsewhere", network_mode="net", legs=(Leg("net"),))
    await bench.create("lost", links=(Link("x", "elsewhere", "name-elsewhere"),))
    await bench.create("unlinked", legs=(Leg("net"),), links=(Link("x", "elsewhere", "y"),))
    await bench.singles.start("elsewhere")
    with pytest.raises(errors.ShoalError, match="Cannot link to /name-elsewhere, as it does not belong to"):
        await bench.singles.start("lost")
    assert bench.network.local == {"other", "elsewhere"}
    assert bench.memory.rows["lost"].exit_code == 128
    await bench.singles.start("unlinked")  # off the bridge a link brings nothing
    assert bench.runtime.links["unlinked"] == ([], [])
    await bench.singles.start("me")
    await bench.singles.disconnect("other", bench.memory.rows["other"].legs[0])
    with pytest.raises(errors.ShoalError, match="container other not attached to default bridge network"):
        await bench.singles.linking.refuse("me")
    await bench.singles.stop("me")
    await bench.singles.remove("other", force=True)
    with pytest.raises(errors.ShoalError, match="non running container: /name-other AS /name-me/db"):
        await bench.singles.start("me")
    assert bench.singles.linking.links_of("me") == ["/name-other:/name-me/db"]


async def test_a_link_is_cut(bench: Bench) -> None:
    await bench.singles.start("me")
    linking = bench.singles.linking
    for name, why in (
        ("name-other", "Conflict, cannot remove the default link name of the container"),
        ("nobody/db", "Cannot get parent /nobody for link name /nobody/db"),
    ):
        with pytest.raises(errors.ShoalError, match=why):
            await linking.cut(name)
    await linking.cut("name-me/db")
    assert bench.runtime.links["me"] == ([], [])
    assert (linking.names_of("other"), bench.memory.rows["me"].links) == ([], ())
    await bench.singles.linking.refuse("me")


async def test_one_that_cannot_be_told_keeps_nobody_from_starting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def relink(*_: object) -> None:
        raise errors.Unavailable("containerd is away")

    await bench.singles.start("me")
    await bench.singles.stop("other")
    monkeypatch.setattr(bench.runtime, "relink", relink)
    await bench.singles.start("other")
    assert "container me keeps an old link: containerd is away" in caplog.text
    assert bench.memory.rows["other"].legs[0].network == BRIDGE


async def test_off_the_bridge_and_on_it_again(bench: Bench) -> None:
    await bench.singles.start("me")
    lines, env = bench.runtime.links["me"]
    await bench.singles.disconnect("me", bench.memory.rows["me"].legs[0])
    assert bench.runtime.links["me"] == (lines, [])
    await bench.singles.linking.refuse("me")
    await bench.singles.connect("me", Leg(BRIDGE))
    assert bench.runtime.links["me"] == (lines, env)
