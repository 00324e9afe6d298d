"""/_ping, /version, /info and /plugins: what this engine is and where it stands. Routes for app.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from agent.engine import versions
from agent.engine.backend import Backend, LocalState, Membership, NodeInfo
from agent.engine.http import HEADERS, Call, answer, routes
from agent.runtime.api import ContainerState, Status
from common import apijson, errors, model, version

_NO_CACHE: Final[Mapping[str, str]] = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
_PLUGINS: Final[Mapping[str, Any]] = {
    "Volume": ["local"],
    "Network": ["bridge", "host", "null", "overlay"],
    "Authorization": None,
    "Log": ["json-file", "local"],
}
_INFO_TIMEOUT: Final = 3.0  # without a quorum `info` tells so soon
_INDEX: Final = "https://index.docker.io/v1/"
_TWO_MANAGERS: Final = """WARNING: Running Swarm in a two-manager configuration. This configuration provides
         no fault tolerance, and poses a high risk to lose control over the cluster.
         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the
         Swarm for fault-tolerance."""
# What the kernel and the runtime must have for this engine to start at all.
_ABILITIES: Final = (
    "MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit", "IPv4Forwarding",
    "BridgeNfIptables", "BridgeNfIp6tables",
)  # fmt: skip


async def ping(call: Call) -> web.StreamResponse:
    """HEAD or GET /_ping: cheap; clients learn API version and the swarm's state from the headers."""
    headers = {**HEADERS, **_NO_CACHE, "Swarm": _swarm_header(call.backend.swarm.membership())}
    return web.Response(text="OK", headers=headers)


def _swarm_header(membership: Membership) -> str:
    if membership.state is not LocalState.ACTIVE:
        return str(membership.state)
    return "active/manager" if membership.manager else "active/worker"


async def show_version(call: Call) -> web.StreamResponse:
    """GET /version."""
    info = call.backend.host.info()
    below = await call.backend.runtime.versions()
    started = apijson.format_time(info.started_at)
    own = {
        "ApiVersion": version.API,
        "Arch": info.go_architecture,
        "BuildTime": started,
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": info.kernel,
        "MinAPIVersion": version.API_MINIMUM,
        "Os": "linux",
    }
    components = [
        {"Name": "Engine", "Version": version.ENGINE, "Details": own},
        _component("shoal", version.SHOAL, ""),
        _component("containerd", below.containerd, below.containerd_commit),
        _component(below.oci_runtime, below.oci_version, below.oci_commit),
    ]
    return answer({
        "Platform": {"Name": f"Shoal {version.SHOAL}"},
        "Components": components,
        "Version": version.ENGINE,
        "ApiVersion": version.API,
        "MinAPIVersion": version.API_MINIMUM,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": info.go_architecture,
        "KernelVersion": info.kernel,
        "BuildTime": started,
    })  # fmt: skip


def _component(name: str, its_version: str, commit: str) -> dict[str, Any]:
    return {"Name": name, "Version": its_version, "Details": {"GitCommit": commit}}


