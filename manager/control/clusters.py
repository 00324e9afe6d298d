"""The swarm itself in the Control API. Mixed into service.Control."""

from __future__ import annotations

from dataclasses import replace

from common import errors, model
from common.rpc import Caller
from manager.ca import authority
from manager.control import defaults, validation
from manager.control.base import ControlBase
from manager.store.store import Transaction


class ClusterMethods(ControlBase):
    """GetCluster, UpdateCluster."""

    async def get_cluster(self, request: model.Nothing, caller: Caller) -> model.ClusterReply:
        return model.ClusterReply((await self.read()).cluster)

    async def update_cluster(self, request: model.UpdateClusterRequest, caller: Caller) -> model.ClusterReply:
        validation.cluster(request.spec)
        if request.rotate_unlock_key:
            raise errors.Unimplemented("autolock is not supported yet")
        rotated = {
            model.NodeRole.WORKER: request.rotate_worker_token,
            model.NodeRole.MANAGER: request.rotate_manager_token,
        }
        secrets = {role: self.entropy(authority.SECRET_BYTES) for role, asked in rotated.items() if asked}

        def change(tx: Transaction) -> None:
            cluster = tx.expect(tx.view.cluster, request.version)
            spec = defaults.merged_cluster(request.spec, cluster.spec)
            if spec.ca.force_rotate != cluster.spec.ca.force_rotate:
                raise errors.Unimplemented("rotation of the root certificate is not supported yet")
            root = authority.rotated(cluster.root_ca, secrets)
            tx.put(replace(cluster, spec=spec, root_ca=root))

        await self.store.update(change)
        return model.ClusterReply(self.store.view().cluster)
