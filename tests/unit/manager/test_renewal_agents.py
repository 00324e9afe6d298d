"""Whole machines, agent and manager, that were off until every certificate had expired."""

import datetime as dt
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from manager_swarm import ask
from test_managers_agents import MANAGER, WORKER, Node, listed, machines, until

from agent import identity as agent_identity
from agent.engine.backend import LocalState
from common import model, pki
from manager import identity
from manager.ca import authority

NOW = dt.datetime.now(dt.UTC)
LONG_AGO = NOW - dt.timedelta(days=100)


def root_of(node: Node) -> pki.Authority:
    member = node.running.daemon.member
    assert member is not None
    return authority.root_authority(member.store.view().cluster.root_ca)


def outdate(folder: Path, root: pki.Authority) -> None:
    """What is on the disk of a machine that was off since long ago."""
    papers = agent_identity.load(folder / "agent")
    assert papers is not None
    csr = pki.create_csr(pki.load_key(papers.key.encode()))
    chain = pki.issue_node(root, csr, papers.node_id, WORKER, papers.cluster_id, LONG_AGO)
    agent_identity.save(folder / "agent", replace(papers, certificate=chain.decode()))
    if (state := identity.current(folder / "state")) is not None:
        key = pki.new_key()
        chain = pki.issue_node(
            root, pki.create_csr(key), papers.node_id, MANAGER, papers.cluster_id, LONG_AGO
        )
        state.write_certificate(chain, pki.key_pem(key))


def connected(node: Node) -> bool:
    papers = node.bench.membership.identity
    assert papers is not None
    return node.bench.membership.link.connected and pki.usable(papers.certificate.encode(), NOW)


async def test_a_whole_swarm_that_was_off_for_a_year(tmp_path: Path) -> None:
    async with machines(tmp_path) as swarm:
        a, b, c, d = [await swarm.on(name) for name in "abcd"]
        await a.init()
        await b.join(a, MANAGER)
        await c.join(a, MANAGER)
        await d.join(b, WORKER)
        await listed(c, a, b, c)
        root = root_of(a)
        for name in "abcd":
            await swarm.off(name)
            outdate(tmp_path / name, root)
        everybody = a, b, c, d = [await swarm.on(name) for name in "abcd"]
        await listed(a, a, b, c)
        for machine in everybody:
            await until(partial(connected, machine))
            assert machine.bench.membership.membership().state is LocalState.ACTIVE


async def test_a_node_that_was_removed_meanwhile_is_told_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with machines(tmp_path) as swarm:
        a, b = [await swarm.on(name) for name in "ab"]
        await a.init()
        await b.join(a, WORKER)
        root, gone = root_of(a), b.id
        await swarm.off("b")
        outdate(tmp_path / "b", root)
        await ask(a.running.control.RemoveNode, model.RemoveRequest(gone, force=True))
        b = await swarm.on("b")
        await until(lambda: b.bench.membership.membership().state is LocalState.ERROR)
        assert b.bench.membership.membership().error == (f"node {gone} is not part of this swarm (any more)")
