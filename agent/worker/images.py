"""A task's image: there already, or fetched. Called by agent/worker/supervisor.py while a task is PREPARING."""

from __future__ import annotations

import logging

from agent.runtime.api import Runtime
from agent.worker.auth import registry_auth
from common import errors, model

log = logging.getLogger("worker")


async def fetch(runtime: Runtime, task: model.Task) -> None:
    """Makes sure of the task's image. One that is pinned to a digest and present is not asked for again; an image that
    can't be fetched but is present serves. Raises errors.NotFound with Docker's text; the cause is in the log."""
    spec = task.spec.container
    if spec is None:
        raise errors.InvalidArgument("the task has no container specification")
    if "@sha256:" in spec.image and await runtime.image(spec.image):
        return
    try:
        await runtime.pull(spec.image, registry_auth(spec.pull_auth))
    except errors.ShoalError as exc:
        if await runtime.image(spec.image):
            log.warning("task %s: the present %s is used: %s", task.name, spec.image, exc.message)
            return
        log.warning("task %s: %s cannot be fetched: %s", task.name, spec.image, exc.message)
        raise errors.NotFound(f"No such image: {spec.image}") from exc
