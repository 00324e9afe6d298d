"""A container's own folder on the node: its record, its /etc files and its logs. Blocking, small, called in threads.

The record outlives containerd and the agent: from it a restarted agent knows settings, start and exit of every
container. Files are replaced whole, so that a reader sees the old or the new one.
"""

import ipaddress
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agent.keeping import known
from agent.runtime.api import ContainerConfig, Device, ExitStatus, Mount, Ulimit
from agent.runtime.spec import Files, hostname
from common.errors import InvalidArgument

_RECORD = "config.json"
_NODES_RESOLVERS = Path("/etc/resolv.conf")
_NODES_HOSTS = Path("/etc/hosts")
_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a container beyond what containerd keeps."""

    config: ContainerConfig
    image_id: str
    stop_signal: str
    created_at: int
    started_at: int = 0
    exit: ExitStatus | None = None


class Folders:
    """All containers' folders, below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, id: str) -> Path:
        return self._root / id

    def prepare(self, record: Record) -> Files:
        """Make the folder with the record and the three files that are mounted into /etc."""
        folder = self.path(record.config.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.save(record)
        # Any user in the container reads these; the folder itself stays root's.
        texts = {
            "hosts": hosts_text(record.config),
            "hostname": hostname(record.config) + "\n",
            "resolv.conf": resolv_text(record.config),
        }
        if record.config.host_network:
            texts["hosts"] = _text(_NODES_HOSTS) + extra_hosts_text(record.config)
            if not record.config.dns_nameservers:
                texts["resolv.conf"] = _text(_NODES_RESOLVERS) + texts["resolv.conf"]
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        return Files(str(folder / "hosts"), str(folder / "hostname"), str(folder / "resolv.conf"))

    def save(self, record: Record) -> None:
        target = self.path(record.config.id) / _RECORD
        fresh = target.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(asdict(record)))
        fresh.replace(target)

    def load(self, id: str) -> Record | None:
        """None where there is no record, or none that can be read."""
        try:
            return record_from(json.loads((self.path(id) / _RECORD).read_text()))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def ids(self) -> list[str]:
        try:
            return sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []

    def remove(self, id: str) -> None:
        if self.path(id).exists():
            shutil.rmtree(self.path(id))


def _text(path: Path) -> str:
    """A file of the node's own, for a container that shares its network; empty where there is none."""
    try:
        return path.read_text(errors="replace").rstrip("\n") + "\n"
    except FileNotFoundError:
        return ""


def hosts_text(config: ContainerConfig) -> str:
    """/etc/hosts: the local names, the user's lines, those of links, the container's own name at its addresses."""
    name = hostname(config)
    names = f"{name}.{config.domainname} {name}" if config.domainname else name
    own = "".join(f"{address}\t{names}\n" for address in config.addresses)
    linked = "".join(_extra_host(line) + "\n" for line in config.linked_hosts)
    return _LOCALHOST + extra_hosts_text(config) + linked + own


def extra_hosts_text(config: ContainerConfig) -> str:
    """The user's lines of /etc/hosts."""
    return "".join(_extra_host(line) + "\n" for line in config.extra_hosts)


def _extra_host(line: str) -> str:
    """Swarm's "ADDRESS NAME…", or the command line's "NAME:ADDRESS"."""
    first, *names = line.split()
    if names and _is_address(first):
        return "\t".join((first, " ".join(names)))
    name, colon, address = line.partition(":")
    if colon and _is_address(address.strip("[] ")):
        return f"{address.strip('[] ')}\t{name}"
    raise InvalidArgument(f'bad format for add-host: "{line}"')


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolv_text(config: ContainerConfig) -> str:
    lines = [f"nameserver {address}" for address in config.dns_nameservers]
    if config.dns_search:
        lines.append("search " + " ".join(config.dns_search))
    if config.dns_options:
        lines.append("options " + " ".join(config.dns_options))
    return "".join(f"{line}\n" for line in lines)


def record_from(data: Mapping[str, Any]) -> Record:
    """The reverse of `dataclasses.asdict` after JSON."""
    exit = data["exit"]
    return Record(
        config=_config_from(data["config"]),
        image_id=data["image_id"],
        stop_signal=data["stop_signal"],
        created_at=data["created_at"],
        started_at=data["started_at"],
        exit=ExitStatus(**exit) if exit is not None else None,
    )


def _config_from(data: Mapping[str, Any]) -> ContainerConfig:
    return replace(
        ContainerConfig(**known(ContainerConfig, data)),
        mounts=tuple(Mount(**known(Mount, item)) for item in data["mounts"]),
        devices=tuple(Device(**known(Device, item)) for item in data["devices"]),
        ulimits=tuple(Ulimit(**known(Ulimit, item)) for item in data["ulimits"]),
    )
