"""What the agent keeps of a single container beyond what the runtime does. Pure; a row of the agent's database each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

BRIDGE: Final = "bridge"
HOST: Final = "host"
NONE: Final = "none"
OWN: Final = (BRIDGE, HOST, NONE)  # modes that need no network of the swarm


@dataclass(frozen=True, slots=True)
class Leg:
    """One network of the swarm that the container asks for."""

    network: str  # name or id, as the user gave it
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleRecord:
    """How one container came to be, and the network that it has while it runs."""

    container_id: str
    name: str = ""
    network_mode: str = BRIDGE  # as the user said it: one of OWN, or the first of `legs`
    legs: tuple[Leg, ...] = ()
    auto_remove: bool = False
    stdin_once: bool = False
    attach: tuple[bool, bool, bool] = (False, False, False)  # stdin, stdout, stderr: for those who inspect it
    sandbox: str = ""  # by which the network knows its namespace: the container's id, or an attachment's

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> SingleRecord:
        values: dict[str, Any] = json.loads(data)
        stdin, stdout, stderr = values["attach"]
        return cls(
            container_id=values["container_id"],
            name=values.get("name", ""),
            network_mode=values["network_mode"],
            legs=tuple(Leg(leg["network"], tuple(leg["aliases"])) for leg in values["legs"]),
            auto_remove=values["auto_remove"],
            stdin_once=values["stdin_once"],
            attach=(stdin, stdout, stderr),
            sandbox=values["sandbox"],
        )
