"""A member of the gossip without any network, for those above it: notes what it is told, says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agent.gossip.api import Change, Event, MemberEvent, MemberView
from agent.gossip.messages import Address, State
from common import errors


class FakeMember:
    """agent/gossip/service.py's Member."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.on_event = on_event
        self.calls: list[tuple[object, ...]] = []
        self.failures: list[Exception] = []  # of the next starts
        self.running = False
        self.answers: dict[Address, str | None] = {}
        self.seen: dict[str, State] = {}
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(
        self, bind: str, advertise: str, port: int, name: str, meta: bytes, keys: Iterable[bytes]
    ) -> None:
        self.calls.append(("start", bind, advertise, port, name, tuple(keys)))
        if self.failures:
            raise self.failures.pop(0)
        self.running = True

    async def ended(self) -> None:
        await asyncio.shield(self._end)

    def fail(self, error: Exception) -> None:
        self._end.set_exception(error)

    async def join(self, addresses: Iterable[Address]) -> dict[Address, str | None]:
        wanted = tuple(addresses)
        self.calls.append(("join", *wanted))
        return {address: self.answers.get(address) for address in wanted}

    async def leave(self) -> None:
        self.calls.append(("leave",))
        if self.failures:
            raise self.failures.pop(0)

    async def set_keys(self, keys: Iterable[bytes]) -> None:
        self.calls.append(("keys", *keys))

    async def set_meta(self, meta: bytes) -> None:
        self.calls.append(("meta", meta))

    async def broadcast(self, subject: str, data: bytes) -> None:
        if not self.running:
            raise errors.Unavailable("gossip isn't started")
        self.calls.append(("broadcast", subject, data))

    async def set_user_state(self, state: bytes) -> None:
        self.calls.append(("state", state))

    def members(self) -> tuple[MemberView, ...]:
        return tuple(view(name, state) for name, state in self.seen.items())

    async def close(self) -> None:
        self.running = False
        self.calls.append(("close",))
        if not self._end.done():
            self._end.set_result(None)

    def says(self, change: Change, name: str, state: State) -> None:
        self.seen[name] = state
        self.on_event(MemberEvent(change, view(name, state)))


def view(name: str, state: State) -> MemberView:
    return MemberView(name, ("10.0.0.9", 7946), b"", state, 1)


class Factory:
    """Makes members and keeps them; `failures` are of the next ones' starts."""

    def __init__(self) -> None:
        self.made: list[FakeMember] = []
        self.failures: list[Exception] = []

    def __call__(self, on_event: Callable[[Event], None]) -> FakeMember:
        member = FakeMember(on_event)
        member.failures, self.failures = self.failures, []
        self.made.append(member)
        return member

    @property
    def member(self) -> FakeMember:
        return self.made[-1]

    @property
    def running(self) -> bool:
        return bool(self.made) and self.member.running
