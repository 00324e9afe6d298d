"""The texts of `version` and `info`, in the layout of `docker`. Pure; called by `cli.system`."""

from __future__ import annotations

from typing import Any

from cli.output.units import binary_size, parse_time

_SECOND = 1_000_000_000
_COMPONENT_FIELDS = (
    ("API version:", "ApiVersion"),
    ("Python version:", "PythonVersion"),
    ("Go version:", "GoVersion"),
    ("Git commit:", "GitCommit"),
    ("Built:", "BuildTime"),
    ("OS/Arch:", "Os"),
    ("Experimental:", "Experimental"),
)


def version_text(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    api = client["ApiVersion"]
    if api != client["DefaultAPIVersion"]:
        api = f"{api} (downgraded from {client['DefaultAPIVersion']})"
    lines = [
        "Client:",
        f" Version:           {client['Version']}",
        f" API version:       {api}",
        f" Python version:    {client['PythonVersion']}",
        f" OS/Arch:           {client['Os']}/{client['Arch']}",
        f" Context:           {client['Context']}",
    ]
    if server is not None:
        name = (server.get("Platform") or {}).get("Name", "")
        lines += ["", f"Server: {name}".rstrip()]
        for component in server.get("Components") or []:
            lines += _component(component)
    return "\n".join(lines) + "\n"


def _component(component: dict[str, Any]) -> list[str]:
    details = component.get("Details") or {}
    lines = [f" {component.get('Name', '')}:", f"  {'Version:':<17} {component.get('Version', '')}"]
    if component.get("Name") != "Engine":
        return lines + [f"  {key + ':':<17} {value}" for key, value in sorted(details.items())]
    for title, key in _COMPONENT_FIELDS:
        value = details.get(key, "")
        if not value:
            continue
        if key == "ApiVersion":
            value = f"{value} (minimum version {details.get('MinAPIVersion', '')})"
        elif key == "Os":
            value = f"{value}/{details.get('Arch', '')}"
        elif key == "BuildTime":
            value = _built(value)
        lines.append(f"  {title:<17} {value}")
    return lines


def _built(text: str) -> str:
    from datetime import UTC, datetime

    moment = parse_time(text)
    if not moment:
        return text
    stamp = datetime.fromtimestamp(moment // _SECOND, UTC)
    return f"{stamp:%a %b} {stamp.day:2d} {stamp:%H:%M:%S %Y}"


def info_text(client: dict[str, Any], info: dict[str, Any] | None, problem: str) -> str:
    lines = [
        "Client:",
        f" Version:    {client['Version']}",
        f" Context:    {client['Context']}",
        f" Debug Mode: {_word(client['Debug'])}",
        "",
        "Server:",
    ]
    if info is None:
        return "\n".join([*lines, problem]) + "\n"
    lines += [
        f" Containers: {info.get('Containers', 0)}",
        f"  Running: {info.get('ContainersRunning', 0)}",
        f"  Paused: {info.get('ContainersPaused', 0)}",
        f"  Stopped: {info.get('ContainersStopped', 0)}",
        f" Images: {info.get('Images', 0)}",
        *_when(" Server Version: {}", info.get("ServerVersion")),
        *_when(" Storage Driver: {}", info.get("Driver")),
        *(f"  {key}: {value}" for key, value in info.get("DriverStatus") or []),
        *_when(" Logging Driver: {}", info.get("LoggingDriver")),
        *_when(" Cgroup Driver: {}", info.get("CgroupDriver")),
        *_when(" Cgroup Version: {}", info.get("CgroupVersion")),
        *_plugins(info.get("Plugins") or {}),
        *_swarm(info.get("Swarm") or {}),
        *_runtimes(info),
        *_security(info.get("SecurityOptions") or []),
        *_machine(info),
    ]
    return "\n".join([*lines, ""]) + "\n"


def _when(form: str, value: Any) -> list[str]:
    return [form.format(value)] if value else []


def _word(value: Any) -> str:
    return str(bool(value)).lower()


def _plugins(plugins: dict[str, Any]) -> list[str]:
    lines = [" Plugins:"]
    for key in ("Volume", "Network", "Authorization", "Log"):
        if plugins.get(key) or key in ("Volume", "Network", "Log"):
            lines.append(f"  {key}: {' '.join(plugins.get(key) or [])}")
    return lines


def _swarm(swarm: dict[str, Any]) -> list[str]:
    state = swarm.get("LocalNodeState", "inactive")
    lines = [f" Swarm: {state}"]
    if state in ("inactive", "locked"):
        return lines
    lines.append(f"  NodeID: {swarm.get('NodeID', '')}")
    lines += _when("  Error: {}", swarm.get("Error"))
    lines.append(f"  Is Manager: {_word(swarm.get('ControlAvailable'))}")
    cluster = swarm.get("Cluster")
    if cluster and swarm.get("ControlAvailable") and not swarm.get("Error"):
        lines += _cluster(swarm, cluster)
    lines.append(f"  Node Address: {swarm.get('NodeAddr', '')}")
    managers = sorted(peer.get("Addr", "") for peer in swarm.get("RemoteManagers") or [])
    if managers:
        lines += ["  Manager Addresses:", *(f"   {address}" for address in managers)]
    return lines


def _cluster(swarm: dict[str, Any], cluster: dict[str, Any]) -> list[str]:
    spec = cluster.get("Spec") or {}
    raft = spec.get("Raft") or {}
    authority = spec.get("CAConfig") or {}
    lines = [
        f"  ClusterID: {cluster.get('ID', '')}",
        f"  Managers: {swarm.get('Managers', 0)}",
        f"  Nodes: {swarm.get('Nodes', 0)}",
    ]
    if cluster.get("DefaultAddrPool"):
        pools = "".join(f"{pool}  " for pool in cluster["DefaultAddrPool"])
        lines += [f"  Default Address Pool: {pools}", f"  SubnetSize: {cluster.get('SubnetSize', 0)}"]
    if cluster.get("DataPathPort"):
        lines.append(f"  Data Path Port: {cluster['DataPathPort']}")
    limit = (spec.get("Orchestration") or {}).get("TaskHistoryRetentionLimit", 0)
    lines += [
        "  Orchestration:",
        f"   Task History Retention Limit: {limit}",
        "  Raft:",
        f"   Snapshot Interval: {raft.get('SnapshotInterval', 0)}",
    ]
    if raft.get("KeepOldSnapshots") is not None:
        lines.append(f"   Number of Old Snapshots to Retain: {raft['KeepOldSnapshots']}")
    lines += [
        f"   Heartbeat Tick: {raft.get('HeartbeatTick', 0)}",
        f"   Election Tick: {raft.get('ElectionTick', 0)}",
        "  Dispatcher:",
        f"   Heartbeat Period: {_roughly((spec.get('Dispatcher') or {}).get('HeartbeatPeriod', 0))}",
        "  CA Configuration:",
        f"   Expiry Duration: {_roughly(authority.get('NodeCertExpiry', 0))}",
        f"   Force Rotate: {authority.get('ForceRotate', 0)}",
    ]
    if authority.get("ExternalCAs"):
        lines.append("   External CAs:")
        lines += [
            f"     {entry.get('Protocol', '')}: {entry.get('URL', '')}" for entry in authority["ExternalCAs"]
        ]
    lines += [
        f"  Autolock Managers: {_word((spec.get('EncryptionConfig') or {}).get('AutoLockManagers'))}",
        f"  Root Rotation In Progress: {_word(cluster.get('RootRotationInProgress'))}",
    ]
    return lines


def _roughly(nanoseconds: int) -> str:
    from cli.output.units import ago

    return ago(nanoseconds)


def _runtimes(info: dict[str, Any]) -> list[str]:
    lines = []
    if info.get("Runtimes"):
        lines += [
            f" Runtimes: {' '.join(sorted(info['Runtimes']))}",
            f" Default Runtime: {info.get('DefaultRuntime', '')}",
        ]
    if info.get("OSType") == "linux":
        lines.append(f" Init Binary: {info.get('InitBinary', '')}")
        for title, key in (
            ("containerd", "ContainerdCommit"),
            ("runc", "RuncCommit"),
            ("init", "InitCommit"),
        ):
            lines.append(f" {title} version: {(info.get(key) or {}).get('ID', '')}")
    return lines


def _security(options: list[str]) -> list[str]:
    if not options:
        return []
    lines = [" Security Options:"]
    for option in options:
        pairs = [pair.partition("=")[::2] for pair in option.split(",")]
        for key, value in pairs:
            lines.append(f"  {value}" if key == "name" else f"   {key[:1].upper()}{key[1:]}: {value}")
    return lines


def _machine(info: dict[str, Any]) -> list[str]:
    lines = [
        *_when(" Kernel Version: {}", info.get("KernelVersion")),
        *_when(" Operating System: {}", info.get("OperatingSystem")),
        *_when(" OSType: {}", info.get("OSType")),
        *_when(" Architecture: {}", info.get("Architecture")),
        f" CPUs: {info.get('NCPU', 0)}",
        f" Total Memory: {binary_size(info.get('MemTotal', 0))}",
        *_when(" Name: {}", info.get("Name")),
        *_when(" ID: {}", info.get("ID")),
        f" Docker Root Dir: {info.get('DockerRootDir', '')}",
        f" Debug Mode: {_word(info.get('Debug'))}",
    ]
    if info.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in info["Labels"])]
    lines.append(f" Experimental: {_word(info.get('ExperimentalBuild'))}")
    registry = info.get("RegistryConfig") or {}
    insecure = [
        name for name, entry in (registry.get("IndexConfigs") or {}).items() if not entry.get("Secure")
    ]
    insecure += registry.get("InsecureRegistryCIDRs") or []
    if insecure:
        lines += [" Insecure Registries:", *(f"  {name}" for name in insecure)]
    if registry.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {mirror}" for mirror in registry["Mirrors"])]
    lines.append(f" Live Restore Enabled: {_word(info.get('LiveRestoreEnabled'))}")
    return lines
