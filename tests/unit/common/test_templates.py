"""Placeholders in services, with Docker's texts for wrong ones."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import errors, model, templates

CONTEXT = templates.Context(
    service_id="s1", service_name="web", service_labels={"x": "y", "a.b": "c"}, node_id="n1",
    node_hostname="worker1", node_architecture="x86_64", task_id="t1", task_name="web.2.t1", task_slot="2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("{{.Service.Name}}-{{.Task.Slot}}-{{.Node.ID}}", "web-2-n1"),
        ("{{ .Node.Hostname }}", "worker1"),
        ("a {{- .Task.ID -}} b", "at1b"),
        ("{{.Service.Labels}}", "map[a.b:c x:y]"),
        ('{{index .Service.Labels "a.b"}}|{{index .Service.Labels "none"}}', "c|"),
        ("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/x86_64"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert templates.expand(text, CONTEXT) == result


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "N={{.Foo}}",
            'expanding env failed: expanding env "N={{.Foo}}": template: expansion:1:2: executing "expansion" at '
            "<.Foo>: can't evaluate field Foo in type *template.Context",
        ),
        (
            "A={{.Task.Nope}}",
            'expanding env failed: expanding env "A={{.Task.Nope}}": template: expansion:1:2: executing "expansion" at '
            "<.Task.Nope>: can't evaluate field Nope in type template.Task",
        ),
    ],
)
def test_wrong_fields(text: str, complaint: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        templates.expand_env((text,), CONTEXT)
    assert caught.value.message == complaint


@pytest.mark.parametrize("text", ["{{", "{{.Service.Name", "{{if}}", "{{}}"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        templates.expand(text, CONTEXT)


@given(st.text(alphabet='{}.-ab "', max_size=30))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    with contextlib.suppress(errors.InvalidArgument):
        templates.expand(text, CONTEXT)


def test_mounts_hostnames_and_global_tasks() -> None:
    mount = model.Mount(model.MountType.VOLUME, "vol-{{.Task.Slot}}", "/v")
    assert templates.expand_mount(mount, CONTEXT).source == "vol-2"
    assert templates.expand_hostname("{{.Node.Hostname}}-{{.Task.Slot}}", CONTEXT) == "worker1-2"
    task = model.Task(id="t", name="web.n1.t", service_name="web")
    assert templates.task_context(task, "n1", model.NodeDescription()).task_slot == "n1"


def test_what_no_task_could_be_made_from() -> None:
    """The text is the one that Docker answers to `service create --env 'N={{.Foo}}'`."""
    templates.check(
        model.ContainerSpec(env=("A={{.Node.Hostname}}",), hostname='{{index .Service.Labels "x"}}')
    )
    with pytest.raises(errors.InvalidArgument) as raised:
        templates.check(model.ContainerSpec(env=("N={{.Foo}}",)))
    assert raised.value.message == (
        'expanding env failed: expanding env "N={{.Foo}}": template: expansion:1:2: executing "expansion" at <.Foo>: '
        "can't evaluate field Foo in type *template.Context"
    )
    for wrong in (
        model.ContainerSpec(hostname="{{.Bar}}"),
        model.ContainerSpec(mounts=(model.Mount(source="{{.Bar}}"),)),
    ):
        with pytest.raises(errors.InvalidArgument, match="can't evaluate field Bar"):
            templates.check(wrong)
