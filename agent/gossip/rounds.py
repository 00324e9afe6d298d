"""What a member does from time to time beside probing: tell news, exchange states, knock at the lost. Pure; swim.py drives it.

News ride on every packet and go to three random members each 0.2 s while there are any. Every 30 s (longer in large
clusters) full states are exchanged with a random member. Failed members, or the seeds while we are alone, are knocked at every other
second, which heals partitions. Each of the three has a time only while there is work for it.
"""

from __future__ import annotations

import math
from typing import Final

from agent.gossip.api import Config, Randomness
from agent.gossip.membership import Member, Membership
from agent.gossip.messages import Address, Dead, Ping, State, encode
from agent.gossip.outbox import Outbox, Purpose

PUSH_PULL_SCALE: Final = 32  # members; beyond, states are exchanged less often
MAX_SEEDS: Final = 32


class Rounds:
    def __init__(self, config: Config, membership: Membership, random: Randomness, out: Outbox) -> None:
        self._config = config
        self._membership = membership
        self._random = random
        self._out = out
        self._seeds: list[Address] = []
        self._knock: tuple[int, Address] | None = None
        self._next_gossip: float | None = None
        self._next_push_pull: float | None = None
        self._next_reconnect: float | None = None
        self._syncs = 0

    # ---- time

    def next_deadline(self) -> float | None:
        times = (self._next_gossip, self._next_push_pull, self._next_reconnect)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        if self._next_gossip is not None and self._next_gossip <= now:
            self.gossip(now)
        if self._next_push_pull is not None and self._next_push_pull <= now:
            self._sync(now)
        if self._next_reconnect is not None and self._next_reconnect <= now:
            self._reconnect(now)

    def arm(self, now: float) -> None:
        """Timers run only while there is work for them."""
        company = self._membership.living > 1
        if not (self._out.news or self._out.user_news):
            self._next_gossip = None
        elif self._next_gossip is None:
            self._next_gossip = now + self._config.gossip_interval * self._random.random()
        if not company or self._membership.left:
            self._next_push_pull, self._syncs = None, 0
        elif self._next_push_pull is None:
            self._next_push_pull = now + self._push_pull_wait()
        if self._membership.left or not (self._failed() or (self._seeds and not company)):
            self._next_reconnect = None
        elif self._next_reconnect is None:
            self._next_reconnect = now + self._config.reconnect_interval * (0.5 + self._random.random() / 2)

    # ---- what swim.py says

    def seed(self, address: Address) -> None:
        """One to ask while we are alone."""
        if address not in self._seeds:
            self._seeds = [*self._seeds, address][-MAX_SEEDS:]

    def sync_at(self, time: float) -> None:
        self._next_push_pull = time

    def sync_soon(self, now: float) -> None:
        """After a cut has healed: a few of the many refutations may have missed us. In a large cluster it would be too much."""
        if self._next_push_pull is not None and self._membership.living <= PUSH_PULL_SCALE:
            soon = now + self._config.first_push_pull * (0.5 + self._random.random())
            self._next_push_pull = min(self._next_push_pull, soon)

    def knocked(self, seq: int) -> Address | None:
        """Whom an ack of this number comes from, if it answers a knock."""
        if self._knock is None or seq != self._knock[0]:
            return None
        _, address = self._knock
        self._knock = None
        return address

    # ---- the work

    def gossip(self, now: float) -> None:
        """News to a few random members, those that failed lately among them: they may be alive and want to refute."""
        recent = self._config.gossip_to_dead
        targets = [
            member
            for member in self._membership.others()
            if member.living or (member.state is State.DEAD and now - member.changed < recent)
        ]
        if not targets:
            self._out.news.clear()
            self._out.user_news.clear()
        for member in self._random.sample(targets, min(self._config.gossip_nodes, len(targets))):
            self._out.send_news(member)
        self._next_gossip = now + self._config.gossip_interval

    def _push_pull_wait(self) -> float:
        """A young member asks early: news of others that joined with it may have been told before it was known."""
        living = self._membership.living
        wait = min(self._config.push_pull_interval, self._config.first_push_pull * 4.0 ** min(self._syncs, 8))
        if living > PUSH_PULL_SCALE:
            wait *= math.ceil(math.log2(living) - math.log2(PUSH_PULL_SCALE)) + 1
        return wait * (0.5 + self._random.random())

    def _sync(self, now: float) -> None:
        self._membership.forget(now)
        alive = [member for member in self._membership.others() if member.state is State.ALIVE]
        if alive:
            self._out.push_pull(self._random.sample(alive, 1)[0].address, Purpose.SYNC)
        self._syncs += 1
        self._next_push_pull = now + self._push_pull_wait()

    def _failed(self) -> list[Member]:
        if self._membership.living == len(self._membership.members):
            return []
        return [member for member in self._membership.others() if member.state is State.DEAD]

    def _reconnect(self, now: float) -> None:
        """Knocks at a failed member, as rarely as there are many others to do it, or asks a seed while we are alone.

        The knock carries the verdict, so that the member can refute with its ack; the ack leads to an exchange of states.
        """
        self._next_reconnect = now + self._config.reconnect_interval
        failed, living = self._failed(), self._membership.living
        if living <= 1 and self._seeds and (not failed or self._random.random() < 0.5):
            self._out.push_pull(self._random.sample(self._seeds, 1)[0], Purpose.SYNC)
        elif failed and self._random.random() * living < len(failed):
            member, me = self._random.sample(failed, 1)[0], self._membership.me
            seq = self._out.next_seq()
            self._knock = (seq, member.address)
            verdict = encode(Dead(member.incarnation, member.name, me.name))
            ping = encode(Ping(seq, member.name, me.addr, me.port, me.name))
            self._out.send(member.address, ping, verdict)
