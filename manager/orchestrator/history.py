"""Which ended tasks leave the store: those beyond the history limit of a slot, and those that are to be removed.

A task goes only when the allocator has taken its addresses back (they rest for a while before they are given again).
Pure; used by service.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.orchestrator.restart import history_needed

DEFAULT_LIMIT: Final = 5


def limit_of(cluster: model.Cluster) -> int:
    """Tasks to keep for each slot, the present one included; negative keeps all."""
    limit = cluster.spec.orchestration.task_history_limit
    return DEFAULT_LIMIT if limit is None else limit


def released(task: model.Task) -> bool:
    """It holds no address any more."""
    return not any(attachment.addresses for attachment in task.networks)


def removable(task: model.Task) -> bool:
    """It has ended, and nothing hangs on it."""
    return lifecycle.ended(task) and not lifecycle.wanted(task) and released(task)


def to_remove(tasks: Iterable[model.Task]) -> list[model.Task]:
    """Tasks whose slot or service is gone."""
    return [t for t in tasks if t.desired_state >= TaskState.TASK_REMOVE and removable(t)]


def beyond_limit(slot: Sequence[model.Task], limit: int) -> list[model.Task]:
    """The oldest tasks of a slot (given oldest first) that are too many."""
    if limit < 0:
        return []
    keep = max(limit, history_needed(slot[-1]) + 1 if history_needed(slot[-1]) else 0)
    surplus = len(slot) - keep
    return [t for t in slot if removable(t)][: max(0, surplus)]
