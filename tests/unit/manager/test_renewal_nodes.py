"""Nodes whose certificates have expired come back by any manager; those that nobody knows any more don't."""

import asyncio
import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from long_ago import LIFE, MANAGER, NOW, WORKER, joined, root_of, three, works
from manager_swarm import ask
from managers import DEADLINE, local, machines

from common import errors, joining, model, pki
from common.pb import backup_pb2, ca_pb2, control_pb2, dispatcher_pb2, local_pb2, raft_pb2
from common.rpc import method_roles
from manager.ca import authority


async def test_an_expired_node_comes_back_by_any_manager(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        for machine in await three(swarm):
            worker = await joined(machine)
            for _ in range(2):  # and again with what it was given
                worker.outdate(root_of(machine))
                await worker.comes_back()


async def test_a_node_renews_in_time_by_any_manager(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        for machine in await three(swarm):
            worker = await joined(machine)
            worker.outdate(root_of(machine), NOW - LIFE * 0.85)
            before = worker.papers
            running = asyncio.create_task(worker.renewal.run())
            async with asyncio.timeout(DEADLINE):
                while worker.papers.renewal == before.renewal:
                    worker.kept.clear()
                    await worker.kept.wait()
            running.cancel()
            stored = machine.node(before.node_id)
            assert worker.papers.key != before.key
            assert stored.certificate_key == pki.certificate_key_digest(worker.papers.certificate.encode())
            assert stored.certificate_number == pki.renewal_number(worker.papers.renewal.encode())


async def test_a_removed_node_does_not(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        worker.outdate(root_of(a))
        await local(a.running.control.RemoveNode, model.RemoveRequest(worker.papers.node_id, force=True))
        with pytest.raises(errors.Unauthenticated, match=r"is not part of this swarm \(any more\)"):
            await worker.comes_back()


def test_nothing_else_is_for_a_node_whose_certificate_has_expired() -> None:
    found = [
        method.full_name
        for module in (backup_pb2, ca_pb2, control_pb2, dispatcher_pb2, local_pb2, raft_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if model.Role.ROLE_RENEWER in method_roles(method)
    ]
    assert found == ["shoal.CA.Renew"]


async def test_a_copy_without_the_newest_key_does_not(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        clone = worker.copy()
        for machine in (worker, clone):
            machine.outdate(root_of(a))
        await worker.comes_back()
        with pytest.raises(errors.PermissionDenied, match="has a newer certificate than this machine"):
            await clone.comes_back()
        worker.outdate(root_of(a))
        await worker.comes_back()  # the refusal has changed nothing


async def test_a_reply_was_lost(tmp_path: Path) -> None:
    """The store knows the key that the node had kept before it asked."""
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        worker.outdate(root_of(a))
        fresh = pki.new_key()
        worker.keep(replace(worker.papers, next_key=pki.key_pem(fresh).decode()))
        other = worker.copy()
        await other.comes_back()  # this one's reply is lost
        await worker.comes_back()
        assert worker.papers.key == pki.key_pem(fresh).decode()


async def test_after_a_restore_a_newer_certificate_counts(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        old, then = worker.copy(), a.node(worker.papers.node_id)
        worker.outdate(root_of(a))
        await worker.comes_back()
        worker.outdate(root_of(a))
        await a.member.store.update(lambda tx: tx.put(then))  # as a backup has it
        await worker.comes_back()
        assert a.node(then.id).certificate_number > then.certificate_number
        old.outdate(root_of(a))
        with pytest.raises(errors.PermissionDenied, match="newer certificate"):
            await old.comes_back()


async def test_a_renewed_certificate_lives_as_the_swarm_says(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        cluster = (await ask(a.running.control.GetCluster, model.Nothing())).cluster
        spec = replace(cluster.spec, ca=replace(cluster.spec.ca, node_cert_expiry=2 * 3600 * 10**9))
        await ask(
            a.running.control.UpdateCluster, model.UpdateClusterRequest(version=cluster.version, spec=spec)
        )
        worker = await joined(a)
        worker.outdate(root_of(a))
        await worker.comes_back()
        start, end = pki.validity(worker.papers.certificate.encode())
        assert end - start == dt.timedelta(hours=2) + pki.BACKDATE


async def test_a_rotated_token_is_worth_nothing_at_once_anywhere(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        found = await three(swarm)
        worker = await joined(found[0])
        asked = next(m for m in found if not m.member.consensus.leader)
        for role in (WORKER, MANAGER):
            cluster = (await ask(asked.running.control.GetCluster, model.Nothing())).cluster
            old = authority.token_for(cluster.root_ca, role)
            await ask(
                asked.running.control.UpdateCluster,
                model.UpdateClusterRequest(
                    version=cluster.version, spec=cluster.spec,
                    rotate_worker_token=role is WORKER, rotate_manager_token=role is MANAGER,
                ),
            )  # fmt: skip
            for machine in found:
                with pytest.raises((errors.InvalidArgument, errors.Unauthenticated)):
                    await joining.join(machine.addr, old, pki.create_csr(pki.new_key()), "w", "w")
        for machine in found:  # members stay, whatever they were let in by
            await works(machine)
            worker.outdate(root_of(machine))
            await worker.comes_back(machine.addr)
