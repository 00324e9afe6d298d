"""Placement constraints: `node.role == manager`, `node.labels.disk != ssd`. Pure.

Used by the filters, and by control, which refuses a spec with one that cannot be read.

    key                    compared with
    node.id                the node's id
    node.hostname          its host name
    node.ip                its address: an IP or a subnet
    node.role              manager or worker
    node.platform.os|arch  what its agent says
    node.labels.KEY        a label of its spec; one that is missing is ""
    engine.labels.KEY      a label of its engine
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from common import model

_OPERATORS: Final = ("==", "!=")
_KEY: Final = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE | re.ASCII)
_VALUE: Final = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE | re.ASCII)
_NODE_LABEL: Final = "node.labels."
_ENGINE_LABEL: Final = "engine.labels."


class ConstraintError(ValueError):
    """A constraint that cannot be read; the text is Docker's."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One comparison."""

    key: str
    equal: bool
    value: str

    def matches(self, node: model.Node) -> bool:
        """Whether `node` satisfies it. An unknown key is never satisfied."""
        if self.key.lower() == "node.ip":
            return self._matches_address(node.status.addr)
        found = lookup(node, self.key)
        return found is not None and (found.lower() == self.value.lower()) == self.equal

    def _matches_address(self, address: str) -> bool:
        try:
            inside = ipaddress.ip_address(address) in ipaddress.ip_network(self.value, strict=False)
        except ValueError:
            return False
        return inside == self.equal


def parse(expressions: Iterable[str]) -> tuple[Constraint, ...]:
    """All constraints of a placement; raises ConstraintError for the first that makes no sense."""
    return tuple(_parse(expression) for expression in expressions)


def _parse(expression: str) -> Constraint:
    for operator in _OPERATORS:
        key, found, value = expression.partition(operator)
        if not found:
            continue
        key, value = key.strip(), value.strip()
        if not _KEY.fullmatch(key):
            raise ConstraintError(f"key '{key}' is invalid")
        if not _VALUE.fullmatch(value):
            raise ConstraintError(f"value '{value}' is invalid")
        return Constraint(key, operator == "==", value)
    raise ConstraintError(f"constraint expected one operator from {', '.join(_OPERATORS)}")


def lookup(node: model.Node, key: str) -> str | None:
    """What a key means for this node; None for an unknown key."""
    small = key.lower()
    for prefix, labels in ((_NODE_LABEL, node.spec.labels), (_ENGINE_LABEL, node.description.engine.labels)):
        if small.startswith(prefix) and len(key) > len(prefix):
            return labels.get(key[len(prefix) :], "")
    return _facts(node).get(small)


def _facts(node: model.Node) -> Mapping[str, str]:
    return {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": node.role.name.lower(),
        "node.platform.os": node.description.platform.os,
        "node.platform.arch": node.description.platform.architecture,
    }


def satisfied(constraints: Iterable[Constraint], node: model.Node) -> bool:
    """Whether a node satisfies all of them."""
    return all(constraint.matches(node) for constraint in constraints)
