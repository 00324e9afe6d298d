"""Backups through the agent: it passes them on, and after a restore it is the node that the manager says it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_agent_membership import CLUSTER, NODE, manager, node, options, until

from agent import identity
from agent.engine.backend import LocalState, RestoreOptions
from common import errors, model

DATA = b"backup" * 400_000


def wanted(addr: str, force: bool = False) -> RestoreOptions:
    return RestoreOptions("0.0.0.0:2377", addr, "", "phrase", force)


async def test_a_backup_is_passed_on(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        with pytest.raises(errors.Unavailable, match="not a swarm manager"):
            n.membership.backup("x")
        await n.membership.init(options(double.addr))
        assert b"".join([piece async for piece in n.membership.backup("x")]) == b"onetwox"
        with pytest.raises(errors.Unavailable, match=r"^no backup$"):
            await anext(n.membership.backup("bad"))


async def test_an_empty_node_becomes_a_manager(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        reply = await n.membership.restore(wanted(double.addr), DATA)
        assert reply.node_id == NODE
        first, *parts = double.restores[0]
        assert b"".join(p.data for p in (first, *parts)) == DATA
        assert (first.passphrase, first.force, first.advertise_addr) == ("phrase", False, double.addr)
        assert (first.machine, first.routes) == (identity.machine_hash(), ("10.0.0.0/8",))
        shown = n.membership.membership()
        assert (shown.state, shown.node_id, shown.manager) == (LocalState.ACTIVE, NODE, True)
        kept = identity.load(n.folder)
        assert kept is not None
        assert (kept.cluster_id, kept.manager_addr, kept.listen_addr) == (
            CLUSTER,
            double.addr,
            "0.0.0.0:2377",
        )
        await until(lambda: n.applier.applied_index == 5)
        with pytest.raises(errors.Unavailable, match="already part of a swarm"):
            await n.membership.restore(wanted(double.addr), DATA)
        assert len(double.restores) == 1


async def test_a_refused_restore_leaves_the_node_as_it_was(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        double.restore_error = errors.InvalidArgument("that is not the passphrase of the backup")
        with pytest.raises(errors.InvalidArgument, match=r"^that is not the passphrase of the backup$"):
            await n.membership.restore(wanted(double.addr), DATA)
        assert n.membership.membership().state is LocalState.INACTIVE
        await n.membership.init(options(double.addr))
        before = identity.load(n.folder)
        with pytest.raises(errors.InvalidArgument):
            await n.membership.restore(wanted(double.addr, force=True), DATA)
        assert identity.load(n.folder) == before
        assert n.membership.membership().state is LocalState.ACTIVE


async def test_the_same_node_keeps_what_it_runs(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        await n.membership.init(options(double.addr))
        await until(lambda: n.applier.applied_index == 5)
        before, state = identity.load(n.folder), n.applier.state
        await n.membership.restore(wanted(double.addr, force=True), DATA)
        after = identity.load(n.folder)
        assert before is not None and after is not None
        assert (after.node_id, after.key == before.key) == (NODE, False)
        assert n.applier.state.fence.cluster_id == state.fence.cluster_id
        assert n.network.torn_down == 0
        assert double.leaves == []


async def test_another_node_begins_with_nothing(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        await n.membership.init(options(double.addr))
        await until(lambda: n.applier.applied_index == 5)
        double.restored_as = "another"
        await n.membership.restore(wanted(double.addr, force=True), DATA)
        assert n.network.torn_down == 1
        assert n.membership.node_id == "another"
        await until(lambda: n.membership.link.connected)
        assert n.membership.membership().managers == (model.ManagerAddress("m1", double.addr),)