async def show_info(call: Call) -> web.StreamResponse:
    """GET /info."""
    backend, info = call.backend, call.backend.host.info()
    containers = await backend.runtime.containers()
    images = await backend.runtime.images()
    below = await backend.runtime.versions()
    swarm = await _swarm(call, backend)
    shown = {
        "ID": info.id,
        **_counts(containers),
        "Images": len(images),
        "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "Plugins": _PLUGINS,
        **dict.fromkeys(_ABILITIES, True),
        "Debug": False,
        "NFd": 0,
        "OomKillDisable": False,
        "NGoroutines": 0,
        "SystemTime": apijson.format_time(backend.now_ns()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": info.cgroup_version,
        "NEventsListener": 0,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSVersion": info.os_version,
        "OSType": "linux",
        "Architecture": info.architecture,
        "IndexServerAddress": _INDEX,
        "RegistryConfig": _registry_config(info),
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "GenericResources": None,
        "DockerRootDir": info.data_root,
        "HttpProxy": info.http_proxy,
        "HttpsProxy": info.https_proxy,
        "NoProxy": info.no_proxy,
        "Name": info.hostname,
        "Labels": [f"{key}={value}" for key, value in info.labels.items()],
        "ExperimentalBuild": False,
        "ServerVersion": version.ENGINE,
        "Runtimes": {below.oci_runtime: {"path": below.oci_path}},
        "DefaultRuntime": below.oci_runtime,
        "Swarm": swarm,
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": below.init.rpartition("/")[2],
        "ContainerdCommit": _commit(below.containerd, below.containerd_commit),
        "RuncCommit": _commit(below.oci_version, below.oci_commit),
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": ["name=seccomp,profile=default"],
        "Warnings": swarm.get("Warnings"),
    }  # fmt: skip
    return answer(versions.info(shown, call.version))


def _commit(its_version: str, commit: str) -> dict[str, str]:
    return {"ID": commit or its_version, "Expected": commit or its_version}


def _counts(containers: list[ContainerState]) -> dict[str, int]:
    running = sum(1 for c in containers if c.status is Status.RUNNING)
    paused = sum(1 for c in containers if c.status is Status.PAUSED)
    return {
        "Containers": len(containers),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(containers) - running - paused,
    }


def _registry_config(info: NodeInfo) -> dict[str, Any]:
    indexes: dict[str, Any] = {
        name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        for name in info.insecure_registries
    }
    mirrors = [mirror.rstrip("/") + "/" for mirror in info.registry_mirrors]
    indexes["docker.io"] = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
    return {
        "AllowNondistributableArtifactsCIDRs": [],
        "AllowNondistributableArtifactsHostnames": [],
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "IndexConfigs": indexes,
        "Mirrors": mirrors,
    }


async def _swarm(call: Call, backend: Backend) -> dict[str, Any]:
    """The Swarm block: what the node knows itself, and on a manager what the swarm is."""
    mine = backend.swarm.membership()
    shown: dict[str, Any] = {
        "NodeID": mine.node_id,
        "NodeAddr": mine.node_addr,
        "LocalNodeState": str(mine.state),
        "ControlAvailable": mine.manager,
        "Error": mine.error,
        "RemoteManagers": [{"NodeID": m.node_id, "Addr": m.addr} for m in mine.managers] or None,
    }
    if not mine.manager:
        return shown
    try:
        control = backend.swarm.control()
        cluster = (await call.ask(control.GetCluster, model.Nothing(), _INFO_TIMEOUT)).cluster
        nodes = (await call.ask(control.ListNodes, model.ListRequest(), _INFO_TIMEOUT)).nodes
    except errors.ShoalError as exc:
        if exc.message == errors.SWARM_LOCKED:
            locked = {"NodeID": "", "LocalNodeState": str(LocalState.LOCKED), "RemoteManagers": None}
            return {**shown, **locked, "ControlAvailable": False, "Error": exc.message}
        return {**shown, "ControlAvailable": False, "Error": mine.error or exc.message}
    managers = sum(node.manager_status is not None for node in nodes)
    shown |= {"Nodes": len(nodes), "Managers": managers, "Cluster": apijson.encode(cluster)}
    return {**shown, "Warnings": [_TWO_MANAGERS]} if managers == 2 else shown


async def plugins(call: Call) -> web.StreamResponse:
    """GET /plugins: there are none."""
    return answer([])


async def plugin(call: Call) -> web.StreamResponse:
    """GET /plugins/{name}/json."""
    raise errors.NotFound(f'plugin "{call.names["name"]}" not found')


ROUTES: Final = routes({
    "GET /_ping": ping,
    "GET /version": show_version,
    "GET /info": show_info,
    "GET /plugins": plugins,
    "GET /plugins/{name:path}/json": plugin,
})  # fmt: skip
