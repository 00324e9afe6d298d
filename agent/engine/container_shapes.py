"""What a task's container looks like in the Engine API. Pure; called by containers.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.engine.network_shapes import TASK_LABEL, stable_id
from agent.network.names import mac
from agent.runtime.api import ContainerConfig, ContainerState, ImageInfo, Mount, Status
from agent.single.record import BRIDGE, HOST, NONE, SingleRecord
from agent.state import NodeState
from common import apijson, model

__all__ = ["TASK_LABEL", "inspection", "same_image", "summary"]

_SECOND: Final = 1_000_000_000
_UNITS: Final = (
    (2 * 365 * 24 * 3600, 365 * 24 * 3600, "years"),
    (2 * 30 * 24 * 3600, 30 * 24 * 3600, "months"),
    (2 * 7 * 24 * 3600, 7 * 24 * 3600, "weeks"),
    (48 * 3600, 24 * 3600, "days"),
    (int(1.5 * 3600), 3600, "hours"),
    (120, 60, "minutes"),
)


@dataclass(frozen=True, slots=True)
class Around:
    """What else there is to say of containers: the node's assignments, and of one container the record of a single one."""

    state: NodeState = field(default_factory=NodeState)
    single: SingleRecord | None = None
    gateways: Mapping[str, str] = field(default_factory=dict)  # addresses on docker_gwbridge, by namespace
    node: str = ""


def human_duration(seconds: float) -> str:
    """A span of time as Docker's tables say it: "About a minute", "3 hours"."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    if seconds < 120:
        return "About a minute"
    if seconds >= 3600 and round(seconds / 3600) == 1:
        return "About an hour"
    for least, unit, name in _UNITS:
        if seconds >= least:
            return f"{round(seconds / unit) if name == 'hours' else int(seconds // unit)} {name}"
    return f"{int(seconds // 60)} minutes"


def status_text(container: ContainerState, now: int) -> str:
    """Docker's Status column."""
    if container.status is Status.CREATED:
        return "Created"
    if container.status is Status.STOPPED:
        if container.exit is None:
            return "Dead"
        ago = human_duration((now - container.exit.exited_at) / _SECOND)
        return f"Exited ({container.exit.code}) {ago} ago"
    up = f"Up {human_duration((now - container.started_at) / _SECOND)}"
    return f"{up} (Paused)" if container.status is Status.PAUSED else up


def same_image(image: str, wanted: str) -> bool:
    """Whether a container's image is the one that a filter names, with or without tag and digest."""
    name = image.partition("@")[0]
    return wanted in (image, name, name.rpartition(":")[0])


def summary(
    container: ContainerState, around: Around, images: Mapping[str, ImageInfo], now: int
) -> dict[str, Any]:
    """One line of GET /containers/json."""
    state = around.state
    name, _, digest = container.image.partition("@")
    image = (
        images.get(name) or images.get(f"{name.rpartition(':')[0]}@{digest}") or images.get(f"{name}:latest")
    )
    return {
        "Id": container.id,
        "Names": ["/" + container.name.removeprefix("/")],
        "Image": container.image,
        "ImageID": image.id if image else "",
        "Command": " ".join(
            f"'{part}'" if " " in part else part for part in _command(container.config, image)
        ),
        "Created": container.created_at // _SECOND,
        "Ports": _ports_line(container, state, image),
        "Labels": dict(container.labels),
        "State": str(container.status),
        "Status": status_text(container, now),
        "HostConfig": {"NetworkMode": around.single.network_mode if around.single else "default"},
        "NetworkSettings": {"Networks": networks(container, around)},
        "Mounts": [_mount(m) for m in (container.config.mounts if container.config else ()) if m.listed],
    }


def _command(config: ContainerConfig | None, image: ImageInfo | None) -> list[str]:
    """Entry point and arguments as they run."""
    if config is None:
        return []
    own = image.config if image else None
    if config.command:
        return [*config.command, *config.args]
    return [*(own.entrypoint if own else ()), *(config.args or (own.cmd if own else ()))]


