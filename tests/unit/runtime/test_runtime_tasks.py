"""Starts that follow on interrupted ones: which of containerd's errors are cleared away, and which are the task's."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from agent.runtime import client as c
from agent.runtime.api import ContainerConfig
from agent.runtime.client import Containerd
from agent.runtime.content import Content
from agent.runtime.oci import OciRuntime
from agent.runtime.tasks import Tasks
from common import errors
from common.clock import SystemClock
from common.pb import containerd_pb2 as pb

GETWD = "failed to create shim task: failed to start shim: getwd: no such file or directory: unknown"


class Answers:
    """containerd, as far as a start asks it: its errors to the attempts, one after the other."""

    def __init__(self, failures: Sequence[errors.ShoalError], silent: int = 0) -> None:
        self.failures = list(failures)
        self.silent = silent  # so many calls to let the process go get no answer
        self.started = 0

    async def call(self, method: Any, request: Any, **_: Any) -> Any:
        if method is c.TASK_CREATE:
            if self.failures:
                raise self.failures.pop(0)
            return pb.TaskCreated(pid=42)
        if method is c.TASK_START:
            self.started += 1
            if self.started <= self.silent:
                raise errors.DeadlineExceeded("no answer")
            return pb.TaskPid(pid=42)
        if method is c.TASK_GET and self.started:
            return pb.TaskBox(process=pb.TaskProcess(status=pb.CREATED, pid=42))
        raise errors.NotFound("no such task")


class Rest:
    namespace = "shoal"

    async def mounts(self, _id: str) -> list[Any]:
        return []

    async def forget(self, _id: str) -> None:
        return None


async def run(*failures: errors.ShoalError, silent: int = 0) -> tuple[int, Answers]:
    answers, rest = Answers(failures, silent), Rest()
    tasks = Tasks(cast(Containerd, answers), cast(Content, rest), cast(OciRuntime, rest), SystemClock())
    config = ContainerConfig(id="c" * 64, name="web.1", image="busybox")
    return await tasks.run(config, "", "out", "err"), answers


@pytest.mark.parametrize("said", [GETWD, "task already exists", "mkdir /elsewhere: file exists"])
async def test_what_an_interrupted_start_left_is_no_failure(said: str) -> None:
    pid, answers = await run(errors.Internal(said), errors.Internal(said))
    assert (pid, answers.started) == (42, 1)


async def test_what_stays_wrong_is_told() -> None:
    with pytest.raises(errors.Internal, match="getwd"):
        await run(*(errors.Internal(GETWD) for _ in range(4)))


async def test_what_the_task_itself_did_wrong_is_told_at_once() -> None:
    with pytest.raises(errors.Internal, match="executable file not found"):
        await run(errors.Internal("exec: executable file not found in $PATH"))


async def test_a_process_that_is_not_let_go_is_asked_for_once_more() -> None:
    pid, answers = await run(silent=1)
    assert (pid, answers.started) == (42, 2)
    with pytest.raises(errors.DeadlineExceeded):
        await run(silent=2)
