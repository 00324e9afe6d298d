"""What a task needs on its node besides networks: the configs that its specification names. Pure.

Used by assignments.py, which sends a config to the nodes that have such a task, and by interest.py.
"""

from __future__ import annotations

from common import model
from common.model import TaskState


def configs_of(task: model.Task) -> frozenset[str]:
    """Ids of the configs that a task's node must have: until the task has ended or is to end."""
    container = task.spec.container
    if container is None or not container.configs:
        return frozenset()
    if not task.node_id or max(task.status.state, task.desired_state) > TaskState.TASK_RUNNING:
        return frozenset()
    return frozenset(reference.config_id for reference in container.configs)


def config_record(config: model.Config) -> model.ConfigRecord:
    """A config as nodes get it: without labels, so that new ones don't have the data sent again."""
    spec = config.spec
    return model.ConfigRecord(config.id, spec.name, spec.data, spec.templating)


def weight(assignment: model.Assignment | None) -> int:
    """Bytes that an assignment adds to a message, as far as they count."""
    return len(assignment.config.data) if assignment is not None and assignment.config is not None else 0
