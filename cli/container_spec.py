"""From the flags of `run` and `create` to the body of POST /containers/create. Pure but for --env-file and the environment."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Iterable
from typing import Any

from cli.errors import CliError
from cli.flags import Values
from cli.service.spec import variables
from cli.values.attachments import NetworkRequest, is_mac
from cli.values.basic import as_map
from cli.values.ports import ports_of

_FAILED = 125
_WITHOUT_NAMES = ("default", "bridge", "host", "none")  # there a link is the daemon's business, or none's
_EXPOSED = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")


def body(flags: Values, words: list[str], attach: set[str], size: tuple[int, int]) -> dict[str, Any]:
    """`words`: the image and the command; `attach`: the streams that the user is on; `size`: (columns, lines)."""
    terminal = flags.on("tty")
    stdin = flags.on("interactive")
    bindings, exposed = _ports(flags)
    entry = flags.text("entrypoint")
    found: dict[str, Any] = {
        "Hostname": flags.text("hostname"),
        "Domainname": flags.text("domainname"),
        "User": flags.text("user"),
        "AttachStdin": "stdin" in attach,
        "AttachStdout": "stdout" in attach,
        "AttachStderr": "stderr" in attach,
        "Tty": terminal,
        "OpenStdin": stdin,
        "StdinOnce": stdin and "stdin" in attach,
        "Env": variables(flags.every("env-file"), flags.every("env"), os.environ) or None,
        "Cmd": words[1:] or None,
        "Image": words[0],
        "WorkingDir": flags.text("workdir"),
        "Entrypoint": shlex.split(entry) or [""] if flags.changed("entrypoint") else None,
        "Labels": as_map(flags.every("label")),
        "HostConfig": _host(flags, bindings, size if terminal else (0, 0)),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(flags)},
    }
    if exposed:
        found["ExposedPorts"] = {port: {} for port in exposed}
    if flags.on("no-healthcheck"):
        found["Healthcheck"] = {"Test": ["NONE"]}
    elif flags.text("health-cmd"):
        found["Healthcheck"] = {"Test": ["CMD-SHELL", flags.text("health-cmd")]}
    if flags.text("stop-signal"):
        found["StopSignal"] = flags.text("stop-signal")
    if flags.changed("stop-timeout"):
        found["StopTimeout"] = flags["stop-timeout"]
    return found


def _host(flags: Values, bindings: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    networks: list[NetworkRequest] = flags.every("network")
    return {
        "Binds": [_bind(text) for text in flags.every("volume")] or None,
        "NetworkMode": networks[0].name if networks else "default",
        "PortBindings": bindings,
        "PublishAllPorts": flags.on("publish-all"),
        "RestartPolicy": _restart(flags),
        "AutoRemove": flags.on("rm"),
        "ConsoleSize": [size[1], size[0]],
        "CapAdd": flags.every("cap-add") or None,
        "CapDrop": flags.every("cap-drop") or None,
        "Dns": flags.every("dns"),
        "DnsOptions": flags.every("dns-option"),
        "DnsSearch": flags.every("dns-search"),
        "ExtraHosts": flags.every("add-host") or None,
        "GroupAdd": flags.every("group-add") or None,
        "Privileged": flags.on("privileged"),
        "ReadonlyRootfs": flags.on("read-only"),
        "SecurityOpt": flags.every("security-opt") or None,
        "LogConfig": {"Type": flags.text("log-driver"), "Config": _log_options(flags)},
        "VolumesFrom": flags.every("volumes-from") or None,
        "Links": flags.every("link") or None,
        "Mounts": flags.every("mount"),
        "PidMode": flags.text("pid"),
        "IpcMode": flags.text("ipc"),
        "UTSMode": flags.text("uts"),
        "UsernsMode": flags.text("userns"),
        "CgroupnsMode": flags.text("cgroupns"),
        "CgroupParent": flags.text("cgroup-parent"),
        "Runtime": flags.text("runtime"),
        "ShmSize": flags["shm-size"] or 0,
        "Sysctls": as_map(flags.every("sysctl")),
        "Tmpfs": _pairs(flags.every("tmpfs")),
        "Memory": flags["memory"] or 0,
        "MemoryReservation": flags["memory-reservation"] or 0,
        "MemorySwap": flags["memory-swap"] or 0,
        "MemorySwappiness": flags["memory-swappiness"],
        "OomKillDisable": flags.on("oom-kill-disable"),
        "OomScoreAdj": flags["oom-score-adj"] or 0,
        "NanoCpus": flags["cpus"] or 0,
        "CpuPeriod": flags["cpu-period"] or 0,
        "CpuQuota": flags["cpu-quota"] or 0,
        "CpuShares": flags["cpu-shares"] or 0,
        "CpusetCpus": flags.text("cpuset-cpus"),
        "CpusetMems": flags.text("cpuset-mems"),
        "PidsLimit": flags["pids-limit"] or 0,
        "Ulimits": flags.every("ulimit"),
        "Devices": [_device(text) for text in flags.every("device")],
        "Init": flags["init"],
    }


def _restart(flags: Values) -> dict[str, Any]:
    """no, always, unless-stopped, on-failure[:how often]."""
    name, _, times = flags.text("restart").partition(":")
    if times and not times.isdigit():
        raise CliError("maximum retry count must be an integer", _FAILED)
    return {"Name": name, "MaximumRetryCount": int(times or 0)}


def _log_options(flags: Values) -> dict[str, str]:
    given: list[str] = flags.every("log-opt")
    if bad := [text for text in given if "=" not in text]:
        raise CliError(f"invalid argument {bad[0]!r} for log-opt: it must be KEY=VALUE", _FAILED)
    if given and flags.text("log-driver") == "none":
        raise CliError("invalid logging opts for driver none", _FAILED)
    return _pairs(text.replace("=", ":", 1) for text in given)


def _bind(text: str) -> str:
    """A relative folder means one here."""
    source, colon, rest = text.partition(":")
    if colon and (source in (".", "..") or source.startswith(("./", "../"))):
        source = os.path.abspath(source)
    return f"{source}{colon}{rest}"


def _pairs(given: Iterable[str]) -> dict[str, str]:
    return {target: options for target, _, options in (text.partition(":") for text in given)}


def _device(text: str) -> dict[str, str]:
    source, _, rest = text.partition(":")
    target, _, rights = rest.partition(":")
    if target and set(target) <= set("rwm"):
        target, rights = "", target
    return {"PathOnHost": source, "PathInContainer": target or source, "CgroupPermissions": rights or "rwm"}


def _endpoints(flags: Values) -> dict[str, Any]:
    networks: list[NetworkRequest] = flags.every("network") or [NetworkRequest("default")]
    aliases: list[str] = flags.every("network-alias")
    found: dict[str, Any] = {}
    for number, network in enumerate(networks):
        if network.name in found:
            raise CliError(f'network "{network.name}" is specified multiple times', _FAILED)
        names = [*network.aliases, *(aliases if number == 0 else ())]
        found[network.name] = {"Aliases": names or None, "DriverOpts": network.options or None}
        own = {**network.own, **_own(flags, network)} if number == 0 else network.own
        addresses: dict[str, Any] = {"IPv4Address": own.get("ip"), "IPv6Address": own.get("ip6")}
        addresses["LinkLocalIPs"] = _link_local(flags, network) if number == 0 else network.link_local
        if any(addresses.values()):
            found[network.name]["IPAMConfig"] = {key: value for key, value in addresses.items() if value}
        if own.get("mac-address"):
            found[network.name]["MacAddress"] = own["mac-address"]
    first = networks[0].name
    if flags.every("link") and first not in _WITHOUT_NAMES and not first.startswith("container:"):
        found[first]["Links"] = flags.every("link")
    return found


def _link_local(flags: Values, network: NetworkRequest) -> list[str]:
    given: list[str] = flags.every("link-local-ip")
    if given and network.link_local:
        raise CliError(
            "conflicting options: cannot specify both --link-local-ip and per-network link-local IP addresses",
            _FAILED,
        )
    return given or network.link_local


def _own(flags: Values, network: NetworkRequest) -> dict[str, str]:
    """What flags of their own say of the first network, which its --network may say, too, but not both."""
    found = {}
    for flag, what in (("ip", "IPv4 address"), ("ip6", "IPv6 address"), ("mac-address", "MAC address")):
        if not flags.text(flag):
            continue
        if network.own.get(flag):
            raise CliError(
                f"conflicting options: cannot specify both --{flag} and per-network {what}", _FAILED
            )
        found[flag] = flags.text(flag)
    if (mac := found.get("mac-address", "")) and not is_mac(mac):
        raise CliError(f"{mac} is not a valid mac address", _FAILED)
    return found


# ---- ports


def _ports(flags: Values) -> tuple[dict[str, Any], list[str]]:
    """(bindings by port of the container, exposed ports)."""
    bindings: dict[str, Any] = {}
    exposed: list[str] = []
    for text in flags.every("publish"):
        address, rest = _address(text)
        try:
            found = ports_of(rest)
        except ValueError as error:
            raise CliError(f'invalid argument "{text}" for "-p, --publish" flag: {error}', _FAILED) from None
        for port in found:
            key = f"{port['TargetPort']}/{port['Protocol']}"
            number = str(port.get("PublishedPort") or "")
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": number})
            exposed.append(key)
    for text in flags.every("expose"):
        match = _EXPOSED.fullmatch(text)
        if match is None:
            raise CliError(f"invalid range format for --expose: {text}", _FAILED)
        first, last, protocol = int(match[1]), int(match[2] or match[1]), match[3] or "tcp"
        exposed += [f"{number}/{protocol}" for number in range(first, last + 1)]
    return bindings, list(dict.fromkeys(exposed))


def _address(text: str) -> tuple[str, str]:
    """("127.0.0.1", "8080:80") of "127.0.0.1:8080:80"."""
    pieces = text.rsplit(":", 2)
    if len(pieces) < 3:
        return "", text
    address = pieces[0].strip("[]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise CliError(f"invalid IP address: {address}", _FAILED) from None
    return address, ":".join(pieces[1:]).removeprefix(":")
