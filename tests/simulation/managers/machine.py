"""One machine: a disk, a clock, a manager's daemon that starts, stops, is killed or stands still, and what its agent holds.

The daemon is the real one from Daemon and Local inwards; only what it does for systemd and the unix socket is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc.aio

from agent.identity import Identity
from common import errors, model, pki, rpc, tokens
from common.model.stubs import CAStub
from common.rpc import Caller
from manager import daemon as daemon_module
from manager.backups import Backups
from manager.daemon import Daemon
from manager.local import Local
from manager.member import Member
from manager.settings import Settings
from tests.simulation.managers.disk import DiskTime
from tests.simulation.managers.loop import PROCESS, Process
from tests.simulation.managers.wires import Channel, Shown
from tests.simulation.virtual import VirtualClock

if TYPE_CHECKING:
    from tests.simulation.managers.room import Room

LOCAL = Caller(frozenset({model.Role.ROLE_LOCAL, model.Role.ROLE_MANAGER}))
PORT = 2377


class Unanswered(Exception):
    """No answer came in time; what was asked for may happen yet."""


class Machine:
    """See the module's text."""

    def __init__(self, room: Room, number: int) -> None:
        self.room = room
        self.number = number
        self.ip = f"10.0.0.{number}"
        self.addr = f"{self.ip}:{PORT}"
        self.hostname = f"machine{number}"
        self.root = room.path / self.hostname
        self.root.mkdir()
        self.clock = VirtualClock()
        self.disk = DiskTime(self.root, room.rng)
        self.process: Process | None = None
        self.daemon: Daemon | None = None
        self.local: Local | None = None
        self.lives: list[tuple[Process, asyncio.Task[None]]] = []
        self.up = asyncio.Event()
        self.off = False
        # What its agent holds.
        self.key, self.certificate, self.node_id, self.cluster_id = b"", b"", "", ""

    def __repr__(self) -> str:
        return f"<{self.hostname}>"

    # ---- what it is

    @property
    def running(self) -> bool:
        """Whether its manager's process is there, stopped or not."""
        return self.process is not None

    @property
    def paused(self) -> bool:
        """Whether that process stands still."""
        return self.process is not None and self.process.halted

    @property
    def found(self) -> Member | None:
        """The member that runs, if there is one."""
        return self.daemon.member if self.daemon is not None and self.process is not None else None

    @property
    def member(self) -> Member:
        """The member that runs."""
        found = self.found
        assert found is not None, f"{self.hostname} is no manager"
        return found

    @property
    def leads(self) -> bool:
        """Whether its manager thinks that it leads."""
        return self.found is not None and self.member.consensus.leader

    # ---- power

    def start(self) -> None:
        """The daemon's process starts."""
        assert self.process is None
        self.off = False
        self.room.network.off.discard(self.ip)
        self.up = asyncio.Event()
        process = self.process = Process(self.ip, self._in_thread)
        task = self.room.loop.create_task(self._live(process), context=process.context)
        self.lives.append((process, task))
        self.room.network.reconsider()

    async def _live(self, process: Process) -> None:
        daemon = self.daemon = Daemon(Settings(state=str(self.root)), self.clock)
        try:
            async with asyncio.TaskGroup() as tasks:
                daemon._tasks = tasks
                self.local = Local(daemon, self.root, self.clock)
                await daemon._resume()
                self.up.set()
                await asyncio.Event().wait()
        except* OSError as group:
            if not process.killed:
                self.room.say(f"{self.hostname}: the daemon ends: {group.exceptions}")
                self.room.loop.call_soon(self._ended, process, context=self.room.context)

    def _ended(self, process: Process) -> None:
        """The process has ended by itself; systemd starts it again."""
        if self.process is process:
            self._gone(process, silent=False)
            self.room.loop.call_at(self.room.loop.now + 1.0, self.restart, context=self.room.context)

    def restart(self) -> None:
        """Starts, if it isn't running and has power."""
        if self.process is None and not self.off:
            self.start()

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.room.loop.halt(self.process)
            self._gone(self.process, silent=False)

    def power_cut(self) -> None:
        """The machine is off: nobody even tells the others that the process is gone."""
        self.off = True
        self.room.network.off.add(self.ip)
        self.room.network.reconsider()
        if self.process is not None:
            self.room.loop.halt(self.process)
            self._gone(self.process, silent=True)

    def _gone(self, process: Process, *, silent: bool) -> None:
        process.kill()
        self.process = None
        self.disk.crash()
        self.room.network.killed(process, silent=silent)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None and not self.process.halted:
            self.room.loop.halt(self.process)
            self.room.network.reconsider()

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None and self.process.halted:
            self.room.loop.proceed(self.process)
            self.room.network.reconsider()

    async def _in_thread(self, executor: Any, call: Callable[[], Any]) -> Any:
        process = PROCESS.get()
        if process is not None and process.killed:  # only when all is over
            if getattr(call, "__name__", "") == "close":
                return call()
            raise OSError("this process is gone")
        if getattr(executor, "_thread_name_prefix", "") == "disk":
            return await self.disk.run(call)
        await asyncio.sleep(0.0005)
        return call()

    # ---- what its users and its agent do

    async def do(self, work: Callable[[], Awaitable[Any]], patience: float = 30.0) -> Any:
        """Runs something in the manager's process; raises Unanswered."""
        process = self.process
        if process is None:
            raise errors.Unavailable("the manager's socket refuses connections")

        async def working() -> Any:
            return await work()

        task = self.room.loop.create_task(working(), context=process.context)
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        gone = self.room.loop.create_task(process.gone.wait())
        await asyncio.wait({task, gone}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not task.done():
            if not process.killed:
                task.cancel()
            raise Unanswered
        if task.cancelled() or process.killed:  # one that ended by itself meanwhile has not answered either
            raise Unanswered
        return task.result()

    async def control(self, method: str, request: Any, patience: float = 30.0) -> Any:
        """A call of Control on the unix socket, as the machine's agent makes it."""
        gate = daemon_module._Gate(self.daemon)  # type: ignore[arg-type]
        return await self.do(lambda: getattr(gate, method)(request, LOCAL), patience)

    async def init(self) -> None:
        """`swarm init`."""
        key = pki.new_key()
        request = model.InitRequest(
            listen_addr=self.addr, advertise_addr=self.addr, csr=pki.create_csr(key), hostname=self.hostname,
            machine=self.hostname, routes=("0.0.0.0/0", "10.0.0.0/24"),
        )  # fmt: skip
        reply = await self.ask_local("init", request, 30.0)
        self._papers(key, reply)

    def _papers(self, key: pki.Key, reply: Any) -> None:
        self.key, self.certificate = pki.key_pem(key), reply.certificate
        self.node_id, self.cluster_id = reply.node_id, reply.cluster_id

    async def enlist(self, through: Machine, role: model.NodeRole) -> None:
        """The agent's part of `swarm join`: a node of its own."""
        root = through.member.store.view().cluster.root_ca
        text = root.join_tokens.manager if role is model.NodeRole.MANAGER else root.join_tokens.worker
        token = tokens.parse(text)
        key = pki.new_key()
        chain = pki.issue_joiner(pki.join_authority(token.secret, role, token.digest), key)
        request = model.IssueRequest(pki.create_csr(key), self.hostname, self.hostname, addr=self.ip)

        async def issue() -> Any:
            async with Channel(self.room.network, through.addr, Shown(chain)) as channel:
                try:
                    return await CAStub(channel).Issue(request, timeout=20)  # type: ignore[arg-type]
                except grpc.aio.AioRpcError as exc:
                    raise rpc.error_from(exc) from exc

        self._papers(key, await self.do(issue))

    def identity(self) -> Identity:
        """What the agent keeps of itself."""
        return Identity(
            self.node_id, self.cluster_id, self.key.decode(), self.certificate.decode(), "", self.hostname, self.ip,
            manager=self.found is not None, listen_addr=self.addr,
        )  # fmt: skip

    async def ask_local(self, method: str, request: Any, patience: float) -> Any:
        """A call of Local on the unix socket; one that isn't there yet is waited for."""
        deadline = self.room.loop.now + patience
        while self.process is None or not self.up.is_set():
            if self.room.loop.now > deadline:
                raise Unanswered
            await asyncio.sleep(0.2)
        local = self.local
        return await self.do(lambda: getattr(local, method)(request, LOCAL), patience)

    async def leave(self, *, force: bool = False, demoted: bool = False) -> None:
        """Local.Leave."""
        await self.ask_local("leave", model.LeaveRequest(force, demoted), 60.0)

    async def force_new_cluster(self) -> None:
        """`swarm init --force-new-cluster`."""
        request = model.InitRequest(listen_addr=self.addr, advertise_addr=self.addr, force_new_cluster=True)
        await self.ask_local("init", request, 30.0)

    def _backups(self) -> Backups:
        assert self.daemon is not None and self.local is not None
        return Backups(self.daemon, self.root, self.clock, self.local.changing)

    async def backup(self) -> bytes:
        """`swarm backup`: the file."""

        async def saved() -> bytes:
            chunks = self._backups().save(model.BackupRequest(), LOCAL)
            return b"".join([chunk.data async for chunk in chunks])

        data: bytes = await self.do(saved)
        return data

    async def restore(self, data: bytes) -> None:
        """`swarm restore --force`, with what the agent does of it."""
        key = pki.new_key()
        first = model.RestoreRequest(
            force=True, listen_addr=self.addr, advertise_addr=self.addr, csr=pki.create_csr(key),
            hostname=self.hostname, machine=self.hostname, routes=("0.0.0.0/0", "10.0.0.0/24"),
        )  # fmt: skip

        async def requests() -> AsyncIterator[model.RestoreRequest]:
            yield first
            for start in range(0, len(data), 1000):
                yield model.RestoreRequest(data=data[start : start + 1000])

        async def restored() -> model.RestoreReply:
            return await anext(aiter(self._backups().restore(requests(), LOCAL)))

        self._papers(key, await self.do(restored))
