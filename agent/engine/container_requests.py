"""From the body of POST /containers/create to a container's settings, refusing what isn't built. Pure; for singles.py."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.engine import host_config, port_requests, resource_requests
from agent.engine.http import Fields
from agent.runtime.api import ContainerConfig, Device, Mount, Ulimit
from agent.single import addressing, links, restarting
from agent.single.record import BRIDGE, HOST, JOINED, NONE, Leg, SingleRecord
from common import errors

_SECOND: Final = 1_000_000_000
_FOR_EVER: Final = 1 << 30  # seconds
_DEFAULT_MODES: Final = ("", "default", BRIDGE)
OWN_MACS: Final = (1, 44)  # the API's version since which each network's settings may name a MAC
_NO_MAC: Final = "conflicting options: mac-address and the network mode"
_NO_ALIASES: Final = "network-scoped alias is supported only for containers in user defined networks"
_QUIET_OPTIONS: Final = ("z", "Z", "nocopy", "cached", "delegated", "consistent")
_BIND_OPTIONS: Final = ("ro", "rw", "shared", "rshared", "slave", "rslave", "private", "rprivate")
_SECURITY: Final = ("seccomp=unconfined", "apparmor=unconfined", "label=disable", "label:disable")

_LOG_FILES: Final = ("max-file", "max-size", "compress", "mode", "max-buffer-size")
_LOG_OPTIONS: Final = {
    "json-file": (*_LOG_FILES, "labels", "labels-regex", "env", "env-regex", "tag"),
    "local": _LOG_FILES,
}
_OTHER_DRIVERS: Final = (
    "none", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs",
)  # fmt: skip
# What asks for nothing, by the field of HostConfig; anything else is refused with the option's name.
_UNBUILT: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "VolumesFrom": ("--volumes-from", (None, [])),
    "PidMode": ("--pid", (None, "", "private", "host")),
    "IpcMode": ("--ipc", (None, "", "private", "shareable", "host")),
    "UTSMode": ("--uts", (None, "", "host")),
    "UsernsMode": ("--userns", (None, "", "host")),
    "CgroupnsMode": ("--cgroupns host", (None, "", "private")),
    "CgroupParent": ("--cgroup-parent", (None, "")),
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
    links: tuple[tuple[str, str], ...]  # (another container, the name that it gets), on the default bridge
    folders: tuple[str, ...]  # sources of binds that are to be made where they are missing, as Docker does


def request(
    body: Fields, name: str, container_id: str, node_hostname: str, processors: int = 0, macs: bool = True
) -> Request:  # fmt: skip
    """Raises errors.InvalidArgument for what makes no sense, errors.Unimplemented for what isn't built."""
    host = body.part("HostConfig", "container.HostConfig")
    _refuse(body, host)
    record = _record(body, host, container_id, name, macs)
    mounts, folders = _mounts(host)
    _refuse_volumes(body, mounts)
    command, args = _command(body)
    on_host = record.network_mode == HOST
    names_of_host = host.text("UTSMode") == HOST
    if names_of_host and body.text("Hostname"):
        raise errors.InvalidArgument("conflicting options: hostname and the UTS mode")
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
        hostname=body.text("Hostname") or (node_hostname if on_host or names_of_host else ""),
        domainname=body.text("Domainname"),
        tty=body.flag("Tty"),
        open_stdin=body.flag("OpenStdin"),
        read_only=host.flag("ReadonlyRootfs"),
        mounts=mounts,
        stop_signal=body.text("StopSignal"),
        stop_grace_ns=10 * _SECOND if grace is None else _grace(body.signed("StopTimeout")),
        cap_add=host.texts("CapAdd"),
        cap_drop=host.texts("CapDrop"),
        privileged=host.flag("Privileged"),
        devices=tuple(_devices(host.objects("Devices", "container.DeviceMapping"))),
        ulimits=tuple(_ulimits(host.objects("Ulimits", "container.Ulimit"))),
        sysctls=host.table("Sysctls"),
        init=host.flag("Init"),
        no_new_privileges=_security(host),
        host_network=on_host,
        host_pid=host.text("PidMode") == HOST,
        host_ipc=host.text("IpcMode") == HOST,
        host_uts=names_of_host,
        extra_hosts=host.texts("ExtraHosts"),
        dns_nameservers=servers if on_host or (servers and own_servers) else ("127.0.0.11",),
        dns_search=tuple(domain for domain in host.texts("DnsSearch") if domain != "."),
        dns_options=_dns_options(host.texts("DnsOptions"), own_servers),
        **resource_requests.settings(host, processors),
    )
    return Request(config, record, _links(host, record.network_mode), folders)


