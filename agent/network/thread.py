"""The one thread that changes namespaces: setns, netlink and nftables live here and nowhere else.

kernel.py runs in it; manager.py sends it work. Nothing forks (fork with gRPC's threads around is a hazard), nothing
starts another thread from inside a foreign namespace (it would inherit it), and the main thread never moves.
A socket made while inside a namespace stays there for ever and can be used from anywhere.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from pyroute2 import IPRoute

from agent.network import names, nft
from agent.network.conntrack import Conntrack

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
THREAD_NAME: Final = "shoal-net"  # to the kernel: nftables says who has changed something by this name
_PR_SET_NAME: Final = 15
_KEPT: Final = 8  # open netlink sockets: whoever holds one may ask for three more
_KEPT_TABLES: Final = (
    1  # contexts of nftables: one holds half a megabyte or more, is made in 0.1 ms and used at once
)

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _name_thread() -> None:
    _check(_libc().prctl(_PR_SET_NAME, THREAD_NAME.encode(), 0, 0, 0), "prctl")


class _Netlink:
    """An IPRoute that can be kept in a cache."""

    def __init__(self) -> None:
        # SOCK_DGRAM: pyroute2 runs it as an asyncio datagram endpoint, which refuses SOCK_RAW.
        fd = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0).detach()
        self.route: IPRoute = IPRoute(fileno=fd)

    def free(self) -> None:
        self.route.close()


class Namespaces:
    """Namespaces by name, below one folder; to be used in the network thread only. "" is the agent's own."""

    def __init__(self, folder: Path, defer: Callable[[Callable[[], None]], None]) -> None:
        self.folder = folder
        self._libc = _libc()
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._defer = defer
        self._routes: OrderedDict[str, _Netlink] = OrderedDict()
        self._tables: OrderedDict[str, nft.Context] = OrderedDict()
        self._held: nft.Context | None = None

    def close(self) -> None:
        """Lets go of every descriptor; the namespaces stay."""
        for name in {*self._routes, *self._tables}:
            self._forget(name)
        self.let_go()
        os.close(self._home)

    def path(self, name: str) -> Path:
        """Where a namespace is bound."""
        return self.folder / name

    def clean(self) -> None:
        """Removes what a reboot left in the folder: plain files that are no namespaces."""
        if not self.folder.exists():
            return
        own = self.folder.stat().st_dev
        for entry in os.scandir(self.folder):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_dev == own:
                os.unlink(entry.path)

    def existing(self) -> frozenset[str]:
        """All namespaces of ours."""
        if not self.folder.exists():
            return frozenset()
        own = self.folder.stat().st_dev
        return frozenset(e.name for e in os.scandir(self.folder) if e.stat().st_dev != own)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Runs its block in a namespace."""
        if name == names.HOST:
            yield
            return
        fd = self.open(name)
        try:
            _check(self._libc.setns(fd, _CLONE_NEWNET), name)
            try:
                yield
            finally:
                self._go_home()
        finally:
            os.close(fd)

    def open(self, name: str) -> int:
        """A descriptor of a namespace; the caller closes it."""
        return os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)

    def create(self, name: str) -> None:
        """Makes a namespace and binds it to its file; one that exists is left as it is."""
        path = self.path(name)
        if name in self.existing():
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        with open(path, "wb"):  # the file it is bound to; may be left over
            pass
        _check(self._libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            source, target = b"/proc/thread-self/ns/net", os.fsencode(path)
            _check(self._libc.mount(source, target, None, _MS_BIND, None), str(path))
        finally:
            self._go_home()

    @contextmanager
    def scratch(self) -> Iterator[tuple[IPRoute, nft.Context]]:
        """A namespace without a name, for the length of the block: its netlink, its nftables."""
        _check(self._libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            route, table = _Netlink(), nft.Context()
        finally:
            self._go_home()
        try:
            yield route.route, table
        finally:
            route.free()
            self._release(table)

    def delete(self, name: str) -> None:
        """Takes a namespace's file away; the kernel frees it when nobody uses it any more."""
        self._forget(name)
        path = self.path(name)
        if self._libc.umount2(os.fsencode(path), _MNT_DETACH) and ctypes.get_errno() != errno.EINVAL:
            _check(1, str(path))
        path.unlink(missing_ok=True)

    def remove_folder(self) -> None:
        """When nothing of ours is left."""
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def route(self, name: str) -> IPRoute:
        """Netlink's routing family in a namespace."""
        return self._kept(self._routes, name, _Netlink, _KEPT).route

    def table(self, name: str) -> nft.Context:
        """nftables in a namespace."""
        return self._kept(self._tables, name, nft.Context, _KEPT_TABLES)

    def held(self) -> nft.Context:
        """nftables in the agent's own namespace, kept: tables that it owns are nobody else's, and stand as long as it does."""
        if self._held is None:
            self._held = nft.Context()
        return self._held

    def let_go(self, table: str = "") -> None:
        """It owns nothing any more; a table that is named goes now and not when the kernel gets to it."""
        held, self._held = self._held, None
        if held is not None:
            if table:
                held.run(f"table {table} {{ flags owner; }}\ndelete table {table}")
            self._release(held)

    @contextmanager
    def conntrack(self, name: str) -> Iterator[Conntrack]:
        """A namespace's connections, for the length of the block."""
        with self.inside(name):
            opened = Conntrack()
        try:
            yield opened
        finally:
            opened.close()

    def _kept(self, cache: OrderedDict[str, C], name: str, make: Callable[[], C], most: int) -> C:
        if name not in cache:
            with self.inside(name):
                cache[name] = make()
            if len(cache) > most:
                self._release(cache.popitem(last=False)[1])
        cache.move_to_end(name)
        return cache[name]

    def _forget(self, name: str) -> None:
        for item in (self._routes.pop(name, None), self._tables.pop(name, None)):
            if item is not None:
                self._release(item)

    def _release(self, item: Any) -> None:
        """Netlink is closed at once; nftables' context waits for the kernel, so elsewhere."""
        if isinstance(item, nft.Context):
            self._defer(item.free)
        else:
            item.free()

    def _go_home(self) -> None:
        _check(self._libc.setns(self._home, _CLONE_NEWNET), "home")


class NetThread:
    """Starts the thread, and a second one that only frees what takes its time."""

    def __init__(self, folder: Path) -> None:
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="net-closer")
        self._closer.submit(int).result()  # born at home, before anything is entered
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="net", initializer=_name_thread)
        self.namespaces: Namespaces = self._pool.submit(Namespaces, folder, self._free_later).result()

    def _free_later(self, free: Callable[[], None]) -> None:
        self._closer.submit(free)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` in the thread, after everything sent before."""
        future = self._pool.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Waits for what is running and ends both threads."""
        self._pool.submit(self.namespaces.close).result()
        self._pool.shutdown()
        self._closer.shutdown()
