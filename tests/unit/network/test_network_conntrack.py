"""The table of connections is opened often, in every namespace: nothing may be left open."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from agent.network.conntrack import Conntrack

NETFILTER = 12  # protocol of netlink


def held() -> int:
    """This process's sockets of that kind."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and os.readlink(entry).startswith("socket:"):
            with socket.socket(fileno=os.dup(int(entry.name))) as found:
                count += (found.family, found.proto) == (socket.AF_NETLINK, NETFILTER)
    return count


def test_what_was_opened_is_closed_used_or_not() -> None:
    before = held()
    opened = Conntrack()
    assert held() == before + 2
    opened.close()
    assert held() == before
