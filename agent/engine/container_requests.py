"""From the body of POST /containers/create to a container's settings, refusing what isn't built. Pure; for singles.py."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.engine import port_requests
from agent.engine.http import Fields
from agent.runtime.api import ContainerConfig, Device, Mount, Ulimit
from agent.single import restarting
from agent.single.record import BRIDGE, HOST, JOINED, NONE, Leg, SingleRecord
from common import errors

_SECOND: Final = 1_000_000_000
_DEFAULT_MODES: Final = ("", "default", BRIDGE)
_NO_ALIASES: Final = "network-scoped alias is supported only for containers in user defined networks"
_QUIET_OPTIONS: Final = ("z", "Z", "nocopy", "cached", "delegated", "consistent")
_SECURITY: Final = ("seccomp=unconfined", "apparmor=unconfined", "label=disable", "label:disable")

# What asks for nothing, by the field of HostConfig; anything else is refused with the option's name.
_UNBUILT: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "VolumesFrom": ("--volumes-from", (None, [])),
    "Links": ("--link", (None, [])),
    "PidMode": ("--pid", (None, "", "private")),
    "IpcMode": ("--ipc", (None, "", "private", "shareable")),
    "UTSMode": ("--uts", (None, "")),
    "UsernsMode": ("--userns", (None, "")),
    "CgroupnsMode": ("--cgroupns host", (None, "", "private")),
    "CgroupParent": ("--cgroup-parent", (None, "")),
    "CpusetCpus": ("--cpuset-cpus", (None, "")),
    "CpusetMems": ("--cpuset-mems", (None, "")),
    "CpuShares": ("--cpu-shares", (None, 0)),
    "CpuPeriod": ("--cpu-period", (None, 0)),
    "CpuQuota": ("--cpu-quota", (None, 0)),
    "CpuRealtimePeriod": ("--cpu-rt-period", (None, 0)),
    "CpuRealtimeRuntime": ("--cpu-rt-runtime", (None, 0)),
    "BlkioWeight": ("--blkio-weight", (None, 0)),
    "BlkioWeightDevice": ("--blkio-weight-device", (None, [])),
    "BlkioDeviceReadBps": ("--device-read-bps", (None, [])),
    "BlkioDeviceWriteBps": ("--device-write-bps", (None, [])),
    "BlkioDeviceReadIOps": ("--device-read-iops", (None, [])),
    "BlkioDeviceWriteIOps": ("--device-write-iops", (None, [])),
    "DeviceCgroupRules": ("--device-cgroup-rule", (None, [])),
    "DeviceRequests": ("--gpus", (None, [])),
    "MemoryReservation": ("--memory-reservation", (None, 0)),
    "OomKillDisable": ("--oom-kill-disable", (None, False)),
    "StorageOpt": ("--storage-opt", (None, {})),
    "VolumeDriver": ("--volume-driver", (None, "")),
    "Isolation": ("--isolation", (None, "", "default")),
    "Runtime": ("--runtime", (None, "", "runc")),
}


@dataclass(frozen=True, slots=True)
class Request:
    """A container to be made."""

    config: ContainerConfig
    record: SingleRecord
    folders: tuple[str, ...]  # sources of binds that are to be made where they are missing, as Docker does


def request(body: Fields, name: str, container_id: str, node_hostname: str) -> Request:
    """Raises errors.InvalidArgument for what makes no sense, errors.Unimplemented for what isn't built."""
    host = Fields(body.get("HostConfig") or {})
    _refuse(body, host)
    record = _record(body, host, container_id, name)
    mounts, folders = _mounts(host)
    command, args = _command(body)
    on_host = record.network_mode == HOST
    servers = host.texts("Dns")
    own_servers = on_host or record.network_mode == NONE or _only_default(record)
    grace = body.get("StopTimeout")
    config = ContainerConfig(
        id=container_id,
        name=name,
        image=body.text("Image"),
        labels=body.table("Labels"),
        command=command,
        args=args,
        env=body.texts("Env"),
        workdir=body.text("WorkingDir"),
        user=body.text("User"),
        groups=host.texts("GroupAdd"),
        hostname=body.text("Hostname") or (node_hostname if on_host else ""),
        domainname=body.text("Domainname"),
        tty=body.flag("Tty"),
        open_stdin=body.flag("OpenStdin"),
        read_only=host.flag("ReadonlyRootfs"),
        mounts=mounts,
        stop_signal=body.text("StopSignal"),
        stop_grace_ns=10 * _SECOND if grace is None else body.number("StopTimeout") * _SECOND,
        cap_add=host.texts("CapAdd"),
        cap_drop=host.texts("CapDrop"),
        privileged=host.flag("Privileged"),
        devices=tuple(_devices(host.get("Devices") or ())),
        ulimits=tuple(_ulimits(host.get("Ulimits") or ())),
        sysctls=host.table("Sysctls"),
        nano_cpus=host.number("NanoCpus", 1 << 62),
        memory_bytes=host.number("Memory", 1 << 62),
        memory_swap_bytes=_signed(host, "MemorySwap"),
        pids_limit=max(0, _signed(host, "PidsLimit")),
        init=host.flag("Init"),
        oom_score_adj=_signed(host, "OomScoreAdj"),
        shm_bytes=host.number("ShmSize", 1 << 62) or 64 << 20,
        no_new_privileges=_security(host),
        host_network=on_host,
        extra_hosts=host.texts("ExtraHosts"),
        dns_nameservers=servers if on_host or (servers and own_servers) else ("127.0.0.11",),
        dns_search=host.texts("DnsSearch"),
        dns_options=_dns_options(host.texts("DnsOptions"), on_host),
    )
    return Request(config, record, folders)


