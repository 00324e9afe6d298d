"""The program below containerd's shims that makes containers: runc or crun. Which one, and cleaning up after it.

Called when the runtime starts, and when a start finds what an interrupted one left.
"""

import asyncio
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("runtime")

ROOT = Path("/run/containerd/runc")  # where the shims let it keep its records, by namespace
_HYBRID = Path("/sys/fs/cgroup/unified/cgroup.controllers")
_TIMEOUT_S = 30.0
_NO_PROGRAM = re.compile(r"executable file `([^`]*)` not found in \$PATH(: No such file or directory)?")

# What is no file, and what may not be executed.
_NO_EXECUTABLE = re.compile(r"open executable: (Operation not permitted|Permission denied)")


def choose_binary(setting: str) -> str:
    """The program for `runc`, `crun`, a path, or `auto` (crun, which is faster, where it can work)."""
    if setting != "auto":
        return setting
    if shutil.which("crun") is None:
        return "runc"
    if _is_hybrid():
        log.info("using runc: crun can't work with controllers in both cgroup hierarchies")
        return "runc"
    return "crun"


def parse_version(text: str) -> tuple[str, str]:
    """Version and commit in what `runc --version` or `crun --version` prints."""
    words = [line.split() for line in text.splitlines() if line.strip()]
    version = words[0][-1] if words and "version" in words[0] else ""
    return version, next((line[1] for line in words if line[0] == "commit:" and len(line) > 1), "")


def _is_hybrid() -> bool:
    """cgroup v1 with a v2 hierarchy beside it that has controllers too."""
    try:
        return bool(_HYBRID.read_text().strip())
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class OciRuntime:
    binary: str
    namespace: str

    async def version(self) -> tuple[str, str]:
        """Version and commit as it tells them itself; empty when it can't be asked."""
        try:
            process = await asyncio.create_subprocess_exec(
                self.binary, "--version", stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError:
            return "", ""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return "", ""
        return parse_version(output.decode(errors="replace"))

    async def forget(self, id: str) -> None:
        """End and remove what it knows of a container that no shim holds any more."""
        root = ROOT / self.namespace
        if not await asyncio.to_thread((root / id).exists):
            return
        log.info("clearing away what %s kept of container %s", self.binary, id[:12])
        process = await asyncio.create_subprocess_exec(
            self.binary, "--root", str(root), "delete", "--force", id,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if process.returncode:
            # A record without a container, as a cut-off create leaves it: only the folder is there.
            await asyncio.to_thread(shutil.rmtree, root / id, ignore_errors=True)


def in_runcs_words(text: str, program: str = "") -> str:
    """crun's way to say that there is no such program, or that it can't be run, as runc says it: clients tell exit codes by
    those words."""
    text = _NO_PROGRAM.sub(
        r'unable to start container process: exec: "\1": executable file not found in $PATH', text
    )
    return _NO_EXECUTABLE.sub(
        lambda _: f'unable to start container process: exec: "{program}": permission denied', text
    )
