"""Constraints: reading and matching."""

from __future__ import annotations

import pytest

from common import model
from manager.scheduler import constraints

NODE = model.Node(
    id="abc",
    role=model.NodeRole.MANAGER,
    spec=model.NodeSpec(labels={"disk": "ssd", "zone": "B"}),
    status=model.NodeStatus(addr="10.0.0.7"),
    description=model.NodeDescription(
        hostname="Manager1",
        platform=model.Platform(os="linux", architecture="x86_64"),
        engine=model.EngineDescription(labels={"os": "debian"}),
    ),
)


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("node.id==abc", True),
        ("node.id != abc", False),
        ("node.hostname == manager1", True),
        ("NODE.HOSTNAME==MANAGER1", True),
        ("node.role==manager", True),
        ("node.role!=manager", False),
        ("node.ip==10.0.0.7", True),
        ("node.ip==10.0.0.0/24", True),
        ("node.ip!=10.0.0.0/24", False),
        ("node.ip==nonsense", False),
        ("node.ip!=nonsense", False),
        ("node.platform.os==linux", True),
        ("node.platform.arch==x86_64", True),
        ("node.labels.disk==SSD", True),
        ("node.labels.zone != b", False),
        ("node.labels.missing==x", False),
        ("node.labels.missing!=x", True),
        ("engine.labels.os==debian", True),
        ("node.color==red", False),
        ("node.color!=red", False),
    ],
)
def test_matching(expression: str, matches: bool) -> None:
    assert constraints.satisfied(constraints.parse([expression]), NODE) is matches


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("node.role", "constraint expected one operator from ==, !="),
        ("node.role=manager", "constraint expected one operator from ==, !="),
        ("node.role~=manager", "constraint expected one operator from ==, !="),
        ("1node==x", "key '1node' is invalid"),
        ("==x", "key '' is invalid"),
        ("node.id==", "value '' is invalid"),
        ("node.id==a{b", "value 'a{b' is invalid"),
    ],
)
def test_errors_are_dockers(expression: str, text: str) -> None:
    with pytest.raises(constraints.ConstraintError) as caught:
        constraints.parse(["node.id==abc", expression])
    assert str(caught.value) == text


def test_all_must_hold() -> None:
    assert not constraints.satisfied(constraints.parse(["node.id==abc", "node.role==worker"]), NODE)
    assert constraints.satisfied((), NODE)
