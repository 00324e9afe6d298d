"""What a container looks like in the Engine API, a task's and a single one. Pure; called by containers.py and the filters.

Its networks and ports are container_networks.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.engine import host_config
from agent.engine.container_networks import Around, networks, ports_line, settings, targets
from agent.engine.network_shapes import TASK_LABEL
from agent.runtime.api import ContainerConfig, ContainerState, Mount, Status
from agent.runtime.image import ImageConfig, ImageInfo, environment_of
from agent.single.record import SingleRecord
from common import apijson

__all__ = ["TASK_LABEL", "inspection", "same_image", "summary"]

_PROPAGATIONS: Final = ("rshared", "rslave", "rprivate", "shared", "slave", "private")
_SECOND: Final = 1_000_000_000
_UNITS: Final = (
    (2 * 365 * 24 * 3600, 365 * 24 * 3600, "years"),
    (2 * 30 * 24 * 3600, 30 * 24 * 3600, "months"),
    (2 * 7 * 24 * 3600, 7 * 24 * 3600, "weeks"),
    (48 * 3600, 24 * 3600, "days"),
    (int(1.5 * 3600), 3600, "hours"),
    (120, 60, "minutes"),
)


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


def exit_code(container: ContainerState, single: SingleRecord | None) -> int:
    """Of its last end; a start that has failed since counts as one, as in Docker."""
    if single is not None and single.error:
        return single.exit_code
    return container.exit.code if container.exit is not None else 0


def status_text(
    container: ContainerState, now: int, restarting: bool = False, single: SingleRecord | None = None
) -> str:
    """Docker's Status column."""
    if container.status is Status.CREATED:
        return "Created"
    if container.status is Status.STOPPED:
        if container.exit is None:
            return "Dead"
        ago = human_duration((now - container.exit.exited_at) / _SECOND)
        return f"{'Restarting' if restarting else 'Exited'} ({exit_code(container, single)}) {ago} ago"
    up = f"Up {human_duration((now - container.started_at) / _SECOND)}"
    return f"{up} (Paused)" if container.status is Status.PAUSED else up


def state_word(container: ContainerState, restarting: bool) -> str:
    """Docker's word for where a container is."""
    return "restarting" if restarting else str(container.status)


def same_image(image: str, wanted: str) -> bool:
    """Whether a container's image is the one that a filter names, with or without tag and digest."""
    name = image.partition("@")[0]
    return wanted in (image, name, name.rpartition(":")[0])


def image_of(container: ContainerState, images: Mapping[str, ImageInfo]) -> ImageInfo | None:
    """The image of a container, from those that there are by id and by name."""
    name, _, digest = container.image.partition("@")
    return (
        images.get(name) or images.get(f"{name.rpartition(':')[0]}@{digest}") or images.get(f"{name}:latest")
    )


def summary(container: ContainerState, around: Around, image: ImageInfo | None, now: int) -> dict[str, Any]:
    """One line of GET /containers/json."""
    return {
        "Id": container.id,
        "Names": sorted(["/" + container.name.removeprefix("/"), *around.names]),
        "Image": container.image,
        "ImageID": image.id if image else "",
        "Command": " ".join(
            f"'{part}'" if " " in part else part for part in _command(container.config, image)
        ),
        "Created": container.created_at // _SECOND,
        "Ports": ports_line(container, around, image),
        "Labels": dict(container.labels),
        "State": state_word(container, around.restarting),
        "Status": status_text(container, now, around.restarting, around.single),
        "HostConfig": {"NetworkMode": around.single.network_mode if around.single else "default"},
        "NetworkSettings": {"Networks": networks(container, around)},
        "Mounts": _mounts(container.config, around.single),
    }


