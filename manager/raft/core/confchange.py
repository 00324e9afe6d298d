"""How a membership becomes another one: by one voter at a time, or through a joint state. Used by raft.py.

Nothing is changed in place: each step gives a new configuration and a new map of progress, checked, or raises
ConfChangeRefused.
"""

from __future__ import annotations

from collections.abc import Iterable

from manager.raft.core.errors import ConfChangeRefused
from manager.raft.core.messages import NOBODY, ConfChangeSingle, ConfChangeType, ConfState
from manager.raft.core.progress import Progress, ProgressMap, ProgressTracker, TrackerConfig
from manager.raft.core.quorum import JointConfig

Membership = tuple[TrackerConfig, ProgressMap]


class _Draft:
    """A membership under construction."""

    __slots__ = ("auto_leave", "incoming", "learners", "learners_next", "outgoing", "progress")

    def __init__(self, config: TrackerConfig, progress: ProgressMap) -> None:
        self.incoming = set(config.voters.incoming)
        self.outgoing = set(config.voters.outgoing)
        self.learners = set(config.learners)
        self.learners_next = set(config.learners_next)
        self.auto_leave = config.auto_leave
        self.progress = {id_: pr.clone() for id_, pr in progress.items()}

    def finish(self) -> Membership:
        voters = JointConfig(self.incoming, self.outgoing)
        config = TrackerConfig(
            voters, frozenset(self.learners), frozenset(self.learners_next), self.auto_leave
        )
        check(config, self.progress)
        return config, self.progress


class Changer:
    """Changes the membership in `tracker`, whose log ends at `last_index`."""

    __slots__ = ("last_index", "tracker")

    def __init__(self, tracker: ProgressTracker, last_index: int) -> None:
        self.tracker = tracker
        self.last_index = last_index

    def simple(self, changes: Iterable[ConfChangeSingle]) -> Membership:
        """Changes at once; no more than one voter may differ."""
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeRefused("can't apply simple config change in joint config")
        self._apply(draft, changes)
        if len(self.tracker.config.voters.incoming ^ draft.incoming) > 1:
            raise ConfChangeRefused("more than one voter changed without entering joint config")
        return draft.finish()

    def enter_joint(self, auto_leave: bool, changes: Iterable[ConfChangeSingle]) -> Membership:
        """Lets the old voters and the new ones both decide."""
        draft = self._draft()
        if draft.outgoing:
            raise ConfChangeRefused("config is already joint")
        if not draft.incoming:
            raise ConfChangeRefused("can't make a zero-voter config joint")
        draft.outgoing = set(draft.incoming)
        self._apply(draft, changes)
        draft.auto_leave = auto_leave
        return draft.finish()

    def leave_joint(self) -> Membership:
        """Lets the new voters decide alone."""
        draft = self._draft()
        if not draft.outgoing:
            raise ConfChangeRefused("can't leave a non-joint config")
        for id_ in draft.learners_next:
            draft.learners.add(id_)
            draft.progress[id_].is_learner = True
        draft.learners_next.clear()
        for id_ in draft.outgoing - draft.incoming - draft.learners:
            draft.progress.pop(id_, None)
        draft.outgoing.clear()
        draft.auto_leave = False
        return draft.finish()

    def _draft(self) -> _Draft:
        check(self.tracker.config, self.tracker.progress)
        return _Draft(self.tracker.config, self.tracker.progress)

    def _apply(self, draft: _Draft, changes: Iterable[ConfChangeSingle]) -> None:
        for change in changes:
            if change.node_id == NOBODY:
                continue  # the application has refused this one
            if change.type == ConfChangeType.ADD_NODE:
                self._make_voter(draft, change.node_id)
            elif change.type == ConfChangeType.ADD_LEARNER_NODE:
                self._make_learner(draft, change.node_id)
            elif change.type == ConfChangeType.REMOVE_NODE:
                _remove(draft, change.node_id)
        if not draft.incoming:
            raise ConfChangeRefused("removed all voters")

    def _make_voter(self, draft: _Draft, id_: int) -> None:
        progress = draft.progress.get(id_)
        if progress is None:
            progress = draft.progress[id_] = self._new_progress()
        progress.is_learner = False
        draft.learners.discard(id_)
        draft.learners_next.discard(id_)
        draft.incoming.add(id_)

    def _make_learner(self, draft: _Draft, id_: int) -> None:
        progress = draft.progress.get(id_)
        if progress is None:
            progress = self._new_progress()
        elif progress.is_learner:
            return
        _remove(draft, id_)
        draft.progress[id_] = progress
        # While it still decides in the outgoing half it can't be a learner; it becomes one when that is left.
        if id_ in draft.outgoing:
            draft.learners_next.add(id_)
        else:
            progress.is_learner = True
            draft.learners.add(id_)

    def _new_progress(self) -> Progress:
        # Probed at the log's end. It counts as active at first, or the next look at the quorum might miss it.
        return Progress(0, max(self.last_index, 1), self.tracker.inflights(), recent_active=True)