def _only_default(record: SingleRecord) -> bool:
    """On the default bridge, where nobody has a name, --dns goes straight into resolv.conf, as in Docker."""
    return record.network_mode == BRIDGE and len(record.legs) == 1


def _unbuilt(what: str) -> errors.Unimplemented:
    return errors.Unimplemented(f"{what} is not supported yet for single containers")


def _refuse(body: Fields, host: Fields) -> None:
    if not body.text("Image"):
        raise errors.InvalidArgument("no image specified")
    for key, (what, nothing) in _UNBUILT.items():
        if host.get(key) not in nothing:
            raise _unbuilt(what)
    driver = Fields(host.get("LogConfig") or {}).text("Type")
    if driver not in ("", "json-file", "local"):
        raise _unbuilt(f"--log-driver {driver}")
    test = Fields(body.get("Healthcheck") or {}).texts("Test")
    if test not in ((), ("NONE",)):
        raise _unbuilt("--health-cmd")
    if body.text("MacAddress"):
        raise _unbuilt("--mac-address")
    if body.get("Volumes"):
        raise errors.Unimplemented("named and anonymous volumes are not supported yet: bind a folder")


# ---- networks


def _record(body: Fields, host: Fields, container_id: str, name: str) -> SingleRecord:
    mode = NONE if body.flag("NetworkDisabled") else host.text("NetworkMode")
    mode = BRIDGE if mode in _DEFAULT_MODES else mode
    policy, most = _restart(host)
    return SingleRecord(
        container_id,
        name,
        mode,
        _legs(body, mode),
        auto_remove=host.flag("AutoRemove"),
        stdin_once=body.flag("StdinOnce"),
        attach=(body.flag("AttachStdin"), body.flag("AttachStdout"), body.flag("AttachStderr")),
        ports=() if mode == HOST else port_requests.asked(host),
        publish_all=host.flag("PublishAllPorts") and mode != HOST,
        exposed=tuple(sorted(Fields(body.get("ExposedPorts") or {}).names())),
        dns=host.texts("Dns"),
        restart=policy,
        most_restarts=most,
    )


def _restart(host: Fields) -> tuple[str, int]:
    given = Fields(host.get("RestartPolicy") or {})
    policy, most = given.text("Name"), _signed(given, "MaximumRetryCount")
    if policy not in restarting.POLICIES:
        raise errors.InvalidArgument(f"invalid restart policy '{policy}'")
    if policy != restarting.ON_FAILURE and most:
        raise errors.InvalidArgument(f"maximum retry count cannot be used with restart policy '{policy}'")
    if most < 0:
        raise errors.InvalidArgument("maximum retry count cannot be negative")
    if host.flag("AutoRemove") and policy not in restarting.NO:
        raise errors.InvalidArgument("can't create 'AutoRemove' container with restart policy")
    return policy, most


