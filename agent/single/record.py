"""What the agent keeps of a single container beyond what the runtime does, and of this node's own networks. Pure; a row of the
agent's database each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from agent.keeping import known
from agent.network.bridges import Binding

BRIDGE: Final = "bridge"
HOST: Final = "host"
NONE: Final = "none"
OWN: Final = (BRIDGE, HOST, NONE)  # modes that need no network of the swarm
JOINED: Final = "container:"  # before the container whose network is shared


@dataclass(frozen=True, slots=True)
class Leg:
    """One network that the container is in. What it has there is empty while it has no namespace."""

    network: str  # name or id, as the user gave it
    aliases: tuple[str, ...] = ()
    wanted: str = ""  # the address that the user asks for
    interface: str = ""
    network_id: str = ""  # of a network of this node's own
    address: str = ""  # there
    attachment: str = ""  # the place in an overlay
    wanted6: str = ""  # the same of IPv6
    mac: str = ""  # that the user asks for
    link_local: tuple[str, ...] = ()  # addresses beside the one that it has on a bridge
    entered: bool = False  # it has been there: from then on its short id is shown as one of its names
    links: tuple[str, ...] = ()  # "other:alias": names that this container alone has for others here
    address6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that it has on a bridge."""
        return tuple(filter(None, (self.address, self.address6)))

    @property
    def wishes(self) -> tuple[str, ...]:
        """The addresses that the user asks for."""
        return tuple(filter(None, (self.wanted, self.wanted6)))

    def bare(self) -> Leg:
        """Without what it has only while the container has a namespace."""
        return replace(self, interface="", network_id="", address="", attachment="", address6="")


@dataclass(frozen=True, slots=True)
class Link:
    """Another container on the default bridge that this one has a name for."""

    alias: str
    container_id: str
    name: str  # as it was called when it was linked: its record may have gone
    address: str = ""  # the last that was told


@dataclass(frozen=True, slots=True)
class PortRequest:
    """What `-p` asks for: a port of the container, and of this node."""

    protocol: str
    target: int
    address: str = ""  # empty: all of this node's
    first: int = 0  # a range of which one is taken; 0 for any that is free
    last: int = 0


@dataclass(frozen=True, slots=True)
class SingleRecord:
    """How one container came to be, and the network that it has while it runs."""

    container_id: str
    name: str = ""
    network_mode: str = BRIDGE  # as the user said it: one of OWN, another container, or the first of `legs`
    legs: tuple[Leg, ...] = ()
    auto_remove: bool = False
    stdin_once: bool = False
    attach: tuple[bool, bool, bool] = (False, False, False)  # stdin, stdout, stderr: for those who inspect it
    sandbox: str = ""  # its id, while it has a namespace
    gateway_leg: Leg | None = None  # on docker_gwbridge, where no bridge of its own leads out
    ports: tuple[PortRequest, ...] = ()
    publish_all: bool = False
    exposed: tuple[str, ...] = ()  # "80/tcp", by the image and by --expose
    bindings: tuple[Binding, ...] = ()  # what it has of this node's ports while it runs
    dns: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    host_config: Mapping[str, Any] = field(default_factory=dict)  # as asked for: for those who inspect it
    stop_timeout: int | None = None  # as asked for
    restart: str = ""  # the policy's name (restarting.py)
    most_restarts: int = 0  # for on-failure; 0 means that there is no end
    restarts: int = 0  # since somebody has started it
    stopped: bool = False  # by somebody
    removing: bool = False  # by somebody: it goes, whatever breaks that off
    error: str = ""  # why its last start failed, and the exit code for that
    exit_code: int = 0

    @property
    def attachments(self) -> tuple[str, ...]:
        """Its places in overlays."""
        return tuple(leg.attachment for leg in self.legs if leg.attachment)

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> SingleRecord:
        values = known(cls, json.loads(data))
        for name, kind in (("legs", Leg), ("ports", PortRequest), ("bindings", Binding), ("links", Link)):
            values[name] = tuple(kind(**known(kind, item)) for item in values.get(name, ()))
        if "gateway_leg" not in values and values.get("network_mode") == BRIDGE:
            values["legs"] = (Leg(BRIDGE),)  # written before the default bridge was one
        gateway = values.get("gateway_leg")
        values["gateway_leg"] = Leg(**known(Leg, gateway)) if gateway else None
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Pool6:
    """The IPv6 subnet of a bridge network, with what LocalNetwork has of IPv4's."""

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    reserved: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class LocalNetwork:
    """A bridge network of this node's own."""

    id: str
    name: str
    created_at: int
    bridge: str  # the interface
    subnet: str
    gateway: str
    ip_range: str = ""
    reserved: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False  # the subnet is the user's
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    pools: tuple[Mapping[str, Any], ...] = ()  # what inspection shows of them
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    config_only: bool = False
    config_from: str = ""
    six: Pool6 | None = None  # where it has IPv6

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> LocalNetwork:
        values = known(cls, json.loads(data))
        if (six := values.get("six")) is not None:
            values["six"] = Pool6(**known(Pool6, six))
        return cls(**values)
