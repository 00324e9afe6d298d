"""From a task's specification to the container that runs it. Pure; called by agent/worker/supervisor.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.network.api import Sandbox
from agent.runtime import api
from common import errors, model, templates

LABEL: Final = "com.docker.swarm"
TASK_LABEL: Final = f"{LABEL}.task.id"
_SECOND: Final = 1_000_000_000
_GRACE: Final = 10 * _SECOND
VolumeFolder = Callable[[str], str]  # a volume's name -> its folder on this node


@dataclass(frozen=True, slots=True)
class Mounts:
    """What must exist on the node before a container with these mounts can be made."""

    mounts: tuple[api.Mount, ...]
    bind_sources: tuple[str, ...]
    volume_folders: tuple[str, ...]
    created_folders: tuple[str, ...]  # bind sources that the service asks to be made


def labels(task: model.Task, node_id: str) -> Mapping[str, str]:
    """The container's labels: the service's own for containers, and Swarm's."""
    own = task.spec.container.labels if task.spec.container else {}
    return {
        **own,
        f"{LABEL}.node.id": node_id,
        f"{LABEL}.service.id": task.service_id,
        f"{LABEL}.service.name": task.service_name,
        f"{LABEL}.task": "",
        TASK_LABEL: task.id,
        f"{LABEL}.task.name": task.name,
    }


def grace_seconds(task: model.Task) -> float:
    """How long the process has between its stop signal and SIGKILL."""
    period = task.spec.container.stop_grace_period if task.spec.container else None
    return (_GRACE if period is None else period) / _SECOND


def _mount(mount: model.Mount, name: str, folder: VolumeFolder) -> api.Mount:
    if mount.type in (model.MountType.BIND, model.MountType.MOUNT_UNSET):
        bind = mount.bind_options
        return api.Mount(
            "bind", mount.source, mount.target, mount.read_only,
            (bind.propagation,) if bind and bind.propagation else (),
        )  # fmt: skip
    if mount.type == model.MountType.VOLUME:
        return api.Mount("volume", folder(mount.source or name), mount.target, mount.read_only)
    if mount.type == model.MountType.TMPFS:
        options = mount.tmpfs_options or model.TmpfsOptions()
        size = (f"size={options.size_bytes}",) if options.size_bytes else ()
        mode = (f"mode={options.mode:o}",) if options.mode else ()
        return api.Mount("tmpfs", "", mount.target, mount.read_only, size + mode)
    raise errors.InvalidArgument(f"mounts of type {mount.type.name.lower()} are not supported")


def _anonymous(task: model.Task, number: int) -> str:
    return f"{task.id}-{number}"


def anonymous_volumes(task: model.Task) -> tuple[str, ...]:
    """Names of the volumes that go with the task."""
    given = task.spec.container.mounts if task.spec.container else ()
    return tuple(
        _anonymous(task, i) for i, m in enumerate(given) if m.type == model.MountType.VOLUME and not m.source
    )


def mounts(task: model.Task, context: templates.Context, folder: VolumeFolder) -> Mounts:
    """The task's mounts, with placeholders filled in. A volume without a name gets one of the task's own."""
    given = task.spec.container.mounts if task.spec.container else ()
    expanded = [templates.expand_mount(mount, context) for mount in given]
    made = tuple(_mount(m, _anonymous(task, i), folder) for i, m in enumerate(expanded))
    wanted = {m.source for m in expanded if m.bind_options and m.bind_options.create_mountpoint}
    binds = tuple(m.source for m in made if m.type == "bind")
    return Mounts(
        made, tuple(b for b in binds if b not in wanted), tuple(m.source for m in made if m.type == "volume"),
        tuple(b for b in binds if b in wanted),
    )  # fmt: skip


def config(
    task: model.Task, node_id: str, container_id: str, context: templates.Context,
    mounts: Mounts, sandbox: Sandbox, host_network: bool = False, files: tuple[api.Mount, ...] = (),
) -> api.ContainerConfig:  # fmt: skip
    """The container of a task whose network is attached. Raises errors.InvalidArgument for a bad placeholder."""
    spec = task.spec.container
    if spec is None:
        raise errors.InvalidArgument("the task has no container specification")
    limits = (
        task.spec.resources.limits if task.spec.resources and task.spec.resources.limits else model.Limits()
    )
    dns = spec.dns_config or model.DNSConfig()
    return api.ContainerConfig(
        id=container_id,
        name=task.name,
        image=spec.image,
        labels=labels(task, node_id),
        command=spec.command,
        args=spec.args,
        env=templates.expand_env(spec.env, context),
        workdir=spec.dir,
        user=spec.user,
        groups=spec.groups,
        hostname=templates.expand_hostname(spec.hostname, context)
        or (context.node_hostname if host_network else container_id[:12]),
        tty=spec.tty,
        open_stdin=spec.open_stdin,
        read_only=spec.read_only,
        mounts=mounts.mounts + files,
        stop_signal=spec.stop_signal,
        stop_grace_ns=_GRACE if spec.stop_grace_period is None else spec.stop_grace_period,
        cap_add=spec.capability_add,
        cap_drop=spec.capability_drop,
        ulimits=tuple(api.Ulimit(u.name, u.soft, u.hard) for u in spec.ulimits),
        sysctls=dict(spec.sysctls),
        nano_cpus=limits.nano_cpus,
        memory_bytes=limits.memory_bytes,
        pids_limit=limits.pids,
        init=bool(spec.init),
        oom_score_adj=spec.oom_score_adj,
        no_new_privileges=bool(spec.privileges and spec.privileges.no_new_privileges),
        network_namespace=None if host_network else sandbox.netns_path,
        host_network=host_network,
        extra_hosts=spec.hosts,
        addresses=sandbox.addresses or ((sandbox.gateway_address,) if sandbox.gateway_address else ()),
        dns_nameservers=dns.nameservers if host_network else ("127.0.0.11",),
        dns_search=dns.search,
        dns_options=dns.options if host_network else _with_ndots(dns.options),
    )


def _with_ndots(options: tuple[str, ...]) -> tuple[str, ...]:
    """Names of services have no dots, and are to be asked for as they are: unless the user says otherwise."""
    given = any(option.startswith("ndots:") for option in options)
    return options if given else (*options, "ndots:0")


def host_ports(task: model.Task) -> model.PortStatus:
    """Ports that the task's own node publishes for it."""
    return model.PortStatus(tuple(p for p in task.ports if p.publish_mode == model.PublishMode.HOST))
