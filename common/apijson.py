"""JSON of the Engine API for the generated dataclasses, driven by the protobuf descriptors and their options.

No object is mapped by hand: json_name is the key, (api) says what may leave at all, (empty) what an empty value
becomes, (wrap) what is put around it, (word) and (invalid) how enums are spoken. A plan for each class is made once,
when it is first used. Called by agent/engine for everything that the store holds; pure.

Rules beside the options: int64 are numbers; timestamps are RFC 3339 with nanoseconds, the zero time
"0001-01-01T00:00:00Z"; bytes are base64; keys come in Docker's order, which is the order in the .proto files. On
input, keys are read case-insensitively, unknown ones are ignored, null is "not said", and a field with a json_name of
its own is read even where it never leaves (a secret's Data).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from common import errors, gojson, model
from common.pb import objects_pb2, options_pb2, specs_pb2, types_pb2

M = TypeVar("M", bound=model.Message)
Convert = Callable[[Any], Any]

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TIMESTAMP: Final = "google.protobuf.Timestamp"
_API: Any = options_pb2.api
_EMPTY: Any = options_pb2.empty
_WRAP: Any = options_pb2.wrap
_INVALID: Any = options_pb2.invalid
_WORD: Any = options_pb2.word
_INTEGERS: Final[Mapping[int, tuple[str, int, int]]] = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("uint32", 0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, (1 << 64) - 1),
}
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")

# What a client of an older API version can't mean: these keys of a service's specification are dropped on input.
ADDED_IN: Final[tuple[tuple[tuple[int, int], str], ...]] = (
    ((1, 40), "TaskTemplate.ContainerSpec.Sysctls"),
    ((1, 40), "TaskTemplate.ContainerSpec.Privileges.CredentialSpec.Config"),
    ((1, 40), "TaskTemplate.Placement.MaxReplicas"),
    ((1, 41), "TaskTemplate.ContainerSpec.CapabilityAdd"),
    ((1, 41), "TaskTemplate.ContainerSpec.CapabilityDrop"),
    ((1, 41), "TaskTemplate.ContainerSpec.Ulimits"),
    ((1, 41), "TaskTemplate.Resources.Limits.Pids"),
    ((1, 41), "Mode.ReplicatedJob"),
    ((1, 41), "Mode.GlobalJob"),
    ((1, 44), "TaskTemplate.ContainerSpec.Healthcheck.StartInterval"),
    ((1, 44), "TaskTemplate.ContainerSpec.Privileges.Seccomp"),
    ((1, 44), "TaskTemplate.ContainerSpec.Privileges.AppArmor"),
    ((1, 44), "TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges"),
    ((1, 46), "TaskTemplate.ContainerSpec.OomScoreAdj"),
)


def encode(obj: model.Message) -> dict[str, Any]:
    """`obj` as the JSON object that the Engine API gives out."""
    out: dict[str, Any] = {}
    for field in _plan(type(obj)).leaving:
        value = getattr(obj, field.name)
        if value is not None and not field.empty(value):
            out[field.key] = field.encode(value)
        elif field.when_empty is not _OMITTED:
            out[field.key] = field.when_empty() if callable(field.when_empty) else field.when_empty
    return out


def dumps(obj: model.Message) -> bytes:
    """`encode` as bytes, written as Go does: compact, UTF-8 as it is."""
    return dump_json(encode(obj))


def dump_json(value: object) -> bytes:
    """Any JSON value as bytes, compact."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def decode(cls: type[M], data: object) -> M:
    """A `cls` from the JSON value that a client sent; raises InvalidArgument for what isn't one."""
    return _decode(cls, {} if data is None else data, ())


def without_newer(spec: Mapping[str, Any], version: tuple[int, ...]) -> Mapping[str, Any]:
    """A service's specification without what API `version` doesn't know."""
    for since, path in ADDED_IN:
        if version < since:
            spec = _dropped(spec, path.lower().split("."))
    return spec


def _dropped(value: Mapping[str, Any], path: list[str]) -> Mapping[str, Any]:
    head, *rest = path
    out = {}
    for key, item in value.items():
        if key.lower() != head:
            out[key] = item
        elif rest:
            out[key] = _dropped(item, rest) if isinstance(item, Mapping) else item
    return out


# ---- plans


class _Omitted:
    """Marks a field that is left out when empty."""


