"""What passes of the network could not do, each told once, and what one has repaired. For manager.py."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from agent.network import names
from agent.network.facts import Change, shown
from agent.network.kernel import KernelError, describe, described_with_step

_log: Final = logging.getLogger(__name__)


class Report:
    """`failing` is what could not be done at last, by namespace, and why."""

    def __init__(self) -> None:
        self.failing: Mapping[str, str] = {}

    def passed(self, failed: Mapping[str, Exception], repaired: int, latest: Sequence[Change]) -> None:
        """A pass is through. `repaired` counts what it found otherwise than planned, `latest` are the last of these."""
        now = {name: describe(error) for name, error in failed.items()}
        for name, cause in now.items():
            if self.failing.get(name) != cause:
                _log.error(
                    "network namespace %s: %s", name or "of the host", described_with_step(failed[name])
                )
        if repaired and not now and not self.failing:
            last = "; ".join(shown(change) for change in latest[-repaired:])
            _log.warning(
                "the kernel had drifted from the plan: %d changes made, the last: %s", repaired, last
            )
        self.failing = now

    def broke(self, error: Exception) -> str:
        """A pass failed as a whole; answers with what is told to whoever waits for it."""
        foreseen = isinstance(error, (*KernelError, ValueError))  # ValueError: assignments that make no plan
        cause = describe(error) if foreseen else f"{type(error).__name__}: {error}"
        if self.failing != {names.HOST: cause}:
            _log.error(
                "could not bring the kernel to the assignments: %s",
                cause,
                exc_info=None if foreseen else error,
            )
        self.failing = {names.HOST: cause}
        return f"could not set up networks: {cause}"
