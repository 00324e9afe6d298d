"""What both sides read out of a network's options. Pure."""

from __future__ import annotations

from common import model


def is_encrypted(spec: model.NetworkSpec) -> bool:
    """Whether the network was made with --opt encrypted; Docker's own CLI sends it without a value."""
    return spec.driver is not None and spec.driver.options.get("encrypted", "false").lower() != "false"
