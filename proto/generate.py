"""Generates common/pb (protobuf modules) and common/model/generated.py (dataclasses and stubs) from proto/*.proto.

Run by `make proto`; CI runs it into a scratch folder and compares. The dataclasses are what the store and all pure
code use; protobuf only appears where bytes are made. Rules: message -> frozen slotted dataclass; enum -> IntEnum;
repeated -> tuple; map -> Mapping; Timestamp -> int nanoseconds since the epoch (0: unset); a message field is
`X | None`, or always there when marked (empty) = KEEP; `optional` scalars are `T | None`.
"""

from __future__ import annotations

import importlib
import pathlib
import re
import sys
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, ServiceDescriptor
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Files whose messages become dataclasses, in order of dependence. containerd.proto is wire only.
MODELS = [
    "options",
    "types",
    "specs",
    "objects",
    "control",
    "ca",
    "check",
    "dispatcher",
    "local",
    "backup",
    "raft",
]
TIMESTAMP = "google.protobuf.Timestamp"
SCALARS = {
    FieldDescriptor.CPPTYPE_INT32: ("int", "0"),
    FieldDescriptor.CPPTYPE_INT64: ("int", "0"),
    FieldDescriptor.CPPTYPE_UINT32: ("int", "0"),
    FieldDescriptor.CPPTYPE_UINT64: ("int", "0"),
    FieldDescriptor.CPPTYPE_DOUBLE: ("float", "0.0"),
    FieldDescriptor.CPPTYPE_FLOAT: ("float", "0.0"),
    FieldDescriptor.CPPTYPE_BOOL: ("bool", "False"),
}


def compile_protos(out: pathlib.Path) -> None:
    """Runs protoc and makes the modules import each other as common.pb.*."""
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    files = sorted(p.name for p in (ROOT / "proto").glob("*.proto"))
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{include}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    for name in files:
        stem = name.removesuffix(".proto")
        for suffix in ("_pb2.py", "_pb2.pyi"):
            path = out / (stem + suffix)
            text = re.sub(
                r"^import (\w+_pb2) as", r"from common.pb import \1 as", path.read_text(), flags=re.M
            )
            path.write_text(text)


def python_name(descriptor: Descriptor | EnumDescriptor) -> str:
    """Nested messages get their parent's name in front: NetworkUse.Service -> NetworkUseService."""
    name = descriptor.name
    parent = descriptor.containing_type
    return python_name(parent) + name if parent is not None else name


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


class Field:
    """One field's type, default, and the two expressions that convert it."""

    def __init__(self, field: FieldDescriptor, options: Any) -> None:
        self.field = field
        self.name = field.name
        self.keep = field.GetOptions().Extensions[options.empty] == options.KEEP
        self.optional = (
            field.has_presence and field.message_type is None and field.containing_oneof is not None
        )
        self.item, self.zero = self._item()

    def _item(self) -> tuple[str, str]:
        f = self.field
        if f.enum_type is not None:
            name = python_name(f.enum_type)
            return name, f"{name}.{f.enum_type.values[0].name}"
        if f.message_type is not None:
            if f.message_type.full_name == TIMESTAMP:
                return "int", "0"
            return python_name(f.message_type), "None"
        if f.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return ("bytes", 'b""') if f.type == FieldDescriptor.TYPE_BYTES else ("str", '""')
        return SCALARS[f.cpp_type]

    @property
    def message(self) -> bool:
        return self.field.message_type is not None and self.field.message_type.full_name != TIMESTAMP

    @property
    def timestamp(self) -> bool:
        return self.field.message_type is not None and self.field.message_type.full_name == TIMESTAMP

    def declaration(self) -> str:
        if is_map(self.field):
            return f"{self.name}: Mapping[str, str] = field(default_factory=lambda: EMPTY)"
        if self.field.is_repeated:
            return f"{self.name}: tuple[{self.item}, ...] = ()"
        if self.message:
            if self.keep:
                return f"{self.name}: {self.item} = field(default_factory=lambda: {self.item}())"
            return f"{self.name}: {self.item} | None = None"
        if self.optional:
            return f"{self.name}: {self.item} | None = None"
        return f"{self.name}: {self.item} = {self.zero}"

    def to_pb(self) -> str:
        value = f"self.{self.name}"
        if is_map(self.field):
            return f"dict({value})"
        if self.field.is_repeated:
            return f"[x.to_pb() for x in {value}]" if self.message else value
        if self.message:
            return f"{value}.to_pb()" if self.keep else f"None if {value} is None else {value}.to_pb()"
        if self.timestamp:
            return f"to_timestamp({value})"
        if self.field.enum_type is not None:
            return f"{value}.value" if not self.optional else value
        return value

    def from_pb(self) -> str:
        value = f"m.{self.name}"
        if is_map(self.field):
            return f"dict({value}) if {value} else EMPTY"
        if self.field.is_repeated:
            if self.message:
                return f"tuple([{self.item}.from_pb(x) for x in {value}]) if {value} else ()"
            if self.field.enum_type is not None:
                return f"tuple([{self.item}(x) for x in {value}])"
            return f"tuple({value})"
        if self.message:
            if self.keep:
                return f"{self.item}.from_pb({value})"
            return f"{self.item}.from_pb({value}) if m.HasField({self.name!r}) else None"
        if self.timestamp:
            return f"from_timestamp({value}) if m.HasField({self.name!r}) else 0"
        plain = f"{self.item}({value})" if self.field.enum_type is not None else value
        return f"{plain} if m.HasField({self.name!r}) else None" if self.optional else plain


