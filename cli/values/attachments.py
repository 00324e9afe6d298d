"""What a service is given by name: networks, secrets, configs. Names only; ids are asked of the daemon later. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cli.flags import Kind
from cli.values.basic import fields

_LONG = re.compile(r"\w+=\w+(,\w+=\w+)*")


@dataclass(slots=True)
class NetworkRequest:
    """One --network: a name, and how the tasks are attached to it."""

    name: str
    aliases: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)  # of a container: ip, ip6, mac-address
    link_local: list[str] = field(default_factory=list)

    def attachment(self, target: str) -> dict[str, Any]:
        found: dict[str, Any] = {"Target": target}
        if self.aliases:
            found["Aliases"] = self.aliases
        if self.options:
            found["DriverOpts"] = self.options
        return found


_OWN = ("ip", "ip6", "mac-address")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{2}(-[0-9a-f]{2}){5}|[0-9a-f]{4}(\.[0-9a-f]{4}){2}")


def is_mac(text: str) -> bool:
    """Six octets, with colons or dashes, or with dots by twos."""
    return _MAC.fullmatch(text.lower()) is not None


def container_network(text: str) -> list[NetworkRequest]:
    """A container may have addresses of its own there."""
    return network(text, _OWN)


def network(text: str, own: tuple[str, ...] = ()) -> list[NetworkRequest]:
    if not _LONG.search(text):
        return [NetworkRequest(text)]
    request = NetworkRequest("")
    for key, value, equals in fields(text):
        name = key.strip().lower()
        if not equals:
            raise ValueError(f"invalid field {key}")
        if name == "name":
            request.name = value.strip()
        elif name == "alias":
            request.aliases.append(value.strip())
        elif name == "driver-opt":
            option, separator, setting = value.partition("=")
            if not separator:
                raise ValueError("invalid key value pair format in driver options")
            request.options[option.strip()] = setting.strip()
        elif name in own:
            if name == "mac-address" and not is_mac(value.strip()):
                raise ValueError(f"address {value.strip()}: invalid MAC address")
            request.own[name] = value.strip()
        elif name == "link-local-ip" and own:
            request.link_local.append(value.strip())
        else:
            raise ValueError(f"invalid field key {name}")
    if not request.name:
        raise ValueError("network name/id is not specified")
    return [request]


_OLD_OCTAL = re.compile(r"0(?:_?[0-7])+")
_NUMBER = re.compile(r"0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*")


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One --secret or --config: its name and the file that the tasks see."""

    source: str
    target: str
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444

    @property
    def file(self) -> dict[str, Any]:
        return {"Name": self.target, "UID": self.uid, "GID": self.gid, "Mode": self.mode}


def _mode(text: str) -> int:
    """A number as Go's sources write it: octal begins with 0, so 0440 and 440 are not the same."""
    problem = ""
    if not _NUMBER.fullmatch(text):
        problem = "invalid syntax"
    elif (mode := int(text, 8) if _OLD_OCTAL.fullmatch(text) else int(text, 0)) >= 1 << 32:
        problem = "value out of range"
    if problem:
        raise ValueError(f'invalid mode specified: strconv.ParseUint: parsing "{text}": {problem}')
    return mode


def _file(kind: str) -> Kind:
    def parse(text: str) -> list[FileRequest]:
        found: dict[str, str] = {}
        mode = 0o444
        if not text:
            raise ValueError("EOF")
        pieces = fields(text)
        if len(pieces) == 1 and not pieces[0][2]:
            return [FileRequest(pieces[0][0], pieces[0][0])]
        for key, value, equals in pieces:
            name = key.lower()
            if not equals:
                raise ValueError(f"invalid field '{key}' must be a key=value pair")
            if name in ("source", "src"):
                found["source"] = value
            elif name in ("target", "uid", "gid"):
                found[name] = value
            elif name == "mode":
                mode = _mode(value)
            else:
                raise ValueError(f"invalid field in {kind} request: {name}")
        if not found.get("source"):
            raise ValueError("source is required")
        found["target"] = found.get("target") or found["source"]
        return [FileRequest(mode=mode, **found)]

    return Kind(kind, parse, repeated=True)


NETWORKS = Kind("network", network, repeated=True)
CONTAINER_NETWORKS = Kind("network", container_network, repeated=True)
SECRETS = _file("secret")
CONFIGS = _file("config")