_OMITTED: Final = _Omitted()


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field goes out and comes in; `decode` takes the JSON value and the path to it."""

    name: str
    key: str
    leaves: bool
    encode: Convert
    decode: Callable[[Any, tuple[str, ...]], Any]
    empty: Callable[[Any], bool]
    when_empty: Any  # _OMITTED, a value, or a function that makes one


@dataclass(frozen=True, slots=True)
class _Plan:
    leaving: tuple[_Field, ...]
    reading: Mapping[str, _Field]  # by the key in lower case


_DESCRIPTORS: Final[Mapping[str, Descriptor]] = {
    name: descriptor
    for module in (types_pb2, specs_pb2, objects_pb2)
    for name, descriptor in module.DESCRIPTOR.message_types_by_name.items()
}


_PLANS: Final[dict[type, _Plan]] = {}


def _plan(cls: type[model.Message]) -> _Plan:
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _make_plan(cls)
    return plan


def _make_plan(cls: type[model.Message]) -> _Plan:
    descriptor = _DESCRIPTORS.get(cls.__name__)
    if descriptor is None:
        raise TypeError(f"{cls.__name__} is not part of the Engine API")
    fields = [_field(cls, f) for f in descriptor.fields]
    reading = {f.key.lower(): f for f in fields if f.leaves or f.key != _camel(f.name)}
    return _Plan(tuple(f for f in fields if f.leaves), reading)


def _camel(name: str) -> str:
    """protoc's own json_name, for a field that was given none."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _field(cls: type[model.Message], field: FieldDescriptor) -> _Field:
    options: Any = field.GetOptions()
    wrap = options.Extensions[_WRAP]
    outward, inward = _item(cls, field)
    blank: Any = _zero(field)
    if wrap:
        outward, inward = _wrapped(wrap, outward, inward)
        blank = dict
    rule = options.Extensions[_EMPTY]
    when_empty = {options_pb2.OMIT: _OMITTED, options_pb2.NULL: None}.get(rule, blank)
    if _is_map(field):
        outward, inward = dict, _map_reader(cls)
    elif field.is_repeated:
        outward, inward = _list_writer(outward), _list_reader(cls, _go_type(field), inward)
    return _Field(
        field.name, field.json_name, options.Extensions[_API], outward, inward, _emptiness(field), when_empty
    )


def _has_presence(field: FieldDescriptor) -> bool:
    """Whether only None is empty: messages, and scalars marked optional."""
    message = field.message_type is not None and field.message_type.full_name != _TIMESTAMP
    return not field.is_repeated and (message or field.containing_oneof is not None)


def _emptiness(field: FieldDescriptor) -> Callable[[Any], bool]:
    if _has_presence(field):
        return lambda value: False
    if field.enum_type is not None and not field.is_repeated:
        blank = {v.number for v in field.enum_type.values if not _word(v)}
        return lambda value: value in blank
    return lambda value: not value


def _zero(field: FieldDescriptor) -> Any:
    """What KEEP writes for an empty value."""
    if _is_map(field):
        return dict
    if field.is_repeated:
        return list
    if field.message_type is not None:
        return ZERO_TIME if field.message_type.full_name == _TIMESTAMP else dict
    if field.enum_type is not None:
        return ""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return ""
    return False if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else 0


