"""A manager from a backup: which node this machine is in it, and a folder of state that begins where the backup ends.

`make` leaves a folder that nothing counts yet; backups.py makes it the current one. Called in a thread.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from common import errors, ids, model, pki
from common.clock import Clock
from manager import backup, bootstrap, identity, keeper, origin, rescue
from manager.backup import About
from manager.ca import authority
from manager.ca.service import expiry, utc
from manager.identity import Folder, Membership
from manager.raft.seal import new_keys
from manager.raft_membership import raft_id
from manager.store import codec
from manager.store.view import StoreObject

BEHIND: Final = (
    "this machine's clock says {}, which is before the backup was made ({}): set it, and try again"
)


@dataclass(frozen=True, slots=True)
class Made:
    """What `make` made: the answer to whoever asked, and what the keys are locked by."""

    reply: model.RestoreReply
    unlock_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Content:
    about: About
    snapshot: model.RaftSnapshot
    objects: Sequence[StoreObject]
    cluster: model.Cluster

    @property
    def nodes(self) -> list[model.Node]:
        return [t for t in self.objects if isinstance(t, model.Node)]


def make(root: Path, request: model.RestoreRequest, data: bytes, clock: Clock) -> Made:
    """Begins a folder in `root` for the swarm of the backup `data`; raises errors.InvalidArgument or OSError."""
    found = _content(data, request.passphrase)
    _check_clock(found.about.created, clock)
    own, known = own_node(found.nodes, found.about.node, request, ids.new_id)
    member = model.RaftMember(raft_id(secrets.token_bytes), own.id, request.advertise_addr)
    snapshot = origin.restored(
        found.objects, own, member, found.snapshot.index, found.snapshot.term, clock.now_ns()
    )  # fmt: skip
    certificate = _write(identity.begin(root), request, found.cluster, member, snapshot, clock)
    return Made(_reply(found, request, own, known, certificate), found.cluster.unlock_key)


def _content(data: bytes, key: str) -> _Content:
    about, content = backup.read(data, key)
    try:
        snapshot = model.RaftSnapshot.from_bytes(content)
        objects, _, _ = codec.decode_snapshot(snapshot.data)
    except DecodeError as exc:
        raise errors.InvalidArgument(backup.DAMAGED) from exc
    except codec.CorruptState as exc:
        raise errors.InvalidArgument(f"the backup cannot be used: {exc}") from exc
    cluster = next((t for t in objects if isinstance(t, model.Cluster)), None)
    if cluster is None or not cluster.root_ca.key:
        raise errors.InvalidArgument("the backup cannot be used: it holds no swarm with a key of its root")
    return _Content(about, snapshot, objects, cluster)


def _check_clock(created: int, clock: Clock) -> None:
    """What a restored swarm is newer by comes from the clock (origin.py)."""
    now = clock.now_ns()
    if now < created:
        raise errors.InvalidArgument(BEHIND.format(_shown(now), _shown(created)))


def _shown(moment: int) -> str:
    return dt.datetime.fromtimestamp(moment // 1_000_000_000, dt.UTC).isoformat()


def own_node(
    nodes: Sequence[model.Node], maker: str, request: model.RestoreRequest, new_id: Callable[[], str]
) -> tuple[model.Node, bool]:
    """The node that this machine is, and whether it was that before. A machine that two nodes claim is the one that
    made the backup or none."""
    mine = [n for n in nodes if n.description.machine and n.description.machine == request.machine]
    found = next((n for n in mine if n.id == maker), mine[0] if len(mine) == 1 else None)
    host, _ = bootstrap.routable(request.advertise_addr, bootstrap.NO_ADDRESS)
    node = found or model.Node(
        id=new_id(),
        description=model.NodeDescription(machine=request.machine, data_path_addr=host),
        status=model.NodeStatus(state=model.NodeState.NODE_UNKNOWN, addr=host),
    )
    described = replace(
        node.description,
        hostname=request.hostname,
        routes=request.routes,
        data_path_addr=request.data_path_addr or node.description.data_path_addr,
    )
    key = pki.public_key_digest(request.csr)
    return replace(node, description=described, certificate_key=key), found is not None


def _write(
    folder: Folder, request: model.RestoreRequest, cluster: model.Cluster, member: model.RaftMember,
    snapshot: model.RaftSnapshot, clock: Clock,
) -> bytes:  # fmt: skip
    """Fills the folder; answers with the agent's certificate."""
    root, key = authority.root_authority(cluster.root_ca), pki.new_key()

    def issue(csr: bytes, role: model.NodeRole) -> bytes:
        return pki.issue_node(root, csr, member.node_id, role, cluster.id, utc(clock), expiry(cluster))

    keys = new_keys().locked_by(cluster.unlock_key, cluster.unlock_generation)
    keys.save(folder.seal)
    folder.write(
        Membership(member.node_id, cluster.id, request.listen_addr, member.addr, member.raft_id),
        issue(pki.create_csr(key), model.NodeRole.MANAGER),
        keeper.private(pki.key_pem(key), keys),
    )
    rescue.write_first(folder, keys.sealer(), snapshot)
    return issue(request.csr, model.NodeRole.WORKER)


def _reply(
    found: _Content, request: model.RestoreRequest, own: model.Node, known: bool, certificate: bytes
) -> model.RestoreReply:
    others = [n for n in found.nodes if n.id != own.id]
    managers = [n for n in others if n.role is model.NodeRole.MANAGER]
    addresses = {n.manager_status.addr for n in found.nodes if n.manager_status is not None}
    return model.RestoreReply(
        node_id=own.id,
        cluster_id=found.cluster.id,
        certificate=certificate,
        created=found.about.created,
        known_node=known,
        known_addr=request.advertise_addr in addresses,
        managers=tuple(sorted(n.description.hostname or n.id for n in managers)),
        workers=len(others),
        advertise_addr=request.advertise_addr,
    )