def networks(container: ContainerState, around: Around) -> dict[str, Any]:
    """The networks that a container is in, by name; a single one's also while it doesn't run, without addresses."""
    state, single = around.state, around.single
    task_id = single.sandbox if single else container.labels.get(TASK_LABEL, "")
    assignment = state.tasks.get(task_id)
    shown: dict[str, Any] = {}
    for attachment in assignment.task.networks if assignment else ():
        network = state.networks.get(attachment.network_id)
        if network is None or not attachment.addresses:
            continue
        address, _, length = attachment.addresses[0].partition("/")
        shown[network.spec.name] = _endpoint(
            network.id, task_id, address, int(length or 32), (*attachment.aliases, container.id[:12])
        )
    if single is not None and not shown:
        shown = _of_single(container, single, around)
    return shown


def _of_single(container: ContainerState, single: SingleRecord, around: Around) -> dict[str, Any]:
    """The node's own network that it is in, or overlays in which it has no address now."""
    if single.legs:
        return {leg.network: _endpoint("", "", "", 0, leg.aliases) for leg in single.legs}
    network_id = stable_id(around.node, single.network_mode)
    running = container.status in (Status.RUNNING, Status.PAUSED)
    address = around.gateways.get(single.sandbox, "") if single.network_mode == BRIDGE else ""
    endpoint = single.container_id if running and (address or single.network_mode in (HOST, NONE)) else ""
    return {single.network_mode: _endpoint(network_id, endpoint, address, 16 if address else 0, ())}


def _endpoint(
    network_id: str, member: str, address: str, length: int, aliases: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "IPAMConfig": {"IPv4Address": address} if aliases and address else None,
        "Links": None,
        "Aliases": list(aliases) or None,
        "NetworkID": network_id,
        "EndpointID": stable_id(network_id, member) if member else "",
        "Gateway": "",
        "IPAddress": address,
        "IPPrefixLen": length,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": mac(address) if address and ":" not in address else "",
        "DriverOpts": None,
    }


def inspection(
    container: ContainerState, image: ImageInfo | None, around: Around, folder: str,
    execs: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """GET /containers/{id}/json."""
    config = container.config
    command = _command(config, image)
    return {
        "Id": container.id,
        "Created": apijson.format_time(container.created_at),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": _state(container),
        "Image": image.id if image else "",
        "ResolvConfPath": f"{folder}/resolv.conf",
        "HostnamePath": f"{folder}/hostname",
        "HostsPath": f"{folder}/hosts",
        "LogPath": "",
        "Name": "/" + container.name.removeprefix("/"),
        "RestartCount": 0,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs or None,
        "HostConfig": _host_config(
            config or ContainerConfig(container.id, container.name, container.image), around.single
        ),
        "GraphDriver": {"Data": None, "Name": "overlayfs"},
        "Mounts": [_mount(mount) for mount in (config.mounts if config else ()) if mount.listed],
        "Config": _config(container, image, around.single),
        "NetworkSettings": _network_settings(container, config, around, image),
    }


def _state(container: ContainerState) -> dict[str, Any]:
    ended = container.exit
    return {
        "Status": str(container.status),
        "Running": container.status in (Status.RUNNING, Status.PAUSED),
        "Paused": container.status is Status.PAUSED,
        "Restarting": False,
        "OOMKilled": bool(ended and ended.oom_killed),
        "Dead": False,
        "Pid": container.pid,
        "ExitCode": ended.code if ended else 0,
        "Error": "",
        "StartedAt": apijson.format_time(container.started_at),
        "FinishedAt": apijson.format_time(ended.exited_at if ended else 0),
    }


def _host_config(config: ContainerConfig, single: SingleRecord | None) -> dict[str, Any]:
    mode = "host" if config.host_network else "default"
    return {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "json-file", "Config": {}},
        "NetworkMode": single.network_mode if single else mode,
        "PortBindings": {},
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        "AutoRemove": bool(single and single.auto_remove),
        "VolumeDriver": "",
        "VolumesFrom": None,
        "CapAdd": list(config.cap_add) or None,
        "CapDrop": list(config.cap_drop) or None,
        "CgroupnsMode": "private",
        "Dns": list(config.dns_nameservers),
        "DnsOptions": list(config.dns_options),
        "DnsSearch": list(config.dns_search),
        "ExtraHosts": list(config.extra_hosts) or None,
        "GroupAdd": list(config.groups) or None,
        "IpcMode": "private",
        "Links": None,
        "OomScoreAdj": config.oom_score_adj,
        "PidMode": "",
        "Privileged": config.privileged,
        "PublishAllPorts": False,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": ["no-new-privileges"] if config.no_new_privileges else None,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": config.shm_bytes,
        "Sysctls": dict(config.sysctls),
        "Runtime": "",
        "Isolation": "",
        "CpuShares": 0,
        "Memory": config.memory_bytes,
        "NanoCpus": config.nano_cpus,
        "MemorySwap": config.memory_swap_bytes,
        "MemorySwappiness": config.memory_swappiness,
        "PidsLimit": config.pids_limit or None,
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in config.ulimits],
        "Init": config.init,
    }


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": "",
        "RW": not mount.read_only,
        "Propagation": next(
            (o for o in mount.options if o in ("rshared", "rslave", "rprivate", "shared", "slave")), ""
        ),
    }


