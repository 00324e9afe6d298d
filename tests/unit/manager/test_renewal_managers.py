"""Managers that were off for so long that their certificates have expired come back."""

import asyncio
import socket
import ssl
from pathlib import Path

from long_ago import NOW, outdate, root_of, three, works
from manager_swarm import ask
from managers import Machine, machines

from common import model, pki
from common.model.stubs import ControlStub
from manager import identity


async def test_a_manager_alone_comes_back(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        root = root_of(a)
        await swarm.off("a")
        outdate(a, root)
        a = await swarm.on("a")
        assert pki.usable(a.member.papers.chain, NOW)
        await works(a)


async def test_one_of_three_comes_back(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = await three(swarm)
        root = root_of(a)
        await swarm.off("c")
        outdate(c, root)
        c = await swarm.on("c")
        index = a.member.store.view().index
        await c.until(lambda m: m.store.view().index >= index and bool(m.consensus.leader_id))
        await works(c)
        assert b.voters() == {a.node_id, b.node_id, c.node_id}


async def test_all_three_come_back_at_once(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        root = root_of((await three(swarm))[0])
        for name in "abc":
            await swarm.off(name)
            outdate(swarm.all[name], root)
        for name in "abc":
            await swarm.on(name)
        await swarm.led()
        for machine in swarm.all.values():
            await works(machine)


async def test_a_crash_between_key_and_certificate_is_no_end(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        await swarm.off("a")
        folder = identity.current(a.running.path / "state")
        assert folder is not None
        folder.key.write_bytes(pki.key_pem(pki.new_key()))
        a = await swarm.on("a")
        await works(a)


def shown_by(machine: Machine, key: Path, chain: Path) -> bytes:
    """The certificate that a manager shows to whoever connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(chain, key)
    with (
        socket.create_connection(("127.0.0.1", machine.running.port), timeout=30) as raw,
        context.wrap_socket(raw) as made,
    ):
        found = made.getpeercert(binary_form=True)
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found).encode()


async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, _ = await three(swarm)
        (tmp_path / "key").write_bytes(a.key)
        (tmp_path / "chain").write_bytes(a.certificate)
        before = {m.name: m.member.papers for m in (a, b)}
        for machine in (a, b):
            machine.member._certificate._moment = 0.0
            machine.member._certificate.check()
            assert machine.member.papers != before[machine.name]
            shown = await asyncio.to_thread(shown_by, machine, tmp_path / "key", tmp_path / "chain")
            assert shown.split() == pki.split_chain(machine.member.papers.chain)[0].split()
        await works(b)  # a call that is passed on
        async with b.member.papers.channel(a.addr) as channel:
            await ask(ControlStub(channel).GetCluster, model.Nothing())
