"""The first half of `swarm join`: a manager elsewhere admits this node and issues its papers. Used by agent/membership.py."""

from __future__ import annotations

from dataclasses import replace

from agent import description, identity
from agent.engine.backend import JoinOptions
from agent.identity import Identity
from common import errors, joining, model, pki


async def admit(options: JoinOptions) -> tuple[Identity, model.NodeRole]:
    """The node's papers, and the role that its token stands for; raises errors.ShoalError."""
    advertise = options.advertise_addr and joining.split_address(options.advertise_addr)[0]
    key = pki.key_pem(pki.new_key()).decode()
    reply = await _ask(options, key, advertise)
    papers = identity.issued(
        key, reply.node_id, reply.cluster_id, reply.certificate,
        managers=reply.managers or options.remote_addrs, advertise_addr=advertise,
        data_path_addr=options.data_path_addr, remote_addr=reply.remote_addr, renewal=reply.renewal,
    )  # fmt: skip
    papers = replace(papers, listen_addr=options.listen_addr, manager_addr=options.advertise_addr)
    return papers, reply.role


async def _ask(options: JoinOptions, key: str, advertise: str) -> model.IssueReply:
    """The first manager that answers decides."""
    csr = pki.create_csr(pki.load_key(key.encode()))
    last: errors.ShoalError = errors.InvalidArgument("at least one manager's address is needed")
    for addr in options.remote_addrs:
        try:
            return await joining.join(
                addr, options.join_token, csr, description.hostname(), identity.machine_hash(),
                options.availability, advertise,
            )  # fmt: skip
        except errors.Unavailable as exc:
            last = exc  # the next address may answer
        except errors.InvalidArgument as exc:
            raise errors.InvalidArgument(exc.described()) from exc
    raise type(last)(last.described()) from last
