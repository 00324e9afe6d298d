"""HostConfig of a container, as those who inspect it see it: what was asked for, in Docker's form. Pure.

container_requests.py keeps what a client has asked (`asked`); container_shapes.py shows it (`shown`). Clients that make
a container anew from what they inspect find there all that they need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.engine.http import Fields
from agent.runtime.api import ContainerConfig
from agent.runtime.defaults import MASKED_PATHS, READONLY_PATHS
from agent.single.record import SingleRecord

# Every field, in Docker's order, with what it is where nobody has asked for anything.
_FIELDS: Final[Mapping[str, Any]] = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "NetworkMode": "default",
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "private",
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": 64 << 20,
    "Runtime": "runc",
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": None,
    "PidsLimit": None,
    "Ulimits": [],
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}
# Only there when asked for.
_OPTIONAL: Final = ("Mounts", "StorageOpt", "Tmpfs", "Sysctls", "Init", "Annotations")
_NAMES: Final = {name.lower(): name for name in (*_FIELDS, *_OPTIONAL)}
# What the record or the container itself knows better, in the form that inspection has for it.
_KNOWN_BETTER: Final = ("NetworkMode", "PortBindings", "AutoRemove", "PublishAllPorts", "Cgroup", "Links")


def asked(host: Fields) -> dict[str, Any]:
    """What a client has asked for, under Docker's names; what says nothing is left out."""
    found: dict[str, Any] = {}
    for key in host.names():
        name = _NAMES.get(key)
        value = host.get(key)
        if name is None or name in _KNOWN_BETTER or _says_nothing(value):
            continue
        found[name] = value
    policy = host.part("RestartPolicy", "container.RestartPolicy")
    if policy.text("Name"):
        times = policy.get("MaximumRetryCount") or 0
        found["RestartPolicy"] = {"Name": policy.text("Name"), "MaximumRetryCount": times}
    else:
        found.pop("RestartPolicy", None)
    logging = host.part("LogConfig", "container.LogConfig")
    found["LogConfig"] = {
        "Type": logging.text("Type") or "json-file",
        "Config": logging.table("Config"),
    }
    if found.get("MemorySwappiness") == -1:  # the CLI's way to say nothing
        del found["MemorySwappiness"]
    for name in ("CapAdd", "CapDrop"):
        if name in found:
            found[name] = [_capability(word) for word in found[name]]
    return found


def _says_nothing(value: object) -> bool:
    return value is not False and value in (None, "", 0, [], {})


def _capability(word: str) -> str:
    """CAP_NET_ADMIN for net_admin."""
    name = word.upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def shown(
    config: ContainerConfig, single: SingleRecord | None, bindings: Mapping[str, Any], links: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The whole; `bindings` are its ports as `-p` has asked for them, `links` what it is linked to on the default bridge."""
    found = {**_FIELDS, **_of_container(config)}
    if single is not None:
        found |= single.host_config or {"RestartPolicy": _policy(single), "Dns": list(single.dns)}
        found["NetworkMode"] = single.network_mode
        found["AutoRemove"] = single.auto_remove
        found["PublishAllPorts"] = single.publish_all
    found["PortBindings"] = dict(bindings)
    found["Links"] = list(links) or None
    paths = ([], []) if config.privileged else (list(MASKED_PATHS), list(READONLY_PATHS))
    found["MaskedPaths"], found["ReadonlyPaths"] = paths
    return found


def _policy(single: SingleRecord) -> dict[str, Any]:
    return {"Name": single.restart, "MaximumRetryCount": single.most_restarts}


def _of_container(config: ContainerConfig) -> dict[str, Any]:
    """What a container's own settings say: all that is known of one of a task."""
    found: dict[str, Any] = {
        "NetworkMode": "host" if config.host_network else "default",
        "CapAdd": list(config.cap_add) or None,
        "CapDrop": list(config.cap_drop) or None,
        "Dns": [server for server in config.dns_nameservers if server != "127.0.0.11"],
        "DnsOptions": [option for option in config.dns_options if option != "ndots:0"],
        "DnsSearch": list(config.dns_search),
        "ExtraHosts": list(config.extra_hosts) or None,
        "GroupAdd": list(config.groups) or None,
        "OomScoreAdj": config.oom_score_adj,
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": ["no-new-privileges"] if config.no_new_privileges else None,
        "ShmSize": config.shm_bytes,
        "Memory": config.memory_bytes,
        "NanoCpus": config.nano_cpus,
        "MemorySwap": config.memory_swap_bytes,
        "MemorySwappiness": config.memory_swappiness,
        "PidsLimit": config.pids_limit or None,
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in config.ulimits],
    }
    if config.sysctls:
        found["Sysctls"] = dict(config.sysctls)
    if config.init:
        found["Init"] = True
    return found
