"""The machine goes down, not just the daemon: containers end as their images want it, in their own time. agent/daemon.py calls it.

Without it they would get systemd's last SIGTERM to everything that is left, whatever their stop signal, and a process that
ignores that one (a shell's `sleep` as pid 1) would hold the machine up for a minute and a half. What the agent remembers of
its tasks stays as it is: they ran when the machine went down, and are taken up again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from agent.runtime.api import ContainerState, ExitStatus, Status
from common import errors, sdnotify

log = logging.getLogger("agent")

_ASKING: Final = 5.0  # seconds that systemd has for an answer
_KILLING: Final = 10.0  # and that the runtime has beyond a container's grace
_GRACE: Final = 10.0  # of a container whose record is gone
_SYSTEMCTL: Final = ("systemctl", "is-system-running")


class Runtime(Protocol):
    """Part of agent/runtime/api.py."""

    async def containers(self) -> list[ContainerState]: ...

    async def stop(self, id: str, signal: str = "", grace_s: float | None = None) -> ExitStatus: ...


async def machine_is_stopping(command: Sequence[str] = _SYSTEMCTL) -> bool:
    """Whether systemd is taking the machine down (systemctl(1), is-system-running); False where there is none to ask."""
    try:
        asked = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        log.info("whether the machine goes down is not known: %s", error)
        return False
    try:
        async with asyncio.timeout(_ASKING):
            said, _ = await asked.communicate()
    except TimeoutError:
        log.warning("systemd doesn't say whether the machine goes down")
        asked.kill()
        await asked.wait()
        return False
    return said.strip() == b"stopping"


async def stop_containers(runtime: Runtime) -> None:
    """Ends every running container by its own signal, within its own grace, all at once."""
    try:
        running = [c for c in await runtime.containers() if c.status is Status.RUNNING]
    except errors.ShoalError as error:
        log.warning("containers were not stopped: %s", error.message)
        return
    if not running:
        return
    longest = max(c.config.stop_grace_ns / 1e9 if c.config else _GRACE for c in running)
    log.info("the machine goes down: stopping %d containers, in %g s at most", len(running), longest)
    sdnotify.notify(f"EXTEND_TIMEOUT_USEC={round((longest + 2 * _KILLING) * 1e6)}")
    try:
        async with asyncio.timeout(longest + _KILLING):
            await asyncio.gather(*(_stop(runtime, c) for c in running))
    except TimeoutError:
        log.warning("not every container has ended")


async def _stop(runtime: Runtime, container: ContainerState) -> None:
    try:
        await runtime.stop(container.id)
    except errors.ShoalError as error:
        log.warning("container %s was not stopped: %s", container.name, error.message)
