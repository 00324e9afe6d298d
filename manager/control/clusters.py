"""The swarm itself in the Control API. Mixed into service.Control."""

from __future__ import annotations

from dataclasses import replace

from common import errors, model
from common.rpc import Caller
from manager import autolock
from manager.ca import authority
from manager.control import defaults, validation
from manager.control.base import ControlBase
from manager.store.store import Transaction


class ClusterMethods(ControlBase):
    """GetCluster, UpdateCluster."""

    async def get_cluster(self, request: model.Nothing, caller: Caller) -> model.ClusterReply:
        cluster = (await self.read()).cluster
        return model.ClusterReply(cluster, autolock.text(cluster.unlock_key))

    async def update_cluster(self, request: model.UpdateClusterRequest, caller: Caller) -> model.ClusterReply:
        validation.cluster(request.spec)
        rotated = {
            model.NodeRole.WORKER: request.rotate_worker_token,
            model.NodeRole.MANAGER: request.rotate_manager_token,
        }
        new_key = self.entropy(autolock.KEY_BYTES)
        secrets = {role: self.entropy(authority.SECRET_BYTES) for role, asked in rotated.items() if asked}

        def change(tx: Transaction) -> None:
            cluster = tx.expect(tx.view.cluster, request.version)
            spec = defaults.merged_cluster(request.spec, cluster.spec)
            if spec.ca.force_rotate != cluster.spec.ca.force_rotate:
                raise errors.Unimplemented("rotation of the root certificate is not supported yet")
            root = authority.rotated(cluster.root_ca, secrets)
            key, generation = autolock.relocked(
                cluster, spec.encryption.auto_lock_managers, request.rotate_unlock_key, new_key
            )
            tx.put(replace(cluster, spec=spec, root_ca=root, unlock_key=key, unlock_generation=generation))

        await self.store.update(change)
        return model.ClusterReply(self.store.view().cluster)
