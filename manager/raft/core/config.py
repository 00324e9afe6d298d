"""The settings of one member. Time is counted in ticks, sizes in bytes, and chance is a parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from manager.raft.core.messages import NO_LIMIT, NOBODY


class ReadOnlyOption(IntEnum):
    """How a leader makes sure that it still is one before it answers a read.

    SAFE asks a quorum. LEASE_BASED trusts its ticks, which lie when a process is paused: Shoal never uses it.
    """

    SAFE = 0
    LEASE_BASED = 1


@dataclass(frozen=True, slots=True)
class Config:
    """How one member behaves; raises ValueError when it can't."""

    id: int
    election_tick: int
    heartbeat_tick: int
    random: Callable[[int], int]
    """random(n) is a number of 0 <= number < n; election timeouts are election_tick + random(election_tick)."""
    applied: int = 0
    """What the application holds at the start; 0 means only the snapshot."""
    max_size_per_msg: int = NO_LIMIT
    max_committed_size_per_ready: int = 0
    """0 means as max_size_per_msg."""
    max_uncommitted_entries_size: int = 0
    """0 means no limit; a leader refuses proposals above it."""
    max_inflight_msgs: int = 256
    max_inflight_bytes: int = 0
    """0 means no limit."""
    check_quorum: bool = False
    pre_vote: bool = False
    read_only_option: ReadOnlyOption = ReadOnlyOption.SAFE
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    step_down_on_removal: bool = False
    log: Callable[[str], None] | None = None
    """Told in one sentence what happened to leadership and membership."""

    def __post_init__(self) -> None:
        if self.id == NOBODY:
            raise ValueError("a member's id can't be 0")
        if self.heartbeat_tick <= 0:
            raise ValueError("heartbeat_tick must be more than 0")
        if self.election_tick <= self.heartbeat_tick:
            raise ValueError("election_tick must be more than heartbeat_tick")
        if self.max_inflight_msgs <= 0:
            raise ValueError("max_inflight_msgs must be more than 0")
        if 0 < self.max_inflight_bytes < self.max_size_per_msg:
            raise ValueError("max_inflight_bytes must not be less than max_size_per_msg")
        if self.read_only_option == ReadOnlyOption.LEASE_BASED and not self.check_quorum:
            raise ValueError("reads by lease need check_quorum")