def _legs(body: Fields, mode: str) -> tuple[Leg, ...]:
    asked = Fields(body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    endpoints = {
        BRIDGE if key in _DEFAULT_MODES else key: Fields(given or {}) for key, given in asked.items()
    }
    if mode.startswith(JOINED):
        if body.text("Hostname"):
            raise errors.InvalidArgument("conflicting options: hostname and the network mode")
        if Fields(body.get("HostConfig") or {}).get("PortBindings"):
            raise errors.InvalidArgument(
                "conflicting options: port publishing and the container type network mode"
            )
        return ()
    if mode in (HOST, NONE):
        if any(endpoint.texts("Aliases") for endpoint in endpoints.values()):
            raise errors.InvalidArgument(_NO_ALIASES)
        if endpoints.keys() - {mode}:
            raise errors.InvalidArgument(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
        return ()
    first = endpoints.pop(mode, Fields({}))
    return (leg(mode, first), *(leg(key, given) for key, given in endpoints.items()))


def leg(network: str, given: Fields) -> Leg:
    """What a container asks for in one network: at its making, or by POST /networks/{id}/connect."""
    addresses = Fields(given.get("IPAMConfig") or {})
    if addresses.text("IPv6Address"):
        raise _unbuilt("--ip6")
    if given.get("Links"):
        raise _unbuilt("--link")
    if given.text("MacAddress"):
        raise _unbuilt("--mac-address")
    if given.get("DriverOpts"):
        raise _unbuilt("a driver option of a network")
    if network == BRIDGE and given.texts("Aliases"):
        raise errors.InvalidArgument(_NO_ALIASES)
    wanted = addresses.text("IPv4Address")
    if wanted and network == BRIDGE:
        raise errors.InvalidArgument("user specified IP address is supported on user defined networks only")
    return Leg(network, given.texts("Aliases"), wanted)


def _dns_options(given: tuple[str, ...], on_host: bool) -> tuple[str, ...]:
    if on_host or any(option.startswith("ndots:") for option in given):
        return given
    return (*given, "ndots:0")


# ---- the process


def _words(body: Fields, name: str) -> tuple[str, ...]:
    """A list of strings, or one string."""
    value = body.get(name)
    return (value,) if isinstance(value, str) else body.texts(name)


def _command(body: Fields) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(entry point, arguments). An empty entry point takes the image's away: the arguments stand alone."""
    command, args = _words(body, "Entrypoint"), _words(body, "Cmd")
    return (args, ()) if command == ("",) else (command, args)


def _security(host: Fields) -> bool:
    """Whether privileges may not grow. Profiles of seccomp and AppArmor aren't applied here anyway."""
    found = False
    for option in host.texts("SecurityOpt"):
        if option in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"):
            found = True
        elif option not in (*_SECURITY, "no-new-privileges:false", "no-new-privileges=false"):
            raise _unbuilt(f"--security-opt {option}")
    return found


def _signed(fields: Fields, name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise errors.InvalidArgument(f"invalid JSON: {name} must be a number")
    return value


def _devices(given: Iterable[Any]) -> Iterable[Device]:
    for item in map(Fields, given):
        path = item.text("PathOnHost")
        yield Device(path, item.text("PathInContainer") or path, item.text("CgroupPermissions") or "rwm")


def _ulimits(given: Iterable[Any]) -> Iterable[Ulimit]:
    for item in map(Fields, given):
        yield Ulimit(item.text("Name"), _signed(item, "Soft"), _signed(item, "Hard"))


# ---- mounts


def _mounts(host: Fields) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    binds = [_bind(text) for text in host.texts("Binds")]
    folders = [mount.source for mount in binds]
    mounts = [*binds, *(_tmpfs(target, options) for target, options in host.table("Tmpfs").items())]
    for item in map(Fields, host.get("Mounts") or ()):
        made = _mount(item)
        mounts.append(made)
        if made.type == "bind" and Fields(item.get("BindOptions") or {}).flag("CreateMountpoint"):
            folders.append(made.source)
    seen: set[str] = set()
    for mount in mounts:
        target = posixpath.normpath(mount.target)
        if target in seen:
            raise errors.InvalidArgument(f"Duplicate mount point: {target}")
        seen.add(target)
    return tuple(mounts), tuple(folders)


def _bind(text: str) -> Mount:
    source, colon, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not colon or not target.startswith("/"):
        raise errors.InvalidArgument(f"invalid volume specification: '{text}'")
    if not source.startswith("/"):
        raise errors.Unimplemented("named and anonymous volumes are not supported yet: bind a folder")
    words = [word for word in options.split(",") if word and word not in _QUIET_OPTIONS]
    rights = [word for word in words if word in ("ro", "rw")]
    more = tuple(word for word in words if word not in ("ro", "rw"))
    return Mount("bind", source, target, "ro" in rights, more)


def _tmpfs(target: str, options: str) -> Mount:
    words = tuple(word for word in options.split(",") if word)
    return Mount("tmpfs", "", target, "ro" in words, tuple(word for word in words if word != "ro"))


def _mount(item: Fields) -> Mount:
    kind, target, read_only = item.text("Type"), item.text("Target"), item.flag("ReadOnly")
    if kind == "bind":
        propagation = Fields(item.get("BindOptions") or {}).text("Propagation")
        return Mount("bind", item.text("Source"), target, read_only, (propagation,) if propagation else ())
    if kind == "tmpfs":
        given = Fields(item.get("TmpfsOptions") or {})
        size, mode = given.number("SizeBytes", 1 << 62), given.number("Mode")
        options = ((f"size={size}",) if size else ()) + ((f"mode={mode:o}",) if mode else ())
        return Mount("tmpfs", "", target, read_only, options)
    if kind == "volume":
        raise errors.Unimplemented("named and anonymous volumes are not supported yet: bind a folder")
    raise errors.Unimplemented(f"mounts of type {kind} are not supported yet")
