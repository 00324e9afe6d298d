"""The gossip member of this node, as the agent's main loop sees it. agent/gossip/member.py is the thread behind it.

`GossipNode` is made, started once, and closed; all its methods belong to the main loop, where `on_event` is called too. After
`close` nothing of it is left: no thread, no socket, no task, whatever was under way. Who waits for an answer then gets
errors.Unavailable.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from agent.gossip.api import Config, Event, Identity, MemberView
from agent.gossip.keyring import Keyring
from agent.gossip.member import GossipThread
from agent.gossip.messages import Address
from agent.gossip.pipe import EventPipe
from common import errors

T = TypeVar("T")


class GossipNode:
    """start, join, leave, set_keys, members, close."""

    def __init__(self, on_event: Callable[[Event], None], config: Config | None = None) -> None:
        self._on_event = on_event
        self._config = config or Config()
        self._thread: threading.Thread | None = None
        self._member: GossipThread | None = None
        self._pipe: EventPipe | None = None

    async def start(
        self, bind: str, advertise: str, port: int, name: str, meta: bytes, keys: Iterable[bytes]
    ) -> None:
        """Binds UDP and TCP; OSError if that fails. Without keys gossip isn't sealed."""
        keyring = Keyring(keys) if (keys := tuple(keys)) else None
        self._pipe = EventPipe(asyncio.get_running_loop(), self._on_event)
        identity = Identity(name, advertise, port, meta)
        member = GossipThread(bind, identity, self._config, keyring, self._pipe)
        thread = threading.Thread(target=member.run, name="gossip", daemon=True)
        thread.start()
        self._member, self._thread = member, thread
        try:
            await asyncio.wrap_future(member.started)
        except BaseException:
            await self.close()
            raise

    async def ended(self) -> None:
        """Returns once the member has been closed; raises the fault that ended it before."""
        await asyncio.wrap_future(self._running().ended)

    async def join(self, addresses: Iterable[Address]) -> dict[Address, str | None]:
        """Exchanges states with each, at once; what went wrong by address, None where nothing did."""
        member, wanted = self._running(), tuple(addresses)
        answers = await self._do(lambda: member.join(wanted))
        return {address: await asyncio.wrap_future(answer) for address, answer in answers.items()}

    async def leave(self) -> None:
        """Says good-bye and waits until it has been told, a few seconds at most."""
        departed = await self._do(self._running().leave)
        await asyncio.wrap_future(departed)

    async def set_keys(self, keys: Iterable[bytes]) -> None:
        """The whole ring, the one to seal with first; KeyProblem if it can't be."""
        member, keyring = self._running(), Keyring(keys)
        await self._do(lambda: setattr(member.swim, "keyring", keyring))

    async def set_meta(self, meta: bytes) -> None:
        member = self._running()
        await self._do(lambda: member.swim.set_meta(member.now(), meta))

    async def set_user_state(self, state: bytes) -> None:
        """What others get with a push/pull from now on."""
        member = self._running()
        await self._do(lambda: setattr(member.swim, "user_state", state))

    async def broadcast(self, subject: str, data: bytes) -> None:
        """A user message to a few members; who gets it passes it on if it is news."""
        member = self._running()
        await self._do(lambda: member.swim.broadcast(member.now(), subject, data))

    def members(self) -> tuple[MemberView, ...]:
        """Everybody known, ourselves too, as of the last event."""
        return self._member.view if self._member else ()

    def malformed(self) -> int:
        """How many packets and streams were not what they should be."""
        return self._member.malformed_count if self._member else 0

    async def close(self) -> None:
        """Ends the thread, without a good-bye."""
        member, thread, self._member, self._thread = self._member, self._thread, None, None
        if member is None or thread is None:
            return
        if self._pipe:
            self._pipe.close()
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, _end, member, thread))

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._running().call(work))

    def _running(self) -> GossipThread:
        if self._member is None:
            raise errors.Unavailable("gossip isn't started")
        return self._member


def _end(member: GossipThread, thread: threading.Thread) -> None:
    member.stop()
    thread.join()
