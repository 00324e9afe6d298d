"""Reading JSON with the complaints of Go's decoder, which Docker's clients see when they send what is none. Pure.

agent/engine/http.py reads the bodies of requests by it, `mismatch` is for values of the wrong type.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from common import errors

PREFIX: Final = "invalid JSON: "
_LITERALS: Final = ("true", "false", "null")
_HEX: Final = "0123456789abcdefABCDEF"
_OPENING: Final = {"{": "after object key:value pair", "[": "after array element"}
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def loads(raw: bytes) -> Any:
    """The one value that `raw` is; raises errors.InvalidArgument."""
    text = raw.decode("utf-8", "replace")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise errors.InvalidArgument(complaint(text, exc)) from exc
    except RecursionError as exc:
        raise errors.InvalidArgument("invalid JSON: exceeded max depth") from exc
    except ValueError as exc:  # a number of thousands of digits
        raise errors.InvalidArgument(f"invalid JSON: {exc}") from exc


def _refuse_constant(word: str) -> NoReturn:
    """NaN and Infinity are Python's own idea."""
    raise errors.InvalidArgument(
        "invalid JSON: invalid character 'I' in numeric literal"
        if word == "-Infinity"
        else f"invalid JSON: invalid character {shown(word[0])} looking for beginning of value"
    )


def complaint(text: str, fault: json.JSONDecodeError) -> str:
    """What Go says where Python says `fault`."""
    if fault.msg == "Extra data":
        return "unexpected content after JSON"
    why = _why(text, fault)
    return f"invalid JSON: {why or 'unexpected EOF'}"


def _why(text: str, fault: json.JSONDecodeError) -> str:
    """ "" where the text just ends."""
    at = fault.pos
    if fault.msg.startswith("Unterminated string"):
        return ""
    if fault.msg.startswith("Invalid control character"):
        return _of(text, at, "in string literal")
    if fault.msg.startswith("Invalid \\escape"):
        return _of(text, at + 1, "in string escape code")
    if fault.msg.startswith("Invalid \\uXXXX escape"):
        digits = text.index("u", at - 1) + 1
        wrong = next((i for i in range(digits, len(text)) if text[i] not in _HEX), len(text))
        return _of(text, wrong, "in \\u hexadecimal character escape")
    if fault.msg.startswith("Expecting ':'"):
        return _of(text, at, "after object key")
    if fault.msg.startswith("Expecting ','"):
        return _of(text, at, _OPENING[_innermost(text[:at])])
    if "property name" in fault.msg:
        return _of(text, at, "looking for beginning of object key string")
    return _no_value(text, at)


def _no_value(text: str, at: int) -> str:
    """Where a value should begin: perhaps one begins, and goes wrong."""
    if text[at : at + 1] == "-":
        return _of(text, at + 1, "in numeric literal")
    for word in _LITERALS:
        if text[at : at + 1] == word[0]:
            same = next((i for i, sign in enumerate(word) if text[at + i : at + i + 1] != sign), 0)
            return _of(text, at + same, f"in literal {word} (expecting '{word[same]}')")
    return _of(text, at, "looking for beginning of value")


def _of(text: str, at: int, where: str) -> str:
    return f"invalid character {shown(text[at])} {where}" if at < len(text) else ""


def shown(sign: str) -> str:
    """A character as Go quotes it: the first of its bytes."""
    first = chr(sign.encode("utf-8", "replace")[0])
    if first == "'":
        return r"'\''"
    if first == '"':
        return "'\"'"
    escapes = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\"}
    if first in escapes:
        return f"'{escapes[first]}'"
    return f"'{first}'" if first.isprintable() else f"'\\x{ord(first):02x}'"


def _innermost(before: str) -> str:
    """Which bracket is still open."""
    opened = []
    for sign in _STRING.sub('""', before):
        if sign in "{[":
            opened.append(sign)
        elif sign in "}]":
            opened.pop()
    return opened[-1] if opened else "{"


def kind(value: object) -> str:
    """What Go calls a JSON value's type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def mismatch(found: str, struct: str, path: tuple[str, ...], wanted: str) -> errors.InvalidArgument:
    """`found`, a value's kind, stands where Go's `wanted` should: in the field at `path`, or as the whole of a body."""
    where = f"Go struct field {struct}.{'.'.join(path)}" if path else "Go value"
    return errors.InvalidArgument(
        f"invalid JSON: json: cannot unmarshal {found} into {where} of type {wanted}"
    )
