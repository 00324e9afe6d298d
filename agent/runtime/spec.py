"""A container's settings as the OCI runtime wants them. Pure: what must be looked up on the node comes in as facts.

Called by the creation of containers (`build`) and of execs (`exec_process`). Whatever is not said falls back to the
image's configuration, then to Docker's defaults (`agent.runtime.defaults`).
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.runtime import defaults
from agent.runtime.api import ContainerConfig, ExecConfig, Mount
from agent.runtime.image import ImageConfig
from agent.runtime.users import User
from common.errors import FailedPrecondition, InvalidArgument

CPU_PERIOD = 100_000
_OF_IPC = ("/dev/mqueue", "/dev/shm")  # the machine's own, for who shares its IPC
_INIT_TARGET = "/sbin/docker-init"
_LINKED = "shoal.linked"  # the annotation that names the variables that links have brought
_DOCKERS_OWN = ("PATH", "HOSTNAME", "TERM")  # the first ones, whatever their values
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device node, looked up."""

    path: str  # in the container
    kind: str  # c or b
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a spec depends on and only the node can say."""

    cgroup_version: int = 2
    swap_accounting: bool = True
    last_capability: int = len(defaults.ALL_CAPABILITIES) - 1
    init_path: str = ""  # of an init for containers; empty = none is installed


@dataclass(frozen=True, slots=True)
class Files:
    """The container's own versions of three files, on the node."""

    hosts: str
    hostname: str
    resolv_conf: str


def build(
    config: ContainerConfig,
    image: ImageConfig,
    user: User,
    files: Files,
    host: HostFacts,
    devices: Sequence[HostDevice] = (),
) -> dict[str, Any]:
    """The whole runtime specification."""
    args = command_line(config, image)
    init_mounts: list[dict[str, Any]] = []
    if config.init:
        if not host.init_path:
            raise FailedPrecondition('exec: "docker-init": executable file not found in $PATH')
        args = (_INIT_TARGET, "--", *args)
        init_mounts = [_bind(host.init_path, _INIT_TARGET, ("ro",))]
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": _user(user),
        "args": list(args),
        "env": list(environment(config, image)),
        "cwd": config.workdir or image.workdir or "/",
        "capabilities": _capability_sets(config, user, host),
        "noNewPrivileges": config.no_new_privileges,
    }
    if config.oom_score_adj:
        process["oomScoreAdj"] = config.oom_score_adj
    if config.ulimits:
        process["rlimits"] = [
            {"type": f"RLIMIT_{u.name.upper()}", "soft": _unsigned(u.soft), "hard": _unsigned(u.hard)}
            for u in config.ulimits
        ]
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        **({} if config.host_uts else {"hostname": hostname(config)}),
        "root": {"path": "rootfs", "readonly": config.read_only},
        "process": process,
        "mounts": _mounts(config, files, init_mounts),
        "linux": _linux(config, host, devices),
    }
    return spec


def exec_process(exec: ExecConfig, container: Mapping[str, Any], user: User) -> dict[str, Any]:
    """A further process: as the container's own, except for what is said otherwise."""
    process: Mapping[str, Any] = container["process"]
    capabilities = process["capabilities"]
    if exec.privileged:
        names = list(defaults.ALL_CAPABILITIES)
        capabilities = {"bounding": names, "effective": names, "permitted": names}
    elif user.uid:
        capabilities = {"bounding": capabilities["bounding"]}
    else:
        bounding = capabilities["bounding"]
        capabilities = {"bounding": bounding, "effective": bounding, "permitted": bounding}
    added = ("TERM=xterm", *exec.env) if exec.tty else exec.env
    return {
        "terminal": exec.tty,
        "user": _user(user),
        "args": list(exec.args),
        "env": list(merge_env(process["env"], added)),
        "cwd": exec.workdir or process["cwd"],
        "capabilities": capabilities,
        "noNewPrivileges": process["noNewPrivileges"],
    }


