"""Whether this kernel can send answers back through the node that a connection came from. Asked by ground.py at the start.

Tried out in a namespace that nobody else sees: a rule by a mark, a route in a table of its own, zones and marks of connections. Where
that fails (a kernel without CONFIG_IP_MULTIPLE_TABLES or CONFIG_NF_CONNTRACK_ZONES, a sandbox that forbids it), the managers are
told, and every node masquerades what its mesh sends to the tasks here.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.network import names, rules
from agent.network.kernel import KernelError, describe
from agent.network.rules import WayBack
from agent.network.thread import Namespaces

_LOOPBACK: Final = 1
_WAY: Final = WayBack("lo", "192.0.2.2", ((1, "192.0.2.1"),))


def missing(namespaces: Namespaces) -> str:
    """What is missing, in words; empty when all of it works. Network thread only."""
    table = names.route_table(1)
    try:
        with namespaces.scratch() as (route, nft):
            route.link("set", index=_LOOPBACK, state="up")
            route.route("replace", family=socket.AF_INET, dst="default", oif=_LOOPBACK, table=table)
            route.rule("add", table=table, fwmark=1, priority=names.RULE_PRIORITY)
            for text in (
                rules.task_table("", (), _WAY).text,
                rules.flows_table(_WAY.interface, _WAY.address).text,
            ):
                nft.run(text)
    except KernelError as error:
        # A machine that is short of something now is no machine that can't: a task there would say so itself.
        if isinstance(error, OSError | NetlinkError) and _number(error) in (
            errno.ENOMEM,
            errno.EMFILE,
            errno.ENOBUFS,
        ):
            return ""
        return describe(error)
    return ""


def _number(error: OSError | NetlinkError) -> int:
    return int(error.code if isinstance(error, NetlinkError) else error.errno or 0)