def _remove(draft: _Draft, id_: int) -> None:
    if id_ not in draft.progress:
        return
    draft.incoming.discard(id_)
    draft.learners.discard(id_)
    draft.learners_next.discard(id_)
    if id_ not in draft.outgoing:
        del draft.progress[id_]


def check(config: TrackerConfig, progress: ProgressMap) -> None:
    """Raises ConfChangeRefused for a membership that contradicts itself. An empty one is allowed: it is how they begin."""
    voters = config.voters
    for id_ in sorted(voters.ids() | config.learners | config.learners_next):
        if id_ not in progress:
            raise ConfChangeRefused(f"no progress for {id_}")
    for id_ in sorted(config.learners_next):
        if id_ not in voters.outgoing:
            raise ConfChangeRefused(f"{id_} is in LearnersNext, but not Voters[1]")
        if progress[id_].is_learner:
            raise ConfChangeRefused(f"{id_} is in LearnersNext, but is already marked as learner")
    for id_ in sorted(config.learners):
        if id_ in voters.outgoing:
            raise ConfChangeRefused(f"{id_} is in Learners and Voters[1]")
        if id_ in voters.incoming:
            raise ConfChangeRefused(f"{id_} is in Learners and Voters[0]")
        if not progress[id_].is_learner:
            raise ConfChangeRefused(f"{id_} is in Learners, but is not marked as learner")
    if not voters.joint:
        if config.learners_next:
            raise ConfChangeRefused("LearnersNext must be empty when not joint")
        if config.auto_leave:
            raise ConfChangeRefused("AutoLeave must be false when not joint")


def restore(tracker: ProgressTracker, last_index: int, state: ConfState) -> Membership:
    """The membership that a snapshot or a storage describes, made from an empty tracker by the same changes."""

    def add(kind: ConfChangeType, ids: Iterable[int]) -> list[ConfChangeSingle]:
        return [ConfChangeSingle(kind, id_) for id_ in ids]

    incoming = add(ConfChangeType.ADD_NODE, state.voters)
    incoming += add(ConfChangeType.ADD_LEARNER_NODE, state.learners)
    incoming += add(ConfChangeType.ADD_LEARNER_NODE, state.learners_next)
    scratch = ProgressTracker(tracker.max_inflight, tracker.max_inflight_bytes)
    changer = Changer(scratch, last_index)
    if not state.voters_outgoing:
        for change in incoming:
            scratch.switch(*changer.simple([change]))
        return scratch.config, scratch.progress
    for change in add(ConfChangeType.ADD_NODE, state.voters_outgoing):
        scratch.switch(*changer.simple([change]))
    removals = add(ConfChangeType.REMOVE_NODE, state.voters_outgoing)
    return changer.enter_joint(state.auto_leave, removals + incoming)
