"""The files that a task's configs become in its container. Pure; called by agent/worker/supervisor.py.

Each reference is a file of its own, since two may show one config with different owners. A config with the template
driver `golang` is filled in from the task, as Docker does it: {{.Service.Name}}, {{env "NAME"}}, {{config "TARGET"}}.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.runtime import api
from common import errors, model, templates

Configs = Mapping[str, model.ConfigRecord]
_GOLANG: Final = "golang"
_MAX_ID: Final = (1 << 32) - 2  # the last one means "unchanged" to the kernel


@dataclass(frozen=True, slots=True)
class File:
    """One file of a task: what is in it, and where it goes in the container."""

    target: str
    data: bytes
    uid: int
    gid: int
    mode: int


def files(task: model.Task, known: Configs, context: templates.Context) -> tuple[File, ...]:
    """Every file, in the order of the references. Raises errors.InvalidArgument for one that cannot be made."""
    spec = task.spec.container or model.ContainerSpec()
    return tuple(
        _file(reference, reference.file, spec, known, context)
        for reference in spec.configs
        if reference.file is not None
    )


def mounts(made: tuple[File, ...], paths: tuple[str, ...]) -> tuple[api.Mount, ...]:
    """The mounts that show files, which lie at `paths` on the node."""
    return tuple(
        api.Mount("bind", path, file.target, read_only=True, listed=False)
        for file, path in zip(made, paths, strict=True)
    )


def _file(
    reference: model.ConfigReference, target: model.FileTarget, spec: model.ContainerSpec,
    known: Configs, context: templates.Context,
) -> File:  # fmt: skip
    return File(
        target=posixpath.normpath(posixpath.join("/", target.name)),
        data=_content(_record(reference, known), spec, known, context),
        uid=_number(target.uid, "uid", reference),
        gid=_number(target.gid, "gid", reference),
        mode=target.mode & 0o7777,
    )


def _record(reference: model.ConfigReference, known: Configs) -> model.ConfigRecord:
    record = known.get(reference.config_id)
    if record is None:
        raise errors.InvalidArgument(f"config {reference.config_name} is not there any more")
    return record


def _number(text: str, what: str, reference: model.ConfigReference) -> int:
    """A user's or group's number; Docker takes no names either."""
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and int(text) <= _MAX_ID):
        raise errors.InvalidArgument(f'{what} of config {reference.config_name} must be a number: "{text}"')
    return int(text)


def _content(
    record: model.ConfigRecord, spec: model.ContainerSpec, known: Configs, context: templates.Context
) -> bytes:
    """A config's data; a template's, filled in."""
    if record.templating is None or not record.templating.name:
        return record.data
    if record.templating.name != _GOLANG:
        raise errors.InvalidArgument(
            f'unrecognized template type "{record.templating.name}" of config {record.name}'
        )
    functions = {"env": lambda name: _env(spec, name), "config": lambda name: _other(spec, known, name)}
    try:
        text = templates.expand(record.data.decode("utf-8", "surrogateescape"), context, functions)
    except errors.InvalidArgument as exc:
        raise errors.InvalidArgument(
            f"failed to expand templated config {record.name}: {exc.message}"
        ) from exc
    return text.encode("utf-8", "surrogateescape")


def _env(spec: model.ContainerSpec, name: str) -> str:
    for entry in spec.env:
        key, equals, value = entry.partition("=")
        if key == name and equals:
            return value
    return ""


def _other(spec: model.ContainerSpec, known: Configs, target: str) -> str:
    """Another config of the same task, by the name of its file, as it is."""
    for reference in spec.configs:
        if reference.file is not None and reference.file.name == target:
            return _record(reference, known).data.decode("utf-8", "surrogateescape")
    raise errors.InvalidArgument(f"config target {target} not found")
