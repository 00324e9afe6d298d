"""Who this node is: its key, certificate and ids, in one file that is replaced in one step, so that none is ever half there.

Issued at init (agent/bootstrap.py) and join (agent/admission.py), written by agent/membership.py, and again when
agent/renewal.py has renewed the certificate.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from agent.keeping import known
from agent.sealing import write_private
from common import errors, pki

FILE: Final = "identity.json"
_MACHINE_FILES: Final = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Identity:
    """A member's papers; PEM texts."""

    node_id: str
    cluster_id: str
    key: str = field(repr=False)
    certificate: str  # leaf first, root last
    root: str
    machine: str  # hash of the machine that it was issued to
    advertise_addr: str = ""  # IP; empty: the one that the managers see
    data_path_addr: str = ""
    remote_addr: str = ""  # the node's address as the manager saw it when it joined
    managers: tuple[str, ...] = ()  # host:port of those known when it was issued
    manager: bool = False  # a manager runs on this node too
    joining: bool = False  # one was to be made and is not known to stand: there may be a part of it
    listen_addr: str = ""  # host:port where it listens, or would
    manager_addr: str = ""  # host:port that it advertises, if somebody has said so
    renewal: str = ""  # for `key` too; good for a new certificate alone, and for longer than `certificate`
    next_key: str = field(default="", repr=False)  # of a renewal that is under way


def issued(
    key: str, node_id: str, cluster_id: str, certificate: bytes, *, managers: tuple[str, ...],
    advertise_addr: str, data_path_addr: str, remote_addr: str = "", renewal: bytes = b"",
) -> Identity:  # fmt: skip
    """A node's papers from a manager's answer; `certificate` is a chain that ends with the swarm's root."""
    return Identity(
        node_id=node_id,
        cluster_id=cluster_id,
        key=key,
        certificate=certificate.decode(),
        root=pki.split_chain(certificate)[-1].decode(),
        machine=machine_hash(),
        advertise_addr=advertise_addr,
        data_path_addr=data_path_addr,
        remote_addr=remote_addr,
        managers=managers,
        renewal=renewal.decode(),
    )


def load(folder: Path) -> Identity | None:
    """The identity in `folder`; raises errors.Internal for a file that can't be read as one."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Identity(**known(Identity, json.loads(path.read_bytes())))
    except (ValueError, TypeError, AttributeError) as exc:
        raise errors.Internal(f"{path} is damaged: {exc}") from exc


def save(folder: Path, identity: Identity) -> None:
    """Keeps `identity`, readable by root alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / FILE, json.dumps(asdict(identity), indent=1).encode())


def forget(folder: Path) -> None:
    """The node belongs to no swarm any more."""
    (folder / FILE).unlink(missing_ok=True)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""  # not every machine has every one of them


def machine_hash() -> str:
    """A digest that stays with the machine over reboots and reinstalls of Shoal, and differs on another one."""
    return hashlib.sha256("\n".join(_read(path) for path in _MACHINE_FILES).encode()).hexdigest()


def boot_id() -> str:
    """Differs after every start of the machine's kernel or of its system container."""
    kernel = _read(_BOOT_ID)
    try:
        born = Path("/proc/1/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        born = ""
    return f"{kernel}/{born}"