def _command(config: ContainerConfig | None, image: ImageInfo | None) -> list[str]:
    """Entry point and arguments as they run."""
    if config is None:
        return []
    own = image.config if image else None
    if config.command:
        return [*config.command, *config.args]
    return [*(own.entrypoint if own else ()), *(config.args or (own.cmd if own else ()))]


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
        "State": _state(container, around),
        "Image": image.id if image else "",
        "ResolvConfPath": f"{folder}/resolv.conf",
        "HostnamePath": f"{folder}/hostname",
        "HostsPath": f"{folder}/hosts",
        "LogPath": "",
        "Name": "/" + container.name.removeprefix("/"),
        "RestartCount": around.single.restarts if around.single else 0,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs or None,
        "HostConfig": host_config.shown(
            config or ContainerConfig(container.id, container.name, container.image),
            around.single,
            _port_bindings(around.single),
            around.links,
        ),
        "GraphDriver": {"Data": None, "Name": "overlayfs"},
        "Mounts": _mounts(config, around.single),
        "Config": _config(container, image, around.single),
        "NetworkSettings": settings(container, config, around, image),
    }


def _state(container: ContainerState, around: Around) -> dict[str, Any]:
    ended, restarting = container.exit, around.restarting
    failed = around.single.error if around.single is not None and not container.pid else ""
    return {
        "Status": state_word(container, restarting),
        "Running": restarting or container.status in (Status.RUNNING, Status.PAUSED),
        "Paused": container.status is Status.PAUSED,
        "Restarting": restarting,
        "OOMKilled": bool(ended and ended.oom_killed),
        "Dead": False,
        "Pid": container.pid,
        "ExitCode": exit_code(container, around.single) if not container.pid else 0,
        "Error": failed,
        "StartedAt": apijson.format_time(container.started_at),
        "FinishedAt": apijson.format_time(ended.exited_at if ended else 0),
    }


def _port_bindings(single: SingleRecord | None) -> dict[str, list[dict[str, str]]]:
    """As `-p` has asked for them."""
    shown: dict[str, list[dict[str, str]]] = {}
    for key, request in zip(targets(single), single.ports if single else (), strict=True):
        wide = request.last > request.first
        port = f"{request.first}-{request.last}" if wide else str(request.first or "")
        shown.setdefault(key, []).append({"HostIp": request.address, "HostPort": port})
    return shown


def _mounts(config: ContainerConfig | None, single: SingleRecord | None) -> list[dict[str, Any]]:
    """Those that people are shown; the words behind the second colon of -v are a bind's mode."""
    binds = single.host_config.get("Binds", ()) if single else ()
    modes = dict([*text.split(":", 2), ""][1:3] for text in binds)
    return [_mount(m, modes.get(m.target, "")) for m in (config.mounts if config else ()) if m.listed]


def _mount(mount: Mount, mode: str) -> dict[str, Any]:
    kept = next((o for o in mount.options if o in _PROPAGATIONS), "")
    return {
        "Type": mount.type,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": mode,
        "RW": not mount.read_only,
        "Propagation": kept or ("rprivate" if mount.type == "bind" else ""),
    }


def _config(
    container: ContainerState, image: ImageInfo | None, single: SingleRecord | None
) -> dict[str, Any]:
    stdin, stdout, stderr = single.attach if single else (False, False, False)
    config, own = container.config, image.config if image else None
    of_image = own.exposed_ports if own else ()
    exposed = sorted({*of_image, *(single.exposed if single else ()), *targets(single)})
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
        "Env": environment_of(config.env if config else (), own.env if own else ()),
        "Cmd": _arguments(config, own),
        "Image": container.image,
        "Volumes": None,
        "WorkingDir": (config.workdir if config else "") or (own.workdir if own else ""),
        "Entrypoint": list((config.command if config else ()) or (own.entrypoint if own else ())) or None,
        "OnBuild": None,
        "Labels": dict(container.labels),
    }
    if single and (mac := next((leg.mac for leg in single.legs[:1]), "")):
        shown["MacAddress"] = mac
    if signal := (config.stop_signal if config else "") or (own.stop_signal if own else ""):
        shown["StopSignal"] = signal
    if single and single.stop_timeout is not None:
        shown["StopTimeout"] = single.stop_timeout
    return shown


def _arguments(config: ContainerConfig | None, own: ImageConfig | None) -> list[str] | None:
    """A container's own; the image's go with the image's entry point."""
    if config and (config.args or config.command):
        return list(config.args) or None
    return list(own.cmd if own else ()) or None


# ---- ports