def _item(
    cls: type[model.Message], field: FieldDescriptor
) -> tuple[Convert, Callable[[Any, tuple[str, ...]], Any]]:
    """Both directions for one value of a field."""
    owner = cls.__name__
    if field.enum_type is not None:
        return _enum(owner, field.enum_type)
    if field.message_type is not None and not _is_map(field):
        if field.message_type.full_name == _TIMESTAMP:
            return format_time, lambda v, path: _read_time(_typed(v, str, owner, path, "Time"))
        target: type[model.Message] = getattr(model, field.message_type.name)
        return encode, lambda v, path: _decode(target, _typed(v, dict, owner, path, target.__name__), path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return _to_base64, lambda v, path: _from_base64(_typed(v, str, owner, path, "[]uint8"))
        return _same, lambda v, path: _clean(_typed(v, str, owner, path, "string"))
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _same, lambda v, path: _typed(v, bool, owner, path, "bool")
    if field.cpp_type in _INTEGERS:
        kind, low, high = _INTEGERS[field.cpp_type]
        return _same, lambda v, path: _integer(v, kind, low, high, owner, path)
    return _float, lambda v, path: float(_typed(v, (int, float), owner, path, "float32"))


def _same(value: Any) -> Any:
    return value


def _float(value: float) -> float:
    """Go writes 0, not 0.0."""
    return int(value) if value.is_integer() else value


def _to_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _go_type(field: FieldDescriptor) -> str:
    """What Go calls one item of a list, in its complaints."""
    if field.message_type is not None:
        return str(field.message_type.name)
    return str(field.enum_type.name) if field.enum_type is not None else "string"


def _list_writer(outward: Convert) -> Convert:
    return lambda value: [outward(x) for x in value]


def _list_reader(
    cls: type[model.Message], kind: str, inward: Callable[[Any, tuple[str, ...]], Any]
) -> Callable[[Any, tuple[str, ...]], Any]:
    def read(value: Any, path: tuple[str, ...]) -> tuple[Any, ...]:
        items: Iterable[Any] = _typed(value, list, cls.__name__, path, "[]" + kind)
        return tuple([inward(x, path) for x in items if x is not None])

    return read


def _map_reader(cls: type[model.Message]) -> Callable[[Any, tuple[str, ...]], Any]:
    def read(value: Any, path: tuple[str, ...]) -> dict[str, str]:
        items: Mapping[str, Any] = _typed(value, dict, cls.__name__, path, "map[string]string")
        return {
            _clean(k): "" if v is None else _clean(_typed(v, str, cls.__name__, path, "string"))
            for k, v in items.items()
        }

    return read


def _wrapped(
    wrap: str, outward: Convert, inward: Callable[[Any, tuple[str, ...]], Any]
) -> tuple[Convert, Callable[[Any, tuple[str, ...]], Any]]:
    def read(value: Any, path: tuple[str, ...]) -> Any:
        for key, item in _typed(value, dict, "", path, wrap).items():
            if key.lower() == wrap.lower() and item is not None:
                return inward(item, (*path, wrap))
        return 0

    return lambda value: {wrap: outward(value)} if value else {}, read


# ---- enums


def _word(value: Any) -> str:
    word: str = value.GetOptions().Extensions[_WORD]
    return word


def _enum(owner: str, enum: EnumDescriptor) -> tuple[Convert, Callable[[Any, tuple[str, ...]], Any]]:
    cls: type[IntEnum] = getattr(model, enum.name)
    words = {v.number: _word(v) for v in enum.values}
    values = {word: cls(number) for number, word in reversed(words.items())}
    options: Any = enum.GetOptions()
    text: str = options.Extensions[_INVALID] or f"invalid {enum.name}: %s"

    def read(value: Any, path: tuple[str, ...]) -> IntEnum:
        word = _typed(value, str, owner, path, enum.name)
        found = values.get(word.lower())
        if found is None:
            raise errors.InvalidArgument(text.replace("%s", _clean(word)))
        return found

    return words.__getitem__, read


def word(value: IntEnum) -> str:
    """Docker's word for an enum's value: model.NodeState.NODE_READY is "ready"."""
    return _words(type(value))[value]


@cache
def _words(cls: type[IntEnum]) -> Mapping[int, str]:
    enum = types_pb2.DESCRIPTOR.enum_types_by_name[cls.__name__]
    return {v.number: _word(v) for v in enum.values}


def parse_word(cls: type[IntEnum], text: str) -> IntEnum | None:
    """The value that Docker's word stands for, or None."""
    return next((cls(n) for n, w in _words(cls).items() if w == text.lower()), None)


# ---- input


def _decode(cls: type[M], data: object, path: tuple[str, ...]) -> M:
    items: Mapping[str, Any] = _typed(data, dict, cls.__name__, path, cls.__name__)
    reading = _plan(cls).reading
    values: dict[str, Any] = {}
    for key, value in items.items():
        field = reading.get(key.lower())
        if field is not None and value is not None:
            values[field.name] = field.decode(value, (*path, field.key))
    return cls(**values)


def _typed(value: Any, kind: Any, owner: str, path: tuple[str, ...], wanted: str) -> Any:
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise gojson.mismatch(gojson.kind(value), owner, path, wanted)


def _integer(value: Any, kind: str, low: int, high: int, owner: str, path: tuple[str, ...]) -> int:
    number = _typed(value, (int, float), owner, path, kind)
    if not isinstance(number, int) or not low <= number <= high:
        raise gojson.mismatch(f"number {number}", owner, path, kind)
    return number


def _clean(text: str) -> str:
    """Lone surrogates, which JSON can spell and UTF-8 can't, become U+FFFD as in Go."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError) as exc:
        wrong = next((at for at, sign in enumerate(text) if sign not in _BASE64), len(text))
        raise errors.InvalidArgument(f"illegal base64 data at input byte {wrong}") from exc


# ---- time


def format_time(ns: int) -> str:
    """RFC 3339 with as many decimals as it takes, as Go's RFC3339Nano; 0 is the zero time."""
    if not ns:
        return ZERO_TIME
    seconds, fraction = divmod(ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time, 0 for the zero time; raises ValueError."""
    if text == ZERO_TIME:
        return 0
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    day, clock, fraction, zone = match.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "")[:9].ljust(9, "0"))


def _read_time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError as exc:
        raise errors.InvalidArgument(
            f'parsing time "{_clean(text)}" as "2006-01-02T15:04:05Z07:00": cannot parse it'
        ) from exc
