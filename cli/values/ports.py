"""Published ports: `8080:80`, `9000-9002:9000-9002/udp`, `published=8080,target=80,mode=host`. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from cli.flags import Kind
from cli.values.basic import fields

_LONG = re.compile(r"\w+=\w+(,\w+=\w+)*")
_PROTOCOLS = ("tcp", "udp", "sctp")
_MODES = ("ingress", "host")
_HIGHEST = 65535


def publish(text: str) -> list[dict[str, Any]]:
    """The API's port configurations of one --publish."""
    return [_long(text)] if _LONG.search(text) else _short(text)


def port(protocol: str, target: int, published: int = 0, mode: str = "ingress") -> dict[str, Any]:
    config: dict[str, Any] = {"Protocol": protocol, "TargetPort": target}
    if published:
        config["PublishedPort"] = published
    config["PublishMode"] = mode
    return config


def _long(text: str) -> dict[str, Any]:
    protocol, mode, target, published = "tcp", "ingress", 0, 0
    for key, value, equals in fields(text):
        name = key.lower()
        if not equals or not value:
            raise ValueError(f"invalid field: {key}")
        if name == "protocol":
            if value not in _PROTOCOLS:
                raise ValueError(f"invalid protocol value '{value}'")
            protocol = value
        elif name == "mode":
            if value not in _MODES:
                raise ValueError(f"invalid publish mode value ({value}): must be either 'ingress' or 'host'")
            mode = value
        elif name == "target":
            target = _number(value, "target")
        elif name == "published":
            published = _number(value, "published")
        else:
            raise ValueError(f"invalid field key: {name}")
    if not target:
        raise ValueError("missing mandatory field 'target'")
    return port(protocol, target, published, mode)


def _number(text: str, name: str) -> int:
    if not text.isdigit():
        raise ValueError(f"invalid {name} port ({text}): value must be an integer: invalid syntax")
    if int(text) > _HIGHEST:
        raise ValueError(f"invalid {name} port ({text}): value must be an integer: value out of range")
    return int(text)


def _short(text: str) -> list[dict[str, Any]]:
    rest, slash, protocol = text.rpartition("/")
    if not slash:
        rest, protocol = text, "tcp"
    pieces = rest.split(":")
    container = pieces[-1]
    host = pieces[-2] if len(pieces) > 1 else ""
    address = ":".join(pieces[:-2]).strip("[]")
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f"invalid IP address: {address}") from None
        raise ValueError("hostip is not supported")
    if not container:
        raise ValueError(f"no port specified: {text}<empty>")
    targets = _range(container, "containerPort")
    publisheds = _range(host, "hostPort") if host else None
    if protocol.lower() not in _PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    if publisheds is not None and len(publisheds) != len(targets):
        if len(targets) != 1:
            raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
        return [port(protocol.lower(), targets[0], published) for published in publisheds]
    return [
        port(protocol.lower(), target, publisheds[index] if publisheds is not None else 0)
        for index, target in enumerate(targets)
    ]


def _range(text: str, name: str) -> range:
    first, dash, last = text.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isdigit() and int(end) <= _HIGHEST for end in ends) or int(ends[1]) < int(ends[0]):
        raise ValueError(f"invalid {name}: {text}")
    return range(int(ends[0]), int(ends[1]) + 1)


def ports_of(text: str) -> list[dict[str, Any]]:
    """Those of one --publish of a single container: "8080:80/udp"."""
    return _short(text)


PORTS = Kind("port", publish, repeated=True)