def _config(
    container: ContainerState, image: ImageInfo | None, single: SingleRecord | None
) -> dict[str, Any]:
    stdin, stdout, stderr = single.attach if single else (False, False, False)
    config, own = container.config, image.config if image else None
    exposed = own.exposed_ports if own else ()
    shown: dict[str, Any] = {
        "Hostname": config.hostname if config and config.hostname else container.id[:12],
        "Domainname": config.domainname if config else "",
        "User": (config.user if config else "") or (own.user if own else ""),
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        **({"ExposedPorts": {port: {} for port in exposed}} if exposed else {}),
        "Tty": bool(config and config.tty),
        "OpenStdin": bool(config and config.open_stdin),
        "StdinOnce": bool(single and single.stdin_once),
        "Env": _environment(config.env if config else (), own.env if own else ()),
        "Cmd": list((config.args if config else ()) or (own.cmd if own else ())) or None,
        "Image": container.image,
        "Volumes": None,
        "WorkingDir": (config.workdir if config else "") or (own.workdir if own else ""),
        "Entrypoint": list((config.command if config else ()) or (own.entrypoint if own else ())) or None,
        "OnBuild": None,
        "Labels": dict(container.labels),
    }
    if config and config.stop_signal:
        shown["StopSignal"] = config.stop_signal
    return shown


def _environment(given: Iterable[str], of_image: Iterable[str]) -> list[str]:
    """The container's own settings, then the image's others; a name without a value removes the image's."""
    own = {item.partition("=")[0]: item for item in given}
    others = {item.partition("=")[0]: item for item in of_image}
    return [*(i for i in own.values() if "=" in i), *(i for name, i in others.items() if name not in own)]


# ---- ports


def _host_ports(container: ContainerState, state: NodeState) -> dict[str, list[int]]:
    """The node's ports that lead to this container alone, by "80/tcp"."""
    assignment = state.tasks.get(container.labels.get(TASK_LABEL, ""))
    found: dict[str, list[int]] = {}
    for port in assignment.task.ports if assignment else ():
        if port.publish_mode is model.PublishMode.HOST and port.published_port:
            protocol = apijson.word(port.protocol)
            found.setdefault(f"{port.target_port}/{protocol}", []).append(port.published_port)
    return found


def _ports_line(container: ContainerState, state: NodeState, image: ImageInfo | None) -> list[dict[str, Any]]:
    """The ports of GET /containers/json; a stopped container has none."""
    if container.status not in (Status.RUNNING, Status.PAUSED):
        return []
    shown: list[dict[str, Any]] = []
    for name, published in _ports(container, state, image).items():
        number, _, protocol = name.partition("/")
        port = {"PrivatePort": int(number), "Type": protocol}
        shown += [{"IP": "0.0.0.0", **port, "PublicPort": public} for public in published] or [port]
    return shown


def _ports_table(container: ContainerState, state: NodeState, image: ImageInfo | None) -> dict[str, Any]:
    """The ports of GET /containers/{id}/json."""
    if container.status not in (Status.RUNNING, Status.PAUSED):
        return {}
    return {
        name: [{"HostIp": "0.0.0.0", "HostPort": str(public)} for public in published] or None
        for name, published in _ports(container, state, image).items()
    }


def _ports(container: ContainerState, state: NodeState, image: ImageInfo | None) -> dict[str, list[int]]:
    exposed = [
        name if "/" in name else f"{name}/tcp" for name in (image.config.exposed_ports if image else ())
    ]
    known: dict[str, list[int]] = {name: [] for name in exposed if name.partition("/")[0].isdecimal()}
    return {**known, **_host_ports(container, state)}


def _network_settings(
    container: ContainerState, config: ContainerConfig | None, around: Around, image: ImageInfo | None
) -> dict[str, Any]:
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": (config.network_namespace or "") if config else "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": _ports_table(container, around.state, image),
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": networks(container, around),
    }
