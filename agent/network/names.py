"""Names and numbers of kernel objects, derived from ids and addresses. Pure; used by plan.py, rules.py and kernel.py.

A kernel's interface name ends at 15 characters. Everything of ours can be recognised by its name, so that the
rest of the machine is left alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Final

from common.ids import base36

GATEWAY_BRIDGE: Final = "docker_gwbridge"
INGRESS_LEG: Final = "shoal_ing"  # the host's own leg in the ingress overlay
INGRESS_PORT: Final = "vhost"  # its other end, in the ingress sandbox
BRIDGE: Final = "br0"  # in a sandbox
VXLAN: Final = "vxlan0"
TABLE: Final = "shoal"  # the nftables table in each namespace
LOCAL_TABLE: Final = (
    "shoal_local"  # beside it in the host's: this node's own bridges and what is published from them
)
FLOWS_TABLE: Final = (
    "shoal_flows"  # beside it in a task of the mesh: what is learnt there outlives changes of the other
)
SEALS_TABLE: Final = (
    "shoal_seals"  # in the host's: nothing unsealed leaves encrypted networks' tunnels or is taken in
)
HELD_TABLE: Final = (
    "shoal_seals_held"  # the same once more: nobody else can flush it, but it goes with the agent's process
)
HOST: Final = ""  # the namespace that the agent itself lives in
VXLAN_PORT: Final = 4789
SEALED_PORT: Final = 4790  # of encrypted networks' tunnels; on the wire there is ESP only
VXLAN_OVERHEAD: Final = 50
DNS_PORT: Final = 38453
DNS_ADDRESS: Final = "127.0.0.11"

_AFTER_ALL: Final = 4096  # of two routes to one destination the other is used to send
ROUTE_TABLE_BASE: Final = 1000  # clear of main (254) and its neighbours, whatever a node's number is
RULE_PRIORITY: Final = 100
ANSWER_PRIORITY: Final = 40000  # after the main table: for what has no other way

# Connection marks in our namespaces: node numbers come from the mesh, the first bit says "a backend's address", of which
# the last 29 bits follow: what private subnets there are differ in those. The two between are the connection's own.
BACKEND_MARK: Final = 0x8000_0000
DATAGRAMS: Final = 0x4000_0000  # UDP: may be sent to another backend at any time
MASQUERADED: Final = 0x2000_0000  # leaves for the mesh with this node's address instead of the client's
BACKEND_MASK: Final = 0x9FFF_FFFF
DATAGRAMS_MASK: Final = BACKEND_MASK | DATAGRAMS
LARGEST_NODE_MARK: Final = 0x7FFF_FFFF

_NETWORK_PREFIX: Final = "n-"
_TASK_PREFIX: Final = "t-"
_GATEWAY_PORT: Final = re.compile(r"g[0-9a-z]{13}")
_BRIDGE_PORT: Final = re.compile(r"b[0-9a-z]{13}")
OURS: Final = "shoal"  # the alias of a bridge of this node's own: its name may be anything


def _short(identifier: str, of: str = "") -> str:
    """13 characters of base 36: the first six to be recognised by people, seven of a digest (of another text, if one is
    given) to be unique."""
    digest = int.from_bytes(hashlib.sha256((of or identifier).encode()).digest()[:8], "big")
    return identifier[:6].lower().rjust(6, "0") + base36(digest % 36**7, 7)


def network_namespace(network_id: str) -> str:
    """File name of a network's sandbox namespace."""
    return _NETWORK_PREFIX + network_id


def task_namespace(task_id: str) -> str:
    """File name of a task's namespace."""
    return _TASK_PREFIX + task_id


def task_of(namespace: str) -> str | None:
    """The task of a namespace, or None when it is none of a task."""
    return namespace.removeprefix(_TASK_PREFIX) if namespace.startswith(_TASK_PREFIX) else None


def is_sandbox(namespace: str) -> bool:
    """Whether it is a network's."""
    return namespace.startswith(_NETWORK_PREFIX)


def sandbox_port(task_id: str) -> str:
    """A task's end in a network's bridge."""
    return "v" + _short(task_id)


def gateway_port(task_id: str) -> str:
    """A task's end in docker_gwbridge."""
    return "g" + _short(task_id)


def is_gateway_port(interface: str) -> bool:
    """Whether an interface of the host could be one of gateway_port()."""
    return _GATEWAY_PORT.fullmatch(interface) is not None


def bridge_port(container_id: str, network_id: str) -> str:
    """A container's end in a bridge of this node's own."""
    return "b" + _short(container_id, of=f"{container_id}/{network_id}")


def is_bridge_port(interface: str) -> bool:
    """Whether an interface of the host could be one of bridge_port()."""
    return _BRIDGE_PORT.fullmatch(interface) is not None


def mac(address: str) -> str:
    """The MAC that belongs to an IPv4 address: FDB and neighbours can be computed from addresses alone."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def backend_mark(address: str) -> int:
    """The connection mark of everything that a balancer sent to `address`."""
    return BACKEND_MARK | (int(ipaddress.IPv4Address(address)) & BACKEND_MASK)


def route_table(node_number: int) -> int:
    """The routing table whose default leads back through a node."""
    return ROUTE_TABLE_BASE + node_number


def loopback_metric(interface: str) -> int:
    """Of the route for ::1 over a leg (facts.LoopbackRoute): later than the loopback's own, and another for each leg, since
    of two routes with one metric the second takes the place of the first."""
    if interface == INGRESS_LEG:
        return _AFTER_ALL
    return _AFTER_ALL + 1 + int.from_bytes(hashlib.sha256(interface.encode()).digest()[:4], "big") % (1 << 30)


def chain_name(prefix: str, identifier: str) -> str:
    """A chain's name from an id: nftables allows letters, digits and underscores."""
    return prefix + "_" + re.sub(r"[^0-9A-Za-z]", "_", identifier)
