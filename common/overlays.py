"""What both sides read out of a network's options, and which agents can be in which networks. Pure.

An agent names what it can do (NodeDescription.abilities); one that is older than that word names nothing. Managers hand a network
to those only that can be in it: the plan of an agent that knows no IPv6 fails as a whole at the first such address, and one
that knows no encryption would send what is to be sealed in plain text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address
from typing import Final

from common import model

OVERLAY_IPV6: Final = "overlay-ipv6"
OVERLAY_ENCRYPTION: Final = "overlay-encryption"
OVERLAY_MAC: Final = "overlay-mac"
_MAC: Final = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
ABILITIES: Final = (OVERLAY_IPV6, OVERLAY_ENCRYPTION, OVERLAY_MAC)
"""What agents of this version can do. Whether a node's kernel can is told elsewhere (encryption_lacks)."""


def is_encrypted(spec: model.NetworkSpec) -> bool:
    """Whether the network was made with --opt encrypted; Docker's own CLI sends it without a value."""
    return spec.driver is not None and spec.driver.options.get("encrypted", "false").lower() != "false"


def asked(spec: model.NetworkSpec) -> frozenset[str]:
    """What an agent must be able to do to be in the network. Of the routing mesh all nodes are: its IPv6 part is for those that can."""
    if spec.ingress:
        return frozenset()
    found = (OVERLAY_IPV6, spec.ipv6_enabled), (OVERLAY_ENCRYPTION, is_encrypted(spec))
    return frozenset(ability for ability, needed in found if needed)


def is_mac(text: str) -> bool:
    """Whether it is a MAC that an interface can have, in the one form that is used here."""
    return _MAC.fullmatch(text) is not None and text != "00:00:00:00:00:00"


def address_of(mac: str) -> str:
    """The IPv4 address that a MAC belongs to where nobody has chosen another one; empty for those that belong to none."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return str(IPv4Address(octets[2:])) if len(octets) == 6 and octets[:2] == b"\x02\x42" else ""


def suits(spec: model.NetworkSpec, abilities: Collection[str]) -> bool:
    """Whether an agent with these abilities can be in the network."""
    return asked(spec) <= frozenset(abilities)
