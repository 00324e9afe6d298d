"""Further processes in a container: what is left of one whose start fails, or is cut off."""

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import pytest

from agent.runtime import client as c
from agent.runtime.api import ExecConfig
from agent.runtime.client import Containerd
from agent.runtime.process import Exec
from common import errors
from common.pb import containerd_pb2 as pb

CONFIG = ExecConfig(("sleep", "1"), stdin=True)


class Answers:
    """containerd, as far as a process asks it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.starting, self.goes = asyncio.Event(), asyncio.Event()

    async def call(self, method: Any, request: Any, **_: Any) -> Any:
        self.asked.append(method)
        if method is c.TASK_START:
            self.starting.set()
            await self.goes.wait()
            return pb.TaskPid(pid=42)
        if method is c.TASK_WAIT:
            return pb.TaskWaited(exit_status=137)
        return None


async def test_one_that_is_cut_off_while_it_starts_is_ended(tmp_path: Path) -> None:
    answers = Answers()
    process = Exec(cast(Containerd, answers), "c" * 64, "e", tmp_path / "exec")
    starting = asyncio.create_task(process.start(CONFIG, {}))
    await answers.starting.wait()
    starting.cancel()
    await asyncio.sleep(0)
    answers.goes.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert answers.asked[2:] == [c.TASK_KILL, c.TASK_WAIT, c.TASK_DELETE_PROCESS]
    assert os.listdir(tmp_path) == []


async def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = Exec(cast(Containerd, Answers()), "c" * 64, "e", tmp_path / "file" / "exec")
    with pytest.raises(errors.Internal, match=r"^not a directory: /.*/file/exec$"):
        await process.start(CONFIG, {})
