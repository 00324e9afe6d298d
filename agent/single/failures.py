"""What keeps a container from starting, or from being cleared away, in words and exit codes as Docker has them.

The kernel refuses by numbers, files by exceptions of Python's: whoever asked for a container is told neither. Called by
containers.py, wiring.py and settling.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.network.kernel import KernelError, describe
from common import errors

# All that the machine, containerd and the managers may answer; anything else is a mistake of the program's.
FAILURES: Final = (errors.ShoalError, *KernelError)

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
UNKNOWN: Final = 128
_MOUNTS: Final = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)
_CODES: Final = (
    ("permission denied", NOT_EXECUTABLE),
    ("is a directory", NOT_EXECUTABLE),
    ("not a directory", NOT_FOUND),
    ("executable file not found", NOT_FOUND),
    ("no such file or directory", NOT_FOUND),
)


def said(error: BaseException) -> str:
    """A failure's text."""
    if isinstance(error, errors.ShoalError):
        return error.message
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}"
    text = describe(error) or "timed out"
    return text[:1].lower() + text[1:]


@contextmanager
def in_words() -> Iterator[None]:
    """What the kernel refuses within, leaves as errors.ShoalError."""
    try:
        yield
    except KernelError as exc:
        raise errors.ShoalError(said(exc)) from exc


def exit_code(text: str) -> int:
    """Of a container whose process could not be started."""
    lower = text.lower()
    return next((code for part, code in _CODES if part in lower), UNKNOWN)


def of_process(error: errors.ShoalError) -> errors.ShoalError:
    """A program that isn't there, or can't be run, is a mistake of whoever asked for it; so is a mount that doesn't fit."""
    if exit_code(error.message) == UNKNOWN:
        return error
    return errors.InvalidArgument(
        error.message + (_MOUNTS if "not a directory" in error.message.lower() else "")
    )


def of_start(error: errors.ShoalError) -> errors.ShoalError:
    """The container is there: what is missing is something of its start, as Docker's status says too."""
    return errors.ShoalError(error.message) if isinstance(error, errors.NotFound) else error
