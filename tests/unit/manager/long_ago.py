"""Managers and nodes that were off for so long that their certificates have expired. For test_renewal*.py."""

import asyncio
import datetime as dt
from dataclasses import replace

from managers import DEADLINE, Machine, Machines

from agent.identity import Identity
from agent.renewal import Renewal
from common import errors, joining, model, pki
from manager import identity
from manager.ca import authority

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
LONG_AGO = NOW - 100 * DAY
LIFE = 90 * DAY


def outdate(machine: Machine, root: model.RootCA) -> None:
    """What a manager that was off since long ago has on its disk."""
    folder = identity.current(machine.running.path / "state")
    assert folder is not None
    known = folder.load()[0]
    key = pki.new_key()
    chain = pki.issue_node(
        authority.root_authority(root),
        pki.create_csr(key),
        known.node_id,
        MANAGER,
        known.cluster_id,
        LONG_AGO,
    )
    folder.write_certificate(chain, pki.key_pem(key))


async def three(swarm: Machines) -> tuple[Machine, Machine, Machine]:
    a, b, c = swarm.all.values()
    await b.join(a)
    await c.join(a)
    for machine in (a, b, c):
        await machine.until(lambda m: len([s for s in m.consensus.members() if s.voter]) == 3)
    return a, b, c


def root_of(machine: Machine) -> model.RootCA:
    root: model.RootCA = machine.member.store.view().cluster.root_ca
    return root


async def works(machine: Machine) -> None:
    """Somebody joins there, which takes a handshake, an agreement and the CA."""
    token = root_of(machine).join_tokens.worker
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await joining.join(machine.addr, token, pki.create_csr(pki.new_key()), "w", "w")
            except errors.ShoalError as exc:
                if "leader" not in exc.message and not isinstance(exc, errors.Unavailable):
                    raise
            else:
                return


class Worker:
    """A node, as its agent keeps it."""

    def __init__(self, papers: Identity, *addresses: str) -> None:
        self.identity: Identity | None = papers
        self._addresses = addresses
        self.renewal = Renewal(self, back_off=(0.01, 0.1))
        self.kept = asyncio.Event()

    @property
    def papers(self) -> Identity:
        assert self.identity is not None
        return self.identity

    def addresses(self) -> list[str]:
        return list(self._addresses)

    def keep(self, papers: Identity) -> None:
        self.identity = papers
        self.kept.set()

    def copy(self) -> "Worker":
        return Worker(self.papers, *self._addresses)

    def outdate(self, root: model.RootCA, issued: dt.datetime = LONG_AGO) -> None:
        """The certificate was issued then, and has expired by default; all else stays."""
        key = pki.load_key(self.papers.key.encode())
        chain = pki.issue_node(
            authority.root_authority(root), pki.create_csr(key), self.papers.node_id, WORKER,
            self.papers.cluster_id, issued,
        )  # fmt: skip
        self.identity = replace(self.papers, certificate=chain.decode())

    async def comes_back(self, addr: str = "") -> None:
        async with self.renewal.dial(addr or self._addresses[0]):
            assert pki.usable(self.papers.certificate.encode(), NOW)


async def joined(machine: Machine, *addresses: str) -> Worker:
    key = pki.new_key()
    token = root_of(machine).join_tokens.worker
    reply = await joining.join(machine.addr, token, pki.create_csr(key), "w", "w")
    papers = Identity(
        reply.node_id, reply.cluster_id, pki.key_pem(key).decode(), reply.certificate.decode(),
        pki.split_chain(reply.certificate)[-1].decode(), "w", renewal=reply.renewal.decode(),
    )  # fmt: skip
    return Worker(papers, *(addresses or (machine.addr,)))
