"""What is wrong with a config, or with a service that uses one, in Docker's words. Pure; used by the control service.

What needs the cluster's other objects is asked inside the transaction that writes, so that nothing can come between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from common import errors, model
from manager.store.view import ReadView

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?")
_NAME_LENGTH: Final = 64
_DATA_BYTES: Final = 1000 << 10


def config(spec: model.ConfigSpec) -> None:
    """A config's name and the size of its data."""
    if not spec.name:
        raise errors.InvalidArgument("name must be provided")
    if len(spec.name) > _NAME_LENGTH or not _NAME.fullmatch(spec.name):
        raise errors.InvalidArgument(
            f"invalid name, only {_NAME_LENGTH} [a-zA-Z0-9-_.] characters allowed, "
            "and the start and end character must be [a-zA-Z0-9]"
        )
    if not 0 < len(spec.data) < _DATA_BYTES:
        raise errors.InvalidArgument(f"config data must be larger than 0 and less than {_DATA_BYTES} bytes")


def name_free(view: ReadView, name: str) -> None:
    """Names of configs are unique."""
    if view.configs.by_name(name) is not None:
        raise errors.AlreadyExists(f"config {name} already exists")


def removable(view: ReadView, config: model.Config) -> None:
    """No service's specification may name a config that goes."""
    users = sorted(service.spec.name for service in view.services.all() if _uses(service, config.id))
    if users:
        word = "service" if len(users) == 1 else "services"
        raise errors.InvalidArgument(
            f"config '{config.spec.name}' is in use by the following {word}: {', '.join(users)}"
        )


def _uses(service: model.Service, config_id: str) -> bool:
    return any(reference.config_id == config_id for reference in references(service.spec))


def references(spec: model.ServiceSpec) -> tuple[model.ConfigReference, ...]:
    """The configs that a service's containers are to have."""
    return spec.task.container.configs if spec.task.container is not None else ()


def service(given: Sequence[model.ConfigReference]) -> None:
    """What can be said of a service's references without the store; each goes to a file of its own."""
    targets: dict[str, str] = {}
    for reference in given:
        if not reference.config_id or not reference.config_name:
            raise errors.InvalidArgument("malformed config reference")
        if reference.file is None:
            if reference.runtime is None:
                raise errors.InvalidArgument("malformed config reference, no target provided")
            continue
        target = reference.file.name
        if not target:
            raise errors.InvalidArgument("malformed file config reference, invalid target file name provided")
        if target in targets:
            raise errors.InvalidArgument(
                f"config references '{targets[target]}' and '{reference.config_name}' "
                f"have a conflicting target: '{target}'"
            )
        targets[target] = reference.config_name


def present(view: ReadView, spec: model.ServiceSpec) -> None:
    """Every config that a service names is there, by id and by name."""
    missing = []
    for reference in references(spec):
        found = view.configs.get(reference.config_id)
        if found is None or found.spec.name != reference.config_name:
            missing.append(reference.config_name)
    if missing:
        word = "config" if len(missing) == 1 else "configs"
        raise errors.InvalidArgument(f"{word} not found: {', '.join(missing)}")
