"""Moves the kernel to the plan: carries out the difference, keeps a picture of what it has done. Network thread only.

manager.py sends plans. A failure concerns the namespace it happened in: its picture is thrown away, the others go on,
and the next move reads it afresh and tries again.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.network import events, names
from agent.network.facts import (
    Change,
    DefaultRoute,
    Facts,
    KernelView,
    Namespace,
    after,
    difference,
    held_back,
    is_guard,
    sealed_tunnels,
    shown,
)
from agent.network.making import Maker
from agent.network.nft import NftError
from agent.network.reader import Reader
from agent.network.thread import THREAD_NAME, Namespaces
from agent.network.watch import Watch
from agent.network.xfrm import missing_module

KernelError = (OSError, NetlinkError, NftError)

_SOCKETS: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_SHOWN: Final = 3  # changes that a log message names


def describe(error: BaseException) -> str:
    """A cause in words."""
    if isinstance(error, NetlinkError):
        return os.strerror(error.code) if 0 < error.code < 200 else str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    return str(error)


def described_with_step(error: BaseException) -> str:
    """A cause in words, and at which step it came: for the log."""
    return "; ".join([describe(error), *getattr(error, "__notes__", ())])


class Kernel:
    """The kernel as far as it is ours."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self.reader = Reader(namespaces)
        self.watch = Watch(namespaces)
        self._view: dict[str, Facts] = {}
        self._suspect: set[str] = set()  # somebody else was there: tables are looked into
        self._maker = Maker(namespaces, self.watch)
        self.changes = 0  # made since the start; a move that finds nothing to do adds none
        self.latest: deque[Change] = deque(maxlen=_SHOWN)  # of them

    def forget(self, scope: Iterable[str]) -> None:
        """The next move reads these namespaces afresh."""
        for name in scope:
            self._view.pop(name, None)

    def look(self) -> Mapping[str, str]:
        """Namespaces that somebody else has changed since the last look, with what is gone there: the next move reads
        them afresh."""
        heard = self.watch.drain()
        if heard is None:
            drifted = dict.fromkeys(self._view, "more than the kernel could tell")
        else:
            first = {
                name: events.contradicts(self._view.get(name, frozenset()), found, THREAD_NAME)
                for name, found in heard.items()
            }
            drifted = {name: events.told(event) for name, event in first.items() if event is not None}
        self._suspect.update(drifted)
        self.forget(drifted)
        return drifted

    def sandboxes(self) -> frozenset[str]:
        """Namespaces of networks that exist."""
        return frozenset(name for name in self._namespaces.existing() if names.is_sandbox(name))

    def tasks(self) -> Mapping[str, frozenset[str]]:
        """Tasks whose namespaces exist, with their addresses."""
        existing = self._namespaces.existing()
        tasks = ((names.task_of(name), name) for name in existing)
        return {task: self.reader.addresses(name) for task, name in tasks if task is not None}

    def move(self, desired: KernelView, scope: Iterable[str]) -> dict[str, Exception]:
        """Makes each namespace of `scope` what `desired` says (nothing: it goes); what failed, by namespace."""
        scope = sorted(set(scope))
        failed: dict[str, Exception] = {}
        self._maker.begin()
        desired, held = self._guarded(desired, scope, failed)
        for _ in range(3):  # again for a tunnel that had to be made anew, or a leg that went with its sandbox
            changes = self._plan(desired, [name for name in scope if name not in failed], failed)
            if not changes:
                break
            self._carry_out(changes, failed)
        return held | failed

    def _guarded(
        self, desired: KernelView, scope: Iterable[str], failed: dict[str, Exception]
    ) -> tuple[KernelView, dict[str, Exception]]:
        """What keeps plain text in stands before any tunnel that needs it. Where it can't be made, these tunnels are not made
        either, and go where they stand; where it can't be read, they stay as they are. Why, by namespace."""
        tunnels = sealed_tunnels(desired) & set(scope)
        if not tunnels:
            return desired, {}
        unread: dict[str, Exception] = {}
        unmade: dict[str, Exception] = {}
        missing = self._plan(desired, [names.HOST], unread)
        self._carry_out([c for c in missing if is_guard(c.fact) and not c.remove], unmade)
        failed.update({name: unread[names.HOST] for name in tunnels if unread})
        held = {name: unmade[names.HOST] for name in tunnels if unmade}
        return held_back(desired) if held else desired, held

    def flush(self, scope: Iterable[str], marks: frozenset[int], mask: int = names.BACKEND_MASK) -> None:
        """Lets conntrack forget connections to backends that are gone; a namespace that went away has none."""
        for name in scope:
            if name == names.HOST or name in self._namespaces.existing():
                with self._namespaces.conntrack(name) as conntrack:
                    for mark in marks:
                        conntrack.flush(mark, mask)

    def busy_port(self, ports: Iterable[tuple[str, int]], address: str = "0.0.0.0") -> tuple[str, int] | None:
        """The first of these ports of the host that a process of the machine listens on: rules would go before it."""
        for protocol, port in ports:
            kind = _SOCKETS.get(protocol)
            if kind is None:
                continue
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, kind) as tried:
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind is socket.SOCK_STREAM))
                try:
                    tried.bind((address, port))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                    return protocol, port
        return None

    def forget_datagrams(self, flows: Iterable[tuple[int, int]]) -> int:
        """Lets conntrack forget what comes to a UDP port of the host and has this mark, of each (port, mark); how many."""
        with self._namespaces.conntrack(names.HOST) as conntrack:
            return sum(conntrack.forget_datagrams(port, mark) for port, mark in flows)

    def missing_for_seals(self) -> str:
        """The kernel's module that encrypted networks need and that isn't there; empty when they work."""
        missing = missing_module()
        if not missing:
            self.watch.hear_ipsec()
        return missing

    def unplug(self, namespace: str, interface: str) -> None:
        """Takes a leg out of a container's namespace: what a container has otherwise stays its own."""
        self._maker.begin()
        if namespace in self._namespaces.existing():
            self._maker.drop_link(namespace, interface)
        self.forget([namespace])

    def lead_out(self, namespace: str, gateway: str, interface: str) -> None:
        """The default route of a container that runs, in the place of the one it has."""
        self._maker.begin()
        self._maker.make(namespace, DefaultRoute(gateway, interface), frozenset())
        self.forget([namespace])

    def _plan(
        self, desired: KernelView, scope: Iterable[str], failed: dict[str, Exception]
    ) -> tuple[Change, ...]:
        actual: dict[str, Facts] = {}
        wanted: dict[str, Facts] = {}
        for name in scope:
            wanted[name] = desired.get(name, frozenset())
            try:
                if name not in self._view:
                    self._view[name] = self.reader.read(name, wanted[name], name in self._suspect)
                    self._suspect.discard(name)
                actual[name] = self._view[name]
            except KernelError as error:
                failed[name] = error
                del wanted[name]
        return difference(actual, wanted)

    def _carry_out(self, changes: Iterable[Change], failed: dict[str, Exception]) -> None:
        for change in changes:
            if change.namespace in failed:
                continue
            if change.remove and is_guard(change.fact) and any(map(names.is_sandbox, failed)):
                continue  # a tunnel may stand that could not be taken away
            try:
                lost = self._change(change)
            except KernelError as error:
                error.add_note(f"not {shown(change)}")
                failed[change.namespace] = error
                self._view.pop(change.namespace, None)
                continue
            self.changes += 1
            self.latest.append(change)
            if change.namespace in self._view:
                current = {change.namespace: self._view.pop(change.namespace) - lost}
                self._view.update(after(current, (change,)))

    def _change(self, change: Change) -> Facts:
        """Answers with what has gone by it of the same namespace."""
        if change.remove:
            if isinstance(change.fact, Namespace) and self._maker.free_ingress_leg(change.namespace):
                self.forget([names.HOST])
            self._maker.remove(change.namespace, change.fact)
            return frozenset()
        standing = self._view.get(change.namespace, frozenset())
        return self._maker.make(change.namespace, change.fact, standing)
