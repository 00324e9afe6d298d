"""shoal-manager: the process. Serves the Local and Control services on a unix socket, and a Member while there is one.

Started by systemd when its socket is first used, or by hand. With state on the disk it goes on where it was; without, it
waits for `swarm init`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

# gRPC reads it when it is first imported: a refused TLS handshake is no news for the journal.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc.aio

from common import errors, logs, memory, rpc, sdnotify
from common.clock import Clock, SystemClock
from common.pb import backup_pb2, control_pb2, local_pb2
from manager import auth, identity
from manager.activation import Relay
from manager.backups import Backups
from manager.identity import Folder
from manager.local import NOT_MANAGER, Local
from manager.member import Member
from manager.raft.seal import Damaged, Locked, WrongKey
from manager.raft.service import REMOVED
from manager.settings import DEFAULT_FILE, Settings, load

log = logging.getLogger("manager")
RETRY: Final = 1.0
STOPPING: Final = "this manager is stopping"


class _Gate:
    """Control on the unix socket, which is there before any swarm is: passes calls on to the running member."""

    def __init__(self, host: Daemon) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any, caller: rpc.Caller) -> Any:
            member = self._host.member
            if member is None:
                raise errors.Unavailable(self._host.failure or NOT_MANAGER)
            return await getattr(member.control, name)(request, caller)

        return call


class Daemon:
    """The process's parts; `run` is its life."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._root = Path(settings.state)
        self._member: Member | None = None
        self._running: asyncio.Task[None] | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._unlock_key = b""
        self._starting = asyncio.Lock()
        self._stopping = False
        self.locked = False
        self.failure = ""

    @property
    def member(self) -> Member | None:
        return self._member

    @property
    def unlock_key(self) -> bytes:
        return self._member.keeper.unlock_key if self._member else self._unlock_key

    # ---- what Local asks for

    async def begin(self, folder: Folder, unlock_key: bytes = b"") -> None:
        """Starts a member; it lives in the daemon's own TaskGroup."""
        assert self._tasks is not None
        async with self._starting:
            if self._stopping:
                raise errors.Unavailable(STOPPING)
            member = Member(folder, self._clock, unlock_key or self._unlock_key)
            self._unlock_key, self.locked = unlock_key or self._unlock_key, False
            await member.open()
            self._member, self.locked, self.failure = member, False, ""
            self._running = self._tasks.create_task(self._live(member), name="member")
        await member.elected()
        sdnotify.status(f"node {member.membership.node_id}")

    async def _live(self, member: Member) -> None:
        """Runs a member to its end. One that comes by itself means that the others have removed it; a log that turned out
        to be damaged is shown as one that is found at the start."""
        reason = REMOVED
        try:
            await member.run()
        except* Damaged as group:
            reason = str(_leaf(group))
            log.critical("this manager stops: %s", reason)
        if self._member is member:
            self._unlock_key = self.unlock_key
            self._member, self.failure = None, reason
            sdnotify.status(reason)

    async def end(self) -> None:
        """Stops the member, or the attempts to start it."""
        going = [task for task in (self._running, self._retrying) if task is not None]
        self._unlock_key = self.unlock_key
        self._member = self._running = self._retrying = None
        # A daemon that stops has lost nothing: whoever asks now must not begin anew in place of what is on the disk.
        self.failure, self.locked = STOPPING if self._stopping else "", False
        # A task that was made in this turn has begun after it: `_live` then closes its member.
        await asyncio.sleep(0)
        for task in going:
            task.cancel()
        if going:
            await asyncio.wait(going)
        sdnotify.status("not part of a swarm")

    async def _end_for_good(self) -> None:
        """The same, and none starts any more, whatever a call that is still under way is about to do."""
        self._stopping = True
        await self.end()
        async with self._starting:
            await self.end()

    # ---- life

    async def run(self, stop: asyncio.Event, listener: socket.socket | None = None) -> None:
        """Serves until `stop`; raises when the member's storage fails."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await self._resume()
            path = self._settings.socket if listener is None else self._private_socket()
            async with self._local_server(path):
                background = [
                    tasks.create_task(_keep_alive(), name="watchdog"),
                    tasks.create_task(memory.keep_small(), name="memory"),
                ]
                if listener is not None:
                    background.append(tasks.create_task(Relay(listener, path).run(), name="relay"))
                sdnotify.ready("serving" if self._member else "not part of a swarm")
                memory.settle()
                await stop.wait()
                sdnotify.notify("STOPPING=1")
                for task in background:
                    task.cancel()
                await self._end_for_good()

    async def _resume(self) -> None:
        """Goes on with the state on the disk, if there is any."""
        folder = identity.current(self._root)
        if folder is not None:
            await self.resume(folder)

    async def resume(self, folder: Folder) -> None:
        """Starts the member whose state is in `folder`; what fails is reported, and tried again if it may pass."""
        if not await self._started(folder) and not self._stopping:
            assert self._tasks is not None
            self._retrying = self._tasks.create_task(self._retry(folder), name="retry")

    async def _started(self, folder: Folder) -> bool:
        """Whether the member runs, or never will: state that cannot be read is reported, not dropped."""
        try:
            await self.begin(folder)
        except (Locked, WrongKey):
            self.locked = True
            self._failed(errors.SWARM_LOCKED)
        except Damaged as exc:
            self._failed(str(exc))
        except (errors.ShoalError, OSError) as exc:
            self._failed(str(exc))
            return False
        else:
            self.failure = ""
        return True

    def _failed(self, reason: str) -> None:
        if reason != self.failure:
            self.failure = reason
            log.error("this manager cannot start: %s", reason)

    async def _retry(self, folder: Folder) -> None:
        """What may pass is tried again: a port that is still taken, an address that is not there yet."""
        while True:
            await asyncio.sleep(RETRY)
            if await self._started(folder):
                return
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # a failure on the way may have come in its place
                raise asyncio.CancelledError

    def _private_socket(self) -> str:
        folder = Path(self._settings.socket).with_suffix(".d")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        return str(folder / "grpc.sock")

    @asynccontextmanager
    async def _local_server(self, path: str) -> AsyncIterator[None]:
        server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
        local = Local(self, self._root, self._clock)
        services: tuple[tuple[Any, object], ...] = (
            (local_pb2.DESCRIPTOR.services_by_name["Local"], local),
            (
                backup_pb2.DESCRIPTOR.services_by_name["Backup"],
                Backups(self, self._root, self._clock, local.changing),
            ),
            (control_pb2.DESCRIPTOR.services_by_name["Control"], _Gate(self)),
        )
        server.add_generic_rpc_handlers(tuple(rpc.handler(d, i, auth.local) for d, i in services))
        _bind(server, Path(path))
        await server.start()
        try:
            yield
        finally:
            await server.stop(1.0)


def _bind(server: grpc.aio.Server, path: Path) -> None:
    """Only root may open the socket; one that a crash left behind is replaced."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    finally:
        os.umask(mask)


async def _keep_alive() -> None:
    """Tells systemd that the loop turns."""
    interval = sdnotify.watchdog_interval()
    while interval is not None:
        sdnotify.keep_alive()
        await asyncio.sleep(interval)


def _listener() -> socket.socket | None:
    """The socket that systemd handed over."""
    found = sdnotify.listen_fds().get("manager", [])
    return socket.socket(fileno=found[0]) if found else None


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group that is no group."""
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Daemon(settings, SystemClock()).run(stop, _listener())


def main() -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="shoal-manager", description="A manager of a swarm.")
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, help="settings file (%(default)s)")
    parser.add_argument("--state", help="folder of the manager's state")
    parser.add_argument("--socket", help="path of the unix socket")
    given = parser.parse_args()
    try:
        settings = load(given.config)
    except ValueError as exc:
        sys.exit(f"shoal-manager: {exc}")
    chosen = {key: value for key in ("state", "socket") if (value := getattr(given, key))}
    settings = replace(settings, **chosen)
    logs.configure(settings.log_level)
    try:
        asyncio.run(_serve(settings))
    except* OSError as group:
        log.critical("shoal-manager stops: %s", _leaf(group))
        sys.exit(1)
