"""What a container is before it runs: a writable layer, its files for /etc, a specification, and containerd's record of it.

Called by the containers' life, which creates one by its settings, and deletes it at the end or when its creation fails half-way.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from agent.runtime import client as c
from agent.runtime import facts, signals, spec, users
from agent.runtime.api import ContainerConfig
from agent.runtime.content import SNAPSHOTTER, Content
from agent.runtime.folder import Folders, Record
from agent.runtime.image import ImageInfo
from agent.runtime.images import Images, missing
from agent.runtime.manifest import chain_ids
from common import errors
from common.pb import containerd_pb2 as pb

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
OPTIONS_TYPE = "containerd.runc.v1.Options"
SHIM = "io.containerd.runc.v2"


@dataclass(frozen=True, slots=True)
class Draft:
    """A container that can be created: its settings have been checked, and what they name is there."""

    record: Record
    image: ImageInfo
    devices: Sequence[spec.HostDevice]


class Creator:
    """`oci_binary` runs the containers; `host` is what a specification must know of the node."""

    def __init__(
        self,
        containerd: c.Containerd,
        content: Content,
        images: Images,
        folders: Folders,
        host: spec.HostFacts,
        oci_binary: str,
    ) -> None:
        self._containerd = containerd
        self._content = content
        self._images = images
        self._folders = folders
        self._host = host
        self._oci_binary = oci_binary

    async def created(self) -> Sequence[pb.Container]:
        """All that containerd knows of."""
        return (await self._containerd.call(c.CONTAINER_LIST, pb.Filters())).containers

    async def draft(self, config: ContainerConfig, created_at: int) -> Draft:
        """Raises errors.ShoalError for settings that can't be met."""
        info = await self._images.find(config.image)
        if info is None:
            raise missing(config.image)
        stop_signal = config.stop_signal or info.config.stop_signal or "SIGTERM"
        signals.parse(stop_signal)
        await asyncio.to_thread(facts.check_sources, config.mounts)
        devices = await asyncio.to_thread(facts.look_up_devices, config.devices)
        return Draft(Record(config, info.id, stop_signal, created_at), info, devices)

    async def create(self, draft: Draft) -> None:
        """What a failure leaves is for `delete` and `Folders.remove`."""
        config, image = draft.record.config, draft.image
        async with self._containerd.lease("create") as lease:
            mounts = await self._root_file_system(config.id, image.target.digest, lease)
            user = await asyncio.to_thread(_find_user, config, image.config.user, mounts)
            files = await asyncio.to_thread(self._folders.prepare, draft.record)
            runtime_spec = spec.build(config, image.config, user, files, self._host, draft.devices)
            box = pb.ContainerBox(container=self._container(config, runtime_spec))
            await c.tolerate(
                self._containerd.call(c.CONTAINER_CREATE, box, lease=lease), errors.AlreadyExists
            )

    async def delete(self, id: str) -> None:
        """Containerd's part of it goes; the folder stays."""
        await c.tolerate(self._containerd.call(c.CONTAINER_DELETE, pb.Id(id=id)), errors.NotFound)
        await self._content.drop_snapshot(id)

    async def relink(self, id: str, env: Sequence[str]) -> None:
        """Another environment of links for what is started in it from now on."""
        box = await self._containerd.call(c.CONTAINER_GET, pb.Id(id=id))
        before = json.loads(box.container.spec.value)
        after = spec.linked(before, env)
        if after != before:
            changed = pb.Container(id=id, spec=c.packed(SPEC_TYPE, json.dumps(after).encode()))
            mask = FieldMask(paths=["spec"])
            await self._containerd.call(
                c.CONTAINER_UPDATE, pb.ContainerBox(container=changed, update_mask=mask)
            )

    async def _root_file_system(self, id: str, manifest_digest: str, lease: str) -> Sequence[pb.Mount]:
        """A writable layer on the image's; unpacks the image again if its snapshots have gone."""
        await self._content.drop_snapshot(id)  # of an attempt that a crash cut off
        manifest, configuration = await self._images.manifest_of(manifest_digest)
        top = chain_ids(configuration.diff_ids)[-1] if configuration.diff_ids else ""
        try:
            return await self._content.prepare(id, top, lease)
        except errors.NotFound:
            await self._content.unpack(manifest, configuration, lease)
            return await self._content.prepare(id, top, lease)

    def _container(self, config: ContainerConfig, runtime_spec: Mapping[str, Any]) -> pb.Container:
        options = pb.RuncOptions(binary_name=self._oci_binary)
        return pb.Container(
            id=config.id,
            labels={"shoal.name": config.name},
            image=config.image,
            runtime=pb.Container.Runtime(
                name=SHIM, options=c.packed(OPTIONS_TYPE, options.SerializeToString())
            ),
            spec=c.packed(SPEC_TYPE, json.dumps(runtime_spec).encode()),
            snapshotter=SNAPSHOTTER,
            snapshot_key=config.id,
        )


def _find_user(config: ContainerConfig, image_user: str, mounts: Sequence[pb.Mount]) -> users.User:
    """Blocking: reads the image's account files."""
    root = mounts[0]
    folders = users.layer_folders(root.type, root.source, root.options)
    return users.lookup(
        config.user or image_user,
        config.groups,
        users.read_image_file(folders, "etc/passwd"),
        users.read_image_file(folders, "etc/group"),
    )