def _grace(seconds: int) -> int:
    """Nanoseconds; negative means that there is no end to the patience."""
    return (seconds if 0 <= seconds < _FOR_EVER else _FOR_EVER) * _SECOND


def _only_default(record: SingleRecord) -> bool:
    """On the default bridge, where nobody has a name, --dns goes straight into resolv.conf, as in Docker."""
    return record.network_mode == BRIDGE and len(record.legs) == 1


def _unbuilt(what: str) -> errors.Unimplemented:
    return errors.Unimplemented(f"{what} is not supported yet for single containers")


def _refuse(body: Fields, host: Fields) -> None:
    if not body.text("Image"):
        raise errors.InvalidArgument("no image specified")
    if (folder := body.text("WorkingDir")) and not folder.startswith("/"):
        raise errors.InvalidArgument(
            f"the working directory '{folder}' is invalid, it needs to be an absolute path"
        )
    for setting in body.texts("Env"):
        if not setting.partition("=")[0]:
            raise errors.InvalidArgument(f"invalid environment variable: {setting}")
    for key, (what, nothing) in _UNBUILT.items():
        if host.get(key) not in nothing:
            raise _unbuilt(what)
    _refuse_logging(host.part("LogConfig", "container.LogConfig"))
    test = body.part("Healthcheck", "container.HealthConfig").texts("Test")
    if test not in ((), ("NONE",)):
        raise _unbuilt("--health-cmd")


