"""What can go wrong in the command line, and the exit code that each kind ends with.

Raised anywhere below `cli.main`, which prints the text on stderr and exits. The daemon's own errors keep Docker's
form ("Error response from daemon: …"), so that scripts which read them go on working.
"""

from __future__ import annotations


class CliError(Exception):
    """A message for stderr and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class FlagError(CliError):
    """A flag that can't be understood; `cli.main` adds the command's usage below it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 125)


class ConnectError(CliError):
    """Nobody answers at the address that we were told to use."""


class ApiError(CliError):
    """The daemon refused: `status` is HTTP's, `reason` the daemon's own words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"Error response from daemon: {reason}")
        self.status = status
        self.reason = reason

    @property
    def is_not_found(self) -> bool:
        return self.status == 404
