"""Docker's placeholders in a service's specification: {{.Service.Name}}, {{.Task.Slot}}, {{.Node.Hostname}} … Pure.

The part of Go's template language that services use: fields, and `index MAP "key"` for labels, with spaces and trim marks. Used
by agent/worker/container.py for environment, hostname and mounts, and by managers, which refuse what no task could be
made from; texts of errors are Docker's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from common import errors, model

_ACTION: Final = re.compile(r"(\s*\{\{-\s+|\{\{\s*)(.*?)(\s+-\}\}\s*|\s*\}\})", re.DOTALL)
_FIELD: Final = re.compile(r"(?:\.[A-Za-z_]\w*)+")
_INDEX: Final = re.compile(r'index\s+((?:\.[A-Za-z_]\w*)+)\s+"((?:[^"\\]|\\.)*)"')
_CALL: Final = re.compile(r'(\w+)\s+"((?:[^"\\]|\\.)*)"')
Functions = Mapping[str, Callable[[str], str]]  # what placeholders may call by name: {{env "HOME"}}
_NO_FUNCTIONS: Final[Functions] = {}
_TYPES: Final[Mapping[str, str]] = {
    "": "*template.Context",
    ".Service": "template.Service",
    ".Node": "template.Node",
    ".Node.Platform": "template.Platform",
    ".Task": "template.Task",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What placeholders are filled from."""

    service_id: str = ""
    service_name: str = ""
    service_labels: Mapping[str, str] = field(default_factory=dict)
    node_id: str = ""
    node_hostname: str = ""
    node_os: str = "linux"
    node_architecture: str = ""
    task_id: str = ""
    task_name: str = ""
    task_slot: str = ""

    def fields(self) -> Mapping[str, str | Mapping[str, str]]:
        """Every field by its path."""
        return {
            ".Service.ID": self.service_id, ".Service.Name": self.service_name,
            ".Service.Labels": self.service_labels, ".Node.ID": self.node_id,
            ".Node.Hostname": self.node_hostname, ".Node.Platform.Architecture": self.node_architecture,
            ".Node.Platform.OS": self.node_os, ".Task.ID": self.task_id, ".Task.Name": self.task_name,
            ".Task.Slot": self.task_slot,
        }  # fmt: skip


def task_context(task: model.Task, node_id: str, description: model.NodeDescription) -> Context:
    """The context of a task on this node. A global service's task has its node's id for a slot, as in Docker."""
    return Context(
        service_id=task.service_id,
        service_name=task.service_name,
        service_labels=task.service_labels,
        node_id=node_id,
        node_hostname=description.hostname,
        node_os=description.platform.os,
        node_architecture=description.platform.architecture,
        task_id=task.id,
        task_name=task.name,
        task_slot=str(task.slot) if task.slot else node_id,
    )


def _go_map(values: Mapping[str, str]) -> str:
    return "map[" + " ".join(f"{key}:{values[key]}" for key in sorted(values)) + "]"


def _lookup(text: str, at: str, path: str, context: Context) -> str | Mapping[str, str]:
    found = context.fields().get(path)
    if found is not None:
        return found
    parent = ""
    for name in path.split(".")[1:]:
        if parent not in _TYPES:
            break
        if not any(f"{parent}.{name}" == p or p.startswith(f"{parent}.{name}.") for p in context.fields()):
            raise errors.InvalidArgument(
                f'template: expansion:{at}: executing "expansion" at <{parent}.{name}>: '
                f"can't evaluate field {name} in type {_TYPES[parent]}"
            )
        parent = f"{parent}.{name}"
    raise errors.InvalidArgument(f'template: expansion:{at}: executing "expansion" at <{path}>: not a value')


def _evaluate(text: str, match: re.Match[str], context: Context, functions: Functions) -> str:
    code = match.group(2)
    start = match.start(2)
    line_start = text.rfind("\n", 0, start) + 1
    at = f"{text.count(chr(10), 0, start) + 1}:{start - line_start}"
    if _FIELD.fullmatch(code):
        value = _lookup(text, at, code, context)
        return value if isinstance(value, str) else _go_map(value)
    if index := _INDEX.fullmatch(code):
        value = _lookup(text, at, index.group(1), context)
        if not isinstance(value, str):
            return value.get(index.group(2), "")
    if (call := _CALL.fullmatch(code)) and (function := functions.get(call.group(1))):
        return function(call.group(2))
    raise errors.InvalidArgument(f"template: expansion:{at}: unexpected {code!r} in command")


def expand(text: str, context: Context, functions: Functions = _NO_FUNCTIONS) -> str:
    """`text` with its placeholders filled in; raises errors.InvalidArgument for one that means nothing."""
    if "{{" not in text:
        return text
    parts: list[str] = []
    end = 0
    for match in _ACTION.finditer(text):
        parts += [text[end : match.start()], _evaluate(text, match, context, functions)]
        end = match.end()
    rest = text[end:]
    if "{{" in rest:
        raise errors.InvalidArgument("template: expansion:1: unclosed action")
    return "".join([*parts, rest])


def expand_env(env: tuple[str, ...], context: Context) -> tuple[str, ...]:
    """Environment entries with their values filled in; names are taken as they are."""
    return tuple(_entry(entry, context) for entry in env)


def _entry(entry: str, context: Context) -> str:
    name, equals, value = entry.partition("=")
    return name + equals + _named(f'env "{entry}"', "env", value, context)


def expand_hostname(hostname: str, context: Context) -> str:
    """A hostname filled in."""
    return _named("", "hostname", hostname, context)


def expand_mount(mount: model.Mount, context: Context) -> model.Mount:
    """A mount with source, target and labels filled in."""
    source = _named(f'mount source "{mount.source}"', "mounts", mount.source, context)
    target = _named(f'mount target "{mount.target}"', "mounts", mount.target, context)
    return replace(mount, source=source, target=target)


def check(spec: model.ContainerSpec) -> None:
    """Raises errors.InvalidArgument for a placeholder that can't be filled in, whatever the task."""
    context = Context()
    expand_env(spec.env, context)
    expand_hostname(spec.hostname, context)
    for mount in spec.mounts:
        expand_mount(mount, context)


def _named(what: str, part: str, text: str, context: Context) -> str:
    try:
        return expand(text, context)
    except errors.InvalidArgument as exc:
        inner = f"expanding {what}: " if what else ""
        raise errors.InvalidArgument(f"expanding {part} failed: {inner}{exc.message}") from exc