def _refuse_logging(logging: Fields) -> None:
    driver = logging.text("Type") or "json-file"
    if driver in _OTHER_DRIVERS:
        raise _unbuilt(f"--log-driver {driver}")
    if driver not in _LOG_OPTIONS:
        raise errors.InvalidArgument(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for option in logging.table("Config"):
        if option not in _LOG_OPTIONS[driver]:
            raise errors.InvalidArgument(f"unknown log opt '{option}' for {driver} log driver")


# ---- networks


def _record(body: Fields, host: Fields, container_id: str, name: str, macs: bool) -> SingleRecord:
    mode = NONE if body.flag("NetworkDisabled") else host.text("NetworkMode")
    mode = BRIDGE if mode in _DEFAULT_MODES else mode
    policy, most = _restart(host)
    return SingleRecord(
        container_id,
        name,
        mode,
        _legs(body, mode, macs),
        auto_remove=host.flag("AutoRemove"),
        stdin_once=body.flag("StdinOnce"),
        attach=(body.flag("AttachStdin"), body.flag("AttachStdout"), body.flag("AttachStderr")),
        ports=() if mode == HOST else port_requests.asked(host),
        publish_all=host.flag("PublishAllPorts") and mode != HOST,
        exposed=tuple(sorted(body.part("ExposedPorts", "nat.PortSet").names())),
        dns=host.texts("Dns"),
        restart=policy,
        most_restarts=most,
        host_config=host_config.asked(host),
        stop_timeout=None if body.get("StopTimeout") is None else body.signed("StopTimeout"),
    )


def _restart(host: Fields) -> tuple[str, int]:
    given = host.part("RestartPolicy", "container.RestartPolicy")
    policy, most = given.text("Name"), given.signed("MaximumRetryCount")
    if policy not in restarting.POLICIES:
        raise errors.InvalidArgument(f"invalid restart policy '{policy}'")
    if policy != restarting.ON_FAILURE and most:
        raise errors.InvalidArgument(f"maximum retry count cannot be used with restart policy '{policy}'")
    if most < 0:
        raise errors.InvalidArgument("maximum retry count cannot be negative")
    if host.flag("AutoRemove") and policy not in restarting.NO:
        raise errors.InvalidArgument("can't create 'AutoRemove' container with restart policy")
    return policy, most


def _legs(body: Fields, mode: str, of_endpoints: bool) -> tuple[Leg, ...]:
    networking = body.part("NetworkingConfig", "network.NetworkingConfig")
    asked = networking.objects_by_name("EndpointsConfig", "network.EndpointSettings")
    endpoints = {BRIDGE if key in _DEFAULT_MODES else key: given for key, given in asked.items()}
    asking = (body, *endpoints.values()) if of_endpoints else (body,)
    macs = [mac for fields in asking if (mac := fields.text("MacAddress"))]
    if mode.startswith(JOINED):
        if body.text("Hostname"):
            raise errors.InvalidArgument("conflicting options: hostname and the network mode")
        _refuse_beside_joined(body, body.part("HostConfig", "container.HostConfig"), mode, macs)
        return ()
    if mode == HOST and macs:
        raise errors.InvalidArgument(_NO_MAC)
    if mode in (HOST, NONE):
        if any(endpoint.texts("Aliases") for endpoint in endpoints.values()):
            raise errors.InvalidArgument(_NO_ALIASES)
        if endpoints.keys() - {mode}:
            raise errors.InvalidArgument(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
        return ()
    first = leg(mode, endpoints.pop(mode, Fields({})), of_endpoints)
    first = _with_mac(first, addressing.mac_address(body.text("MacAddress")))
    legs = (first, *(leg(key, given, of_endpoints) for key, given in endpoints.items()))
    return tuple(named(own, body.text("Hostname")) for own in legs)


def named(own: Leg, hostname: str) -> Leg:
    """A hostname that was asked for is a name in all networks that have names."""
    if not hostname or own.network == BRIDGE or hostname in own.aliases:
        return own
    return replace(own, aliases=(*own.aliases, hostname))


def _refuse_beside_joined(body: Fields, host: Fields, mode: str, macs: list[str]) -> None:
    """What a container that is in another's network can't have of its own."""
    if mode == JOINED:
        raise errors.InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    ports = host.get("PortBindings") or host.flag("PublishAllPorts")
    for given, what in (
        (host.texts("Dns"), "dns and the network mode"),
        (host.texts("ExtraHosts"), "custom host-to-IP mapping and the network mode"),
        (macs, "mac-address and the network mode"),
        (ports, "port publishing and the container type network mode"),
        (body.get("ExposedPorts"), "port exposing and the container type network mode"),
    ):
        if given:
            raise errors.InvalidArgument(f"conflicting options: {what}")


def leg(network: str, given: Fields, macs: bool = True) -> Leg:
    """What a container asks for in one network: at its making, or by POST /networks/{id}/connect. Clients of an older API than
    OWN_MACS send back MACs that they were told, and mean nothing by it."""
    addresses = given.part("IPAMConfig", "network.EndpointIPAMConfig")
    if given.get("DriverOpts"):
        raise _unbuilt("a driver option of a network")
    if network == BRIDGE and given.texts("Aliases"):
        raise errors.InvalidArgument(_NO_ALIASES)
    wanted, wanted6 = addresses.text("IPv4Address"), addresses.text("IPv6Address")
    if wanted and not addressing.is_ipv4(wanted):
        raise errors.InvalidArgument(f"invalid IPv4 address: {wanted}")
    if wanted6 and not addressing.is_ipv6(wanted6):
        raise errors.InvalidArgument(f"invalid IPv6 address: {wanted6}")
    if (wanted or wanted6) and network == BRIDGE:
        raise errors.InvalidArgument("user specified IP address is supported on user defined networks only")
    mac = addressing.mac_address(given.text("MacAddress") if macs else "")
    more = addresses.texts("LinkLocalIPs")
    linked = given.texts("Links")
    for text in linked:
        links.parse(text)
    return Leg(
        network, given.texts("Aliases"), wanted, wanted6=wanted6, mac=mac, link_local=more, links=linked
    )  # fmt: skip


def _with_mac(own: Leg, mac: str) -> Leg:
    """Of all that the container has, its first network gets the MAC that is asked for without naming one."""
    if own.mac and mac and own.mac != mac:
        raise errors.InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
            "or be left empty"
        )
    return replace(own, mac=own.mac or mac)


def refuse_linked(mode: str) -> None:
    """Raises for networks in which nobody has an address of his own."""
    kind = "host type networking" if mode == HOST else "container type network"
    if mode == HOST or mode.startswith(JOINED):
        raise errors.InvalidArgument(
            f"conflicting options: {kind} can't be used with links. This would result in undefined behavior"
        )


def _links(host: Fields, mode: str) -> tuple[tuple[str, str], ...]:
    """Those of the default bridge: a network that has names is told of its own, and these mean nothing there."""
    given = host.texts("Links")
    if given:
        refuse_linked(mode)
    return tuple(map(links.parse, given)) if mode in (BRIDGE, NONE) else ()


def _dns_options(given: tuple[str, ...], plain: bool) -> tuple[str, ...]:
    if plain or any(option.startswith("ndots:") for option in given):
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


def _devices(given: Iterable[Fields]) -> Iterable[Device]:
    for item in given:
        path = item.text("PathOnHost")
        yield Device(path, item.text("PathInContainer") or path, item.text("CgroupPermissions") or "rwm")


def _ulimits(given: Iterable[Fields]) -> Iterable[Ulimit]:
    for item in given:
        yield Ulimit(item.text("Name"), item.signed("Soft"), item.signed("Hard"))


# ---- mounts


def _mounts(host: Fields) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    binds = [_bind(text) for text in host.texts("Binds")]
    folders = [mount.source for mount in binds]
    mounts = [*binds, *(_tmpfs(target, options) for target, options in host.table("Tmpfs").items())]
    for item in host.objects("Mounts", "mount.Mount"):
        made = _mount(item)
        mounts.append(made)
        if made.type == "bind" and item.part("BindOptions", "mount.BindOptions").flag("CreateMountpoint"):
            folders.append(made.source)
    seen: set[str] = set()
    for mount in mounts:
        target = posixpath.normpath(mount.target)
        if target in seen:
            raise errors.InvalidArgument(f"Duplicate mount point: {target}")
        seen.add(target)
    return tuple(mounts), tuple(folders)


def _refuse_volumes(body: Fields, mounts: Iterable[Mount]) -> None:
    """SDKs name the targets of binds among the volumes, too: what nothing is mounted on would be a volume."""
    mounted = {posixpath.normpath(mount.target) for mount in mounts}
    asked = body.objects_by_name("Volumes", "struct {}")
    if any(posixpath.normpath(target) not in mounted for target in asked):
        raise errors.Unimplemented("named and anonymous volumes are not supported yet: bind a folder")


def _bad_bind(text: str, why: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(
        f"invalid volume specification: '{text}': invalid mount config for type \"bind\": {why}"
    )


def _bind(text: str) -> Mount:
    source, colon, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not colon or not target:
        raise errors.InvalidArgument(f"invalid volume specification: '{text}'")
    if not target.startswith("/"):
        raise _bad_bind(text, f"invalid mount path: '{target}' mount path must be absolute")
    if posixpath.normpath(target).strip("/") == "":
        raise _bad_bind(text, "invalid specification: destination can't be '/'")
    if not source.startswith("/"):
        raise errors.Unimplemented("named and anonymous volumes are not supported yet: bind a folder")
    words = [word for word in options.split(",") if word and word not in _QUIET_OPTIONS]
    if any(word not in _BIND_OPTIONS for word in words):
        raise errors.InvalidArgument(f"invalid mode: {options}")
    rights = [word for word in words if word in ("ro", "rw")]
    more = tuple(word for word in words if word not in ("ro", "rw"))
    return Mount("bind", source, target, "ro" in rights, more)


def _tmpfs(target: str, options: str) -> Mount:
    words = tuple(word for word in options.split(",") if word)
    more = tuple(word for word in words if word != "ro")
    return Mount("tmpfs", "", target, "ro" in words, more, listed=False)


def _mount(item: Fields) -> Mount:
    kind, target, read_only = item.text("Type"), item.text("Target"), item.flag("ReadOnly")
    if not target:
        raise errors.InvalidArgument(
            f'invalid mount config for type "{kind}": field Target must not be empty'
        )
    if not target.startswith("/"):
        raise errors.InvalidArgument(
            f"invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute"
        )
    if kind == "bind":
        propagation = item.part("BindOptions", "mount.BindOptions").text("Propagation")
        return Mount("bind", item.text("Source"), target, read_only, (propagation,) if propagation else ())
    if kind == "tmpfs":
        given = item.part("TmpfsOptions", "mount.TmpfsOptions")
        size, mode = given.number("SizeBytes", 1 << 62), given.number("Mode")
        options = ((f"size={size}",) if size else ()) + ((f"mode={mode:o}",) if mode else ())
        return Mount("tmpfs", "", target, read_only, options)
    if kind == "volume":
        raise errors.Unimplemented("named and anonymous volumes are not supported yet: bind a folder")
    if kind not in ("image", "npipe", "cluster"):
        raise errors.InvalidArgument(f'invalid mount config for type "{kind}": mount type unknown')
    raise errors.Unimplemented(f"mounts of type {kind} are not supported yet")
