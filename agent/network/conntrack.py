"""The kernel's table of connections in one namespace: what is to be forgotten of it. Opened by thread.py.

A NAT rule decides for the first packet of a connection; the table remembers for the others. TCP's end with their server.
A UDP client goes on sending, and with every datagram the kernel remembers longer: so what leads nowhere is taken out.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import nfctsocket as nfct

from agent.network import names

_NETLINK_NETFILTER: Final = 12


class Conntrack:
    """Bound to the namespace that the calling thread is in when it is made."""

    def __init__(self) -> None:
        self._sockets: dict[int, Any] = {}
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                self._sockets[family] = _opened(family)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the sockets."""
        for each in self._sockets.values():
            each.close()

    def flush(self, mark: int, mask: int) -> None:
        """Forgets every connection with this mark, as far as the mask looks; the kernel finds those of both families itself."""
        list(self._sockets[socket.AF_INET].flush(mark=mark, mark_mask=mask))

    def forget_datagrams(self, port: int, mark: int) -> int:
        """Forgets the UDP flows to a port that have this mark (0: that no rule has taken); how many there were."""
        return sum(self._forget_datagrams(family, port, mark) for family in self._sockets)

    def _forget_datagrams(self, family: int, port: int, mark: int) -> int:
        wanted = nfct.NFCTAttrTuple(family, proto=socket.IPPROTO_UDP, dport=port)
        wanted.attrs()  # which sets its flags
        request = nfct.nfct_msg.create_from(
            tuple_orig=wanted, cta_filter={"attrs": [["CTA_FILTER_ORIG_FLAGS", wanted.flags]]},
            mark=mark, mark_mask=names.DATAGRAMS_MASK if mark else names.BACKEND_MARK,
        )  # fmt: skip
        count = 0
        for message in self._sockets[family].request(
            request, nfct.IPCTNL_MSG_CT_GET, msg_flags=NLM_F_REQUEST | NLM_F_DUMP
        ):
            flow, answers = (
                nfct.NFCTAttrTuple.from_netlink(family, message.get_attr(name))
                for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY")
            )
            if not mark and answers.reverse() != flow:
                continue  # somebody else's rule has
            count += 1
            try:
                self._sockets[family].entry("del", tuple_orig=flow)
            except NetlinkError as error:
                if error.code != errno.ENOENT:  # it has ended by itself
                    raise
        return count


def _opened(family: int) -> Any:
    """pyroute2 takes a descriptor over when it first needs one: it is made to at once, or one that is never used would stay open,
    and its namespace with it, for as long as the agent runs."""
    flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    fd = socket.socket(socket.AF_NETLINK, flags, _NETLINK_NETFILTER).detach()
    made = nfct.NFCTSocket(nfgen_family=family, fileno=fd)
    _ = made.asyncore.socket
    return made