def command_line(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Entrypoint and arguments. A new entrypoint drops the image's CMD; new arguments keep its ENTRYPOINT."""
    if config.command:
        line = (*config.command, *config.args)
    else:
        line = (*image.entrypoint, *(config.args or image.cmd))
    if not line:
        raise InvalidArgument("no command specified")
    return line


def environment(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Docker's own variables, the image's, the container's: the later wins."""
    base = [f"PATH={defaults.PATH}", f"HOSTNAME={hostname(config)}"]
    if config.tty:
        base.append("TERM=xterm")
    return merge_env(base, image.env, config.env)


def merge_env(*layers: Iterable[str]) -> tuple[str, ...]:
    """The first place of each name is kept, its last value counts; a bare name takes it away."""
    merged: dict[str, str] = {}
    for layer in layers:
        for item in layer:
            name, equals, value = item.partition("=")
            if equals:
                merged[name] = value
            else:
                merged.pop(name, None)
    return tuple(f"{name}={value}" for name, value in merged.items())


def linked(before: Mapping[str, Any], env: Iterable[str]) -> dict[str, Any]:
    """A specification with these variables of links in place of its former ones: after Docker's own, and weaker than the others."""
    annotations = dict(before.get("annotations", {}))
    gone = set(annotations.pop(_LINKED, "").split("\n"))
    kept = [item for item in before["process"]["env"] if item.partition("=")[0] not in gone]
    taken = {item.partition("=")[0] for item in kept}
    added = {name: item for item in env if (name := item.partition("=")[0]) not in taken}
    at = sum(item.partition("=")[0] in _DOCKERS_OWN for item in kept[: len(_DOCKERS_OWN)])
    if added:
        annotations[_LINKED] = "\n".join(added)
    after = {**before, "process": {**before["process"], "env": [*kept[:at], *added.values(), *kept[at:]]}}
    after.pop("annotations", None)
    return {**after, "annotations": annotations} if annotations else after


def hostname(config: ContainerConfig) -> str:
    return config.hostname or config.id[:12]


def capabilities(add: Iterable[str], drop: Iterable[str], known: Sequence[str]) -> list[str]:
    """Docker's default set, changed; ALL works on both sides."""
    adds, drops = (
        [_capability(n, known, "CapAdd") for n in add],
        [_capability(n, known, "CapDrop") for n in drop],
    )
    if "ALL" in adds:
        return [name for name in known if name not in drops]
    base: list[str] = [] if "ALL" in drops else [n for n in defaults.CAPABILITIES if n not in drops]
    return base + [name for name in adds if name not in base]


def _capability(text: str, known: Sequence[str], way: str) -> str:
    name = text.upper()
    if name == "ALL":
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in defaults.ALL_CAPABILITIES:
        raise InvalidArgument(f'invalid {way}: unknown capability: "{name}"')
    if name not in known:
        raise InvalidArgument(f'capability not supported by your kernel or not available: "{name}"')
    return name


def _capability_sets(config: ContainerConfig, user: User, host: HostFacts) -> dict[str, list[str]]:
    """As after an execve: a process that isn't root's has a bounding set and no more."""
    known = defaults.ALL_CAPABILITIES[: host.last_capability + 1]
    names = list(known) if config.privileged else capabilities(config.cap_add, config.cap_drop, known)
    if user.uid:
        return {"bounding": names}
    return {"bounding": names, "effective": names, "permitted": names}


def _user(user: User) -> dict[str, Any]:
    # Docker gives the primary group among the additional ones too.
    return {"uid": user.uid, "gid": user.gid, "additionalGids": [user.gid, *user.groups]}


def _unsigned(value: int) -> int:
    return value if value >= 0 else 2**64 - 1


# ---- mounts


def _mounts(config: ContainerConfig, files: Files, more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Docker's own first, then files and the user's by depth; a target that the user mounts on is the user's."""
    chosen = {mount.target.rstrip("/") or "/": mount for mount in config.mounts}
    for target in chosen:
        if not target.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{target}' mount path must be absolute")
    mounts = [mount for mount in _system_mounts(config) if mount["destination"] not in chosen]
    own = {
        "/etc/resolv.conf": files.resolv_conf,
        "/etc/hostname": files.hostname,
        "/etc/hosts": files.hosts,
    }
    mounts += [_bind(source, target, ()) for target, source in own.items() if target not in chosen]
    mounts += more
    for _, mount in sorted(chosen.items(), key=lambda item: (item[0].count("/"), item[0])):
        mounts.append(_mount(mount))
    return mounts


def _system_mounts(config: ContainerConfig) -> list[dict[str, Any]]:
    rights = "rw" if config.privileged else "ro"
    quiet = ["nosuid", "noexec", "nodev"]
    shm = [*quiet, "mode=1777", f"size={config.shm_bytes}"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    dev = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    table: tuple[tuple[str, str, str, list[str]], ...] = (
        ("/proc", "proc", "proc", quiet),
        ("/dev", "tmpfs", "tmpfs", dev),
        ("/dev/pts", "devpts", "devpts", pts),
        ("/sys", "sysfs", "sysfs", [*quiet, rights]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [rights, *quiet]),
        ("/dev/mqueue", "mqueue", "mqueue", quiet),
        ("/dev/shm", "tmpfs", "shm", shm),
    )
    own = [
        {"destination": target, "type": kind, "source": source, "options": options}
        for target, kind, source, options in table
        if not (config.host_ipc and target in _OF_IPC)
    ]
    return own + [_bind(target, target, quiet) for target in _OF_IPC if config.host_ipc]


def _mount(mount: Mount) -> dict[str, Any]:
    if mount.type == "tmpfs":
        options = [
            "noexec",
            "nosuid",
            "nodev",
            "rprivate",
            *mount.options,
            *(("ro",) if mount.read_only else ()),
        ]
        return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}
    rights = "ro" if mount.read_only else "rw"
    return _bind(mount.source, posixpath.normpath(mount.target), (*mount.options, rights))


def _bind(source: str, target: str, options: Iterable[str]) -> dict[str, Any]:
    said = tuple(options)
    kind = () if "bind" in said or "rbind" in said else ("rbind",)
    propagation = () if any(option in _PROPAGATIONS for option in said) else ("rprivate",)
    return {
        "destination": target,
        "type": "bind",
        "source": source,
        "options": [*kind, *propagation, *said],
    }


# ---- the kernel's side


def _linux(config: ContainerConfig, host: HostFacts, devices: Sequence[HostDevice]) -> dict[str, Any]:
    masked = defaults.MASKED_PATHS if config.masked_paths is None else config.masked_paths
    readonly = defaults.READONLY_PATHS if config.readonly_paths is None else config.readonly_paths
    linux: dict[str, Any] = {
        "cgroupsPath": f"/shoal/{config.id}",
        "namespaces": _namespaces(config, host),
        "resources": _resources(config, host, devices),
        "sysctl": _sysctls(config),
        "maskedPaths": [] if config.privileged else list(masked),
        "readonlyPaths": [] if config.privileged else list(readonly),
    }
    if devices:
        linux["devices"] = [
            {
                "path": d.path, "type": d.kind, "major": d.major, "minor": d.minor,
                "fileMode": d.mode, "uid": d.uid, "gid": d.gid,
            }
            for d in devices
        ]  # fmt: skip
    if any("shared" in option for mount in config.mounts for option in mount.options):
        linux["rootfsPropagation"] = "shared"
    elif any("slave" in option for mount in config.mounts for option in mount.options):
        linux["rootfsPropagation"] = "slave"
    return linux


def _namespaces(config: ContainerConfig, host: HostFacts) -> list[dict[str, str]]:
    shared = {"uts": config.host_uts, "pid": config.host_pid, "ipc": config.host_ipc}
    namespaces: list[dict[str, str]] = [
        {"type": kind} for kind in ("mount", "uts", "pid", "ipc") if not shared.get(kind)
    ]
    if config.network_namespace:
        namespaces.append({"type": "network", "path": config.network_namespace})
    elif not config.host_network:
        namespaces.append({"type": "network"})
    if host.cgroup_version == 2:
        namespaces.append({"type": "cgroup"})
    return namespaces


def _sysctls(config: ContainerConfig) -> dict[str, str]:
    given = {} if config.host_network else dict(defaults.NETWORK_SYSCTLS)
    return {**given, **config.sysctls}


def _resources(config: ContainerConfig, host: HostFacts, devices: Sequence[HostDevice]) -> dict[str, Any]:
    resources: dict[str, Any] = {"devices": _device_rules(config, devices)}
    if memory := _memory(config, host):
        resources["memory"] = memory
    if processors := _processors(config):
        resources["cpu"] = processors
    if config.pids_limit > 0:
        resources["pids"] = {"limit": config.pids_limit}
    return resources


def _memory(config: ContainerConfig, host: HostFacts) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if config.memory_bytes:
        memory["limit"] = config.memory_bytes
        if host.swap_accounting:
            memory["swap"] = config.memory_swap_bytes or config.memory_bytes
    if config.memory_reservation_bytes:
        memory["reservation"] = config.memory_reservation_bytes
    if config.memory_swappiness is not None and host.cgroup_version == 1:
        memory["swappiness"] = config.memory_swappiness
    if config.oom_kill_disable and host.cgroup_version == 1:
        memory["disableOOMKiller"] = True
    return memory


def _processors(config: ContainerConfig) -> dict[str, Any]:
    given: dict[str, Any] = {
        "shares": config.cpu_shares, "period": config.cpu_period, "quota": config.cpu_quota,
        "cpus": config.cpuset_cpus, "mems": config.cpuset_mems,
    }  # fmt: skip
    if config.nano_cpus:
        quota = max(config.nano_cpus * CPU_PERIOD // 1_000_000_000, 1000)  # the kernel's least
        given |= {"quota": quota, "period": CPU_PERIOD}
    return {name: value for name, value in given.items() if value}


def _device_rules(config: ContainerConfig, devices: Sequence[HostDevice]) -> list[dict[str, Any]]:
    if config.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    table = [*defaults.DEVICE_RULES, *((d.kind, d.major, d.minor, d.access) for d in devices)]
    for kind, major, minor, access in table:
        rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        if major is not None:
            rule["major"] = major
        if minor is not None:
            rule["minor"] = minor
        rules.append(rule)
    return rules
