"""Flag kinds of every day: strings, numbers, durations, sizes, CPUs, lists.

Messages are those of Go's parsers, because Docker's users see them.
"""

from __future__ import annotations

import re
import shlex
from fractions import Fraction
from typing import Any

from cli.flags import Kind

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


def boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def unsigned(text: str, bits: int = 64) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    number = int(text)
    if number >= 1 << bits:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return number


def integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def duration(text: str) -> int:
    """Nanoseconds of a Go duration such as "1h30m", "1.5s" or "300ms"."""
    sign = -1 if text.startswith("-") else 1
    body = text.lstrip("+-") if text[:1] in "+-" else text
    if body == "0":
        return 0
    pieces = re.findall(r"([0-9]*\.?[0-9]*)([^0-9.]*)", body)
    total = Fraction(0)
    if not body:
        raise ValueError(f'time: invalid duration "{text}"')
    for number, unit in pieces:
        if not number and not unit:
            continue
        if number in ("", "."):
            raise ValueError(f'time: invalid duration "{text}"')
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += Fraction(number if number[-1] != "." else number + "0") * _UNITS[unit]
    return sign * int(total)


def positive_duration(text: str) -> int:
    value = duration(text)
    if value < 0:
        raise ValueError("duration cannot be negative")
    return value


def size(text: str) -> int:
    """Bytes of "64m", "1.5GiB", "512": units are powers of 1024, as `docker` takes them."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([kKmMgGtTpP]?)([iI]?[bB])?", text)
    if match is None:
        if re.fullmatch(r"-[0-9.]+.*", text):
            raise ValueError(f"invalid size: '{text}'")
        raise ValueError(f"invalid size: '{text}'")
    power = " kmgtp".index(match[2].lower()) if match[2] else 0
    return int(Fraction(match[1] if match[1][-1] != "." else match[1] + "0") * 1024**power)


def cpus(text: str) -> int:
    """Billionths of a CPU."""
    try:
        value = Fraction(text) * 1_000_000_000
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if value.denominator != 1:
        raise ValueError("value is too precise")
    return int(value)


def words(text: str) -> list[str]:
    """A command line as a shell would split it."""
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError("EOF found when expecting closing quote") from None


def comma_separated(text: str) -> list[str]:
    """Comma-separated values with CSV's quotes: `a="x,y",b`."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]), [""])


def fields(text: str) -> list[tuple[str, str, bool]]:
    """`k=v,flag` as (key, value, whether "=" was there)."""
    found = []
    for piece in comma_separated(text):
        key, equals, value = piece.partition("=")
        found.append((key, value, bool(equals)))
    return found


def _one(text: str) -> list[str]:
    return [text]


def _pair(text: str) -> list[tuple[str, str]]:
    key, equals, value = text.partition("=")
    if not equals:
        return [(key, "")]
    return [(key, value)]


def _address(text: str) -> list[str]:
    import ipaddress

    try:
        return [str(ipaddress.ip_address(text.strip()))]
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def _domain(text: str) -> list[str]:
    if text.strip() == ".":
        return ["."]
    if not re.fullmatch(
        r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?", text
    ):
        raise ValueError(f"{text} is not a valid domain")
    return [text]


def _link(text: str) -> list[str]:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return [text]


def _variable(text: str) -> list[str]:
    if not text or text.startswith("="):
        raise ValueError(f"invalid environment variable: {text}")
    return [text]


def _host(text: str) -> list[str]:
    import ipaddress

    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address != "host-gateway":
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            raise ValueError(f'invalid IP address in add-host: "{address}"') from None
    return [f"{name}:{address.strip('[]')}"]


def _label(text: str) -> list[str]:
    if not text or text.startswith("="):
        raise ValueError(f"invalid label '{text}': empty name")
    if re.search(r"\s", text.partition("=")[0]):
        raise ValueError(f"label '{text}' contains whitespaces")
    return [text]


def _network(text: str) -> list[str]:
    import ipaddress

    found = []
    for piece in text.split(","):
        try:
            if "/" not in piece:
                raise ValueError
            found.append(str(ipaddress.ip_network(piece.strip(), strict=False)))
        except ValueError:
            raise ValueError(f"invalid string being converted to CIDR: {piece}") from None
    return found


def node_address(text: str) -> str:
    """host[:port], where an empty host means every address and the port is 2377 unless given."""
    if not text:
        raise ValueError("a non-empty value is required")
    host, colon, port = text.rpartition(":")
    bare_ipv6 = ":" in host and not host.endswith("]")
    if not colon or bare_ipv6:
        host, port = text, "2377"
    return f"{host or '0.0.0.0'}:{port or '2377'}"


def filters(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return [(key.strip().lower(), value.strip())]


def preference(text: str) -> list[str]:
    """A placement preference; only `spread=` exists."""
    strategy, equals, descriptor = text.partition("=")
    if not equals:
        raise ValueError("pref must have format of <strategy>=<arg>")
    if strategy != "spread":
        raise ValueError(f"unsupported placement preference {strategy} (only spread is supported)")
    return [descriptor]


def ulimit(text: str) -> list[dict[str, Any]]:
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    soft_text, colon, hard_text = limits.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError:
        bad = soft_text if not re.fullmatch(r"-?[0-9]+", soft_text) else hard_text
        raise ValueError(f'strconv.ParseInt: parsing "{bad}": invalid syntax') from None
    if soft > hard >= 0:
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return [{"Name": name, "Hard": hard, "Soft": soft}]


STRING = Kind("string", str)
BOOL = Kind("", boolean, switch=True)
UINT = Kind("uint", unsigned)
UINT32 = Kind("uint32", lambda text: unsigned(text, 32))
INT = Kind("int", integer)
FLOAT = Kind("float", real)
DURATION = Kind("duration", duration)
POSITIVE_DURATION = Kind("duration", positive_duration)
BYTES = Kind("bytes", size)
SWAP = Kind("bytes", lambda text: -1 if text == "-1" else size(text))
DECIMAL = Kind("decimal", cpus)
COMMAND = Kind("command", words)
LIST = Kind("list", _one, repeated=True)
STRINGS = Kind("strings", comma_separated, repeated=True)
MAP = Kind("map", _pair, repeated=True)
LABELS = Kind("list", _label, repeated=True)
ENVIRONMENT = Kind("list", _variable, repeated=True)
ADDRESSES = Kind("list", _address, repeated=True)
DOMAINS = Kind("list", _domain, repeated=True)
LINKS = Kind("list", _link, repeated=True)
HOSTS = Kind("list", _host, repeated=True)
IP_NETS = Kind("ipNetSlice", _network, repeated=True)
NODE_ADDR = Kind("node-addr", node_address)
FILTER = Kind("filter", filters, repeated=True)
PREFERENCES = Kind("pref", preference, repeated=True)
ULIMITS = Kind("ulimit", ulimit, repeated=True)


def as_map(pairs: list[str]) -> dict[str, str]:
    """Labels and the like, `k=v` or `k`, as a map sorted by key the way Go writes maps."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        found[key] = value
    return dict(sorted(found.items()))
