"""From a task's references to configs to files on its node and mounts in its container."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime import api
from agent.worker import configs
from agent.worker.configs import File
from agent.worker.files import TaskFiles
from common import errors, model, templates

CONTEXT = templates.Context(service_name="web", task_slot="2", node_hostname="worker1")
ONE = model.ConfigRecord("c1", "one", b"key=value\n")
TWO = model.ConfigRecord("c2", "two", b"\xff\x00binary")
KNOWN = {"c1": ONE, "c2": TWO}


def reference(
    target: str = "one", uid: str = "0", gid: str = "0", mode: int = 0o444, config_id: str = "c1"
) -> model.ConfigReference:
    name = KNOWN[config_id].name if config_id in KNOWN else config_id
    return model.ConfigReference(
        model.FileTarget(target, uid, gid, mode), config_id=config_id, config_name=name
    )


def task(*references: model.ConfigReference, env: tuple[str, ...] = ()) -> model.Task:
    container = model.ContainerSpec(image="nginx", configs=references, env=env)
    return model.Task(id="t1", spec=model.TaskSpec(container=container))


def test_each_reference_is_a_file() -> None:
    given_task = task(reference(), reference("/etc/two", "33", "44", 0o640, "c2"), reference("a/../b"))
    assert configs.files(given_task, KNOWN, CONTEXT) == (
        File("/one", b"key=value\n", 0, 0, 0o444),
        File("/etc/two", b"\xff\x00binary", 33, 44, 0o640),
        File("/b", b"key=value\n", 0, 0, 0o444),
    )
    assert configs.files(model.Task(), KNOWN, CONTEXT) == ()


def test_one_for_the_runtime_is_no_file() -> None:
    runtime = model.ConfigReference(runtime=model.RuntimeTarget(), config_id="c1", config_name="one")
    assert configs.files(task(runtime), KNOWN, CONTEXT) == ()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (reference(config_id="gone"), "config gone is not there any more"),
        (reference(uid="www-data"), 'uid of config one must be a number: "www-data"'),
        (reference(gid="-1"), 'gid of config one must be a number: "-1"'),
        (reference(uid="4294967295"), 'uid of config one must be a number: "4294967295"'),
    ],
)
def test_what_cannot_be_made(wrong: model.ConfigReference, text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        configs.files(task(reference("x"), wrong), KNOWN, CONTEXT)
    assert refused.value.message == text


def test_mounts_are_read_only_and_not_shown_among_the_containers_own() -> None:
    made = configs.files(task(reference(), reference("/etc/two", config_id="c2")), KNOWN, CONTEXT)
    assert configs.mounts(made, ("/run/0", "/run/1")) == (
        api.Mount("bind", "/run/0", "/one", True, listed=False),
        api.Mount("bind", "/run/1", "/etc/two", True, listed=False),
    )


def filled_in(text: str, driver: str = "golang", env: tuple[str, ...] = ()) -> bytes:
    known = {**KNOWN, "t": model.ConfigRecord("t", "tpl", text.encode(), model.Driver(driver))}
    given_task = task(reference("tpl", config_id="t"), reference("/etc/two", config_id="c2"), env=env)
    return configs.files(given_task, known, CONTEXT)[0].data


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ .Service.Name }}.{{.Task.Slot}} at {{ .Node.Hostname }}", b"web.2 at worker1"),
        ('a={{ env "A" }} b={{ env "B" }} c={{env "C"}}', b"a=1=2 b= c="),
        ('{{ config "/etc/two" }}!', b"\xff\x00binary!"),
        ("ä", "ä".encode()),
    ],
)
def test_templates_are_filled_in(text: str, result: bytes) -> None:
    assert filled_in(text, env=("A=1=2", "B")) == result


def test_only_templates_are() -> None:
    plain = {"c1": replace(ONE, data=b"{{ .Service.Name }}")}
    assert configs.files(task(reference()), plain, CONTEXT)[0].data == b"{{ .Service.Name }}"


@pytest.mark.parametrize(
    ("text", "driver", "complaint"),
    [
        ("x", "jinja", 'unrecognized template type "jinja" of config tpl'),
        ("{{ .Foo }}", "golang", "failed to expand templated config tpl: template: expansion:1:3:"),
        ('{{ config "none" }}', "golang", "config target none not found"),
        ('{{ secret "pw" }}', "golang", "unexpected 'secret \"pw\"' in command"),
    ],
)
def test_templates_that_mean_nothing(text: str, driver: str, complaint: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        filled_in(text, driver)
    assert complaint in refused.value.message


@given(st.binary(max_size=50))
def test_what_is_no_placeholder_stays_as_it_is(data: bytes) -> None:
    record = model.ConfigRecord("c1", "one", data, model.Driver("golang"))
    if b"{{" not in data:
        assert configs.files(task(reference()), {"c1": record}, CONTEXT)[0].data == data


# ---- on the node


async def test_files_have_owner_and_mode_and_nobody_else_gets_at_them(tmp_path: Path) -> None:
    owned = (os.getuid(), os.getgid())
    files = TaskFiles(tmp_path / "tasks")
    made = (File("/a", b"one", *owned, 0o444), File("/b", b"two", *owned, 0o600))
    await files.write("t1", made)
    await files.write("t2", ())
    paths = [Path(path) for path in files.paths("t1", 2)]
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o444, 0o600]
    for folder in (tmp_path / "tasks", tmp_path / "tasks" / "t1"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert await files.tasks() == ["t1"]


async def test_writing_again_leaves_what_a_container_holds(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "tasks")
    first = (File("/a", b"one", os.getuid(), os.getgid(), 0o444),)
    await files.write("t1", first)
    path, held = tmp_path / "tasks" / "t1" / "0", tmp_path / "held"
    held.hardlink_to(path)
    await files.write("t1", (replace(first[0], data=b"two"),))
    assert (held.read_bytes(), path.read_bytes()) == (b"one", b"two")
    assert os.listdir(tmp_path / "tasks" / "t1") == ["0"]


async def test_nothing_is_left_of_a_task(tmp_path: Path) -> None:
    files = TaskFiles(tmp_path / "tasks")
    assert await files.tasks() == []
    await files.write("t1", (File("/a", b"one", os.getuid(), os.getgid(), 0o000),))
    for _ in range(2):
        await files.remove("t1")
    assert await files.tasks() == []
