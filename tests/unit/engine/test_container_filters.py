"""The filters of `docker ps`."""

import pytest
from engine_fakes import image

from agent.engine import container_filters
from agent.engine.container_filters import Seen, chosen
from agent.engine.container_networks import Around
from agent.network.bridges import Binding
from agent.runtime.api import ContainerConfig, ContainerState, ExitStatus, Mount, Status
from agent.single.record import Leg, PortRequest, SingleRecord
from common import errors


def seen(
    number, name, status=Status.RUNNING, code=None, restarting=False, mounts=(), record=None, labels=None
):
    id = f"{number:x}" * 64
    config = ContainerConfig(id, name, "nginx:1", mounts=mounts)
    ended = None if code is None else ExitStatus(code, 1)
    state = ContainerState(
        id, name, "nginx:1", labels or {}, status, created_at=number, exit=ended, config=config
    )
    around = Around(single=record or SingleRecord(id, name, "none"), restarting=restarting)
    return Seen(state, around, image("nginx:1"))


ALL = [
    seen(1, "a"),
    seen(2, "ab", mounts=(Mount("bind", "/srv/x", "/data"),), labels={"k": "v", "z": ""}),
    seen(3, "dead", Status.STOPPED, 3),
    seen(4, "again", Status.STOPPED, 0, restarting=True),
    seen(5, "new", Status.CREATED),
    seen(
        6, "web", Status.PAUSED,
        record=SingleRecord(
            "6" * 64, "web", "net", (Leg("net"),), ports=(PortRequest("tcp", 80, "", 8080, 8080),),
            bindings=(Binding("tcp", "0.0.0.0", 8080, 80),), exposed=("53/udp",),
        ),
    ),
]  # fmt: skip


def names(**wanted):
    found = {key.replace("_", "-"): values for key, values in wanted.items()}
    container_filters.check(found)
    return [it.container.name for it in chosen(ALL, found)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["web", "new", "again", "dead", "ab", "a"]),
        ({"name": ("^a$",)}, ["a"]),
        ({"name": ("^/a$",)}, ["a"]),
        ({"name": ("/a",)}, ["again", "ab", "a"]),
        ({"name": ("^(a|ab)$",)}, ["ab", "a"]),
        ({"name": ("(",)}, []),
        ({"name": ("dead", "web")}, ["web", "dead"]),
        ({"status": ("exited",)}, ["dead"]),
        ({"status": ("restarting", "created")}, ["new", "again"]),
        ({"status": ("paused",)}, ["web"]),
        ({"exited": ("3",)}, ["dead"]),
        ({"exited": ("0",)}, ["again"]),
        ({"label": ("k=v", "z")}, ["ab"]),
        ({"before": ("ab",)}, ["a"]),
        ({"since": ("/again",)}, ["web", "new"]),
        ({"since": ("3" * 8,), "before": ("web",)}, ["new", "again"]),
        ({"volume": ("/data",)}, ["ab"]),
        ({"volume": ("/srv/x/",)}, ["ab"]),
        ({"volume": ("/x",)}, []),
        ({"network": ("net",)}, ["web"]),
        ({"publish": ("8080",)}, ["web"]),
        ({"publish": ("8000-9000/tcp",)}, ["web"]),
        ({"publish": ("8080/udp",)}, []),
        ({"expose": ("53/udp",)}, ["web"]),
        ({"health": ("healthy",)}, []),
        ({"is_task": ("true",)}, []),
        ({"id": ("2222",)}, ["ab"]),
        ({"ancestor": ("nginx:2",)}, []),
    ],
)
def test_what_is_found(wanted, found) -> None:
    assert names(**wanted) == found


@pytest.mark.parametrize("ancestor", ["nginx", "nginx:1"])
def test_ancestors(ancestor) -> None:
    assert len(names(ancestor=(ancestor,))) == len(ALL)
    assert len(names(ancestor=(image("nginx:1").id,))) == len(ALL)


@pytest.mark.parametrize(
    "wanted",
    [
        {"status": ("gone",)}, {"health": ("well",)}, {"exited": ("x",)}, {"publish": ("x",)}, {"expose": ("9-1",)},
        {"is_task": ("maybe",)},
    ],
)  # fmt: skip
def test_what_makes_no_sense(wanted) -> None:
    with pytest.raises(errors.InvalidArgument):
        names(**wanted)


def test_bounds_that_are_not_there() -> None:
    with pytest.raises(errors.NotFound, match="No such container: nosuch"):
        names(before=("nosuch",))