def enum_source(enum: EnumDescriptor) -> list[str]:
    lines = [f"class {python_name(enum)}(IntEnum):"]
    lines += [f"    {value.name} = {value.number}" for value in enum.values]
    zero = enum.values[0].name
    lines += [
        "",
        "    @classmethod",
        f"    def _missing_(cls, value: object) -> {python_name(enum)}:",
        f"        return cls.{zero}",
        "",
        "",
    ]
    return lines


def message_source(message: Descriptor, module: str, options: Any) -> list[str]:
    name = python_name(message)
    path = f"{module}.{message.full_name.removeprefix('shoal.')}"
    fields = [Field(f, options) for f in message.fields]
    lines = ["@dataclass(frozen=True, slots=True)", f"class {name}(Message):"]
    lines += [f"    {f.declaration()}" for f in fields]
    lines += ["", f"    def to_pb(self) -> {path}:", f"        return {path}("]
    lines += [f"            {f.name}={f.to_pb()}," for f in fields]
    lines += [
        "        )",
        "",
        "    @classmethod",
        f"    def from_pb(cls, m: {path}) -> {name}:",
        "        return cls(",
    ]
    lines += [f"            {f.from_pb()}," for f in fields]
    lines += [
        "        )",
        "",
        "    @classmethod",
        f"    def from_bytes(cls, data: bytes) -> {name}:",
        f"        return cls.from_pb({path}.FromString(data))",
        "",
        "",
    ]
    return lines


def stub_source(service: ServiceDescriptor) -> list[str]:
    lines = [
        f"class {service.name}Stub:",
        f'    """Client of {service.full_name}; requests and answers are dataclasses."""',
        "",
        "    def __init__(self, channel: grpc.aio.Channel) -> None:",
    ]
    for method in service.methods:
        request, reply = python_name(method.input_type), python_name(method.output_type)
        kind = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}[
            method.client_streaming, method.server_streaming
        ]
        typed = {
            "unary_unary": "UnaryUnaryMultiCallable",
            "unary_stream": "UnaryStreamMultiCallable",
            "stream_stream": "StreamStreamMultiCallable",
        }[kind]
        lines += [
            f"        self.{method.name}: grpc.aio.{typed}[{request}, {reply}] = channel.{kind}(",
            f'            "/{service.full_name}/{method.name}",',
            "            request_serializer=Message.to_bytes,",
            f"            response_deserializer={reply}.from_bytes,",
            "        )",
        ]
    return [*lines, "", ""]


HEADER = '''"""Generated by proto/generate.py from proto/*.proto: do not edit."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from common.model.base import EMPTY, Message, from_timestamp, to_timestamp
'''


def walk(messages: list[Descriptor]) -> list[Descriptor]:
    out = []
    for message in messages:
        if not message.GetOptions().map_entry:
            out += [*walk(list(message.nested_types)), message]
    return out


def model_source() -> tuple[str, str]:
    """The text of generated.py and of stubs.py."""
    options = importlib.import_module("common.pb.options_pb2")
    body: list[str] = []
    stubs: list[str] = []
    names: list[str] = []
    for stem in MODELS:
        module = importlib.import_module(f"common.pb.{stem}_pb2")
        descriptor = module.DESCRIPTOR
        messages = walk(list(descriptor.message_types_by_name.values()))
        enums = [*descriptor.enum_types_by_name.values(), *(e for m in messages for e in m.enum_types)]
        for enum in enums:
            body += enum_source(enum)
            names.append(python_name(enum))
        for message in messages:
            body += message_source(message, f"{stem}_pb2", options)
            names.append(python_name(message))
        for service in descriptor.services_by_name.values():
            stubs += stub_source(service)
    imports = (
        "from common.pb import (\n"
        + "".join(f"    {s}_pb2,\n" for s in sorted(MODELS) if s != "options")
        + ")\n\n\n"
    )
    exported = "__all__ = [\n" + "".join(f'    "{n}",\n' for n in sorted(names)) + "]\n"
    model = HEADER.replace("from typing import TYPE_CHECKING\n", "") + imports + "\n".join(body) + exported
    stub_header = (
        '"""Generated by proto/generate.py: typed clients of the services in proto/*.proto. Do not edit."""\n\n'
        "from __future__ import annotations\n\nimport grpc\nimport grpc.aio\n\n"
        "from common.model.base import Message\nfrom common.model.generated import *  # noqa: F403\n\n\n"
    )
    return model, stub_header + "\n".join(stubs).rstrip() + "\n"


def main() -> None:
    """generate.py [OUT]: OUT is a tree with common/pb and common/model (default: this one)."""
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    (out / "common/pb").mkdir(parents=True, exist_ok=True)
    (out / "common/model").mkdir(parents=True, exist_ok=True)
    compile_protos(out / "common/pb")
    sys.path.insert(0, str(ROOT))
    model, stubs = model_source()
    (out / "common/model/generated.py").write_text(model)
    (out / "common/model/stubs.py").write_text(stubs)


if __name__ == "__main__":
    main()
