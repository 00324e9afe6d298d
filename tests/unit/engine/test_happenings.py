"""What happens on a node, and who is told of it."""

import pytest

from agent.engine.happenings import Happening, meets

AT = 1_795_227_620_123_456_789
DIED = Happening(
    "container", "die", "c" * 64, {"a": "b", "exitCode": "2", "image": "nginx:1", "name": "web"}, AT
)


def test_the_shape_of_a_containers() -> None:
    assert DIED.shown() == {
        "status": "die", "id": "c" * 64, "from": "nginx:1", "Type": "container", "Action": "die",
        "Actor": {"ID": "c" * 64, "Attributes": {"a": "b", "exitCode": "2", "image": "nginx:1", "name": "web"}},
        "scope": "local", "time": 1_795_227_620, "timeNano": AT,
    }  # fmt: skip


def test_the_shape_of_a_networks() -> None:
    shown = Happening("network", "create", "n", {"name": "net", "type": "overlay"}, AT, "swarm").shown()
    assert set(shown) == {"Type", "Action", "Actor", "scope", "time", "timeNano"}
    assert shown["scope"] == "swarm"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, True),
        ({"event": ("die",)}, True),
        ({"event": ("start", "stop")}, False),
        ({"type": ("container",)}, True),
        ({"type": ("network", "image")}, False),
        ({"container": ("web",)}, True),
        ({"container": ("cccc",)}, True),
        ({"container": ("db",)}, False),
        ({"image": ("nginx",)}, True),
        ({"image": ("nginx:1",)}, True),
        ({"image": ("nginx:2",)}, False),
        ({"label": ("a",)}, True),
        ({"label": ("a=b", "c")}, False),
        ({"scope": ("swarm",)}, False),
        ({"daemon": ("any",)}, True),
        ({"event": ("die",), "container": ("db",)}, False),
    ],
)
def test_filters(wanted, told) -> None:
    assert meets(DIED, wanted) is told


def test_an_exec_is_meant_by_its_action_alone() -> None:
    happening = Happening("container", "exec_start: ls -l", "c", {"name": "web"})
    assert meets(happening, {"event": ("exec_start",)})
    assert not meets(happening, {"event": ("exec",)})
