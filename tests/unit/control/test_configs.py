"""Configs in the Control service: what is stored, found and refused."""

from dataclasses import replace
from typing import Any

import pytest
from control_bench import CALLER, Bench, spec

from common import errors, model


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def config(name: str = "app-conf", data: bytes = b"key=value\n", **other: Any) -> model.ConfigSpec:
    return model.ConfigSpec(name=name, data=data, **other)


async def create(bench: Bench, given: model.ConfigSpec) -> model.Config:
    return (await bench.control.create_config(model.CreateConfigRequest(given), CALLER)).config


async def get(bench: Bench, ref: str) -> model.Config:
    return (await bench.control.get_config(model.GetRequest(ref), CALLER)).config


async def update(bench: Bench, old: model.Config, given: model.ConfigSpec, version: int = 0) -> model.Config:
    request = model.UpdateConfigRequest(old.id, version or old.version, given)
    return (await bench.control.update_config(request, CALLER)).config


async def test_it_is_found_by_id_name_and_prefix(bench: Bench) -> None:
    made = await create(bench, config(labels={"a": "b"}, templating=model.Driver("golang")))
    assert (made.version, made.created_at, made.updated_at) == (
        bench.store.view().index,
        77 * 10**9,
        77 * 10**9,
    )
    for ref in (made.id, "app-conf", "App-Conf", made.id[:-1]):
        assert await get(bench, ref) == made
    await create(bench, config("two"))
    with pytest.raises(errors.ShoalError, match=r"^config id is ambiguous \(2 matches found\)$"):
        await get(bench, "id")
    for ref in ("nosuch", ""):
        with pytest.raises(errors.NotFound, match=f"^config {ref} not found$"):
            await get(bench, ref)


@pytest.mark.parametrize("name", ["a", "0", "a.b", "A-b_c.9", "x" * 64, "a..b"])
async def test_names_that_are_taken(bench: Bench, name: str) -> None:
    assert (await create(bench, config(name))).spec.name == name


BAD_NAME = "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (config(""), "name must be provided"),
        *((config(name), BAD_NAME) for name in ("bad name", "x" * 65, "-a", "a-", ".a", "a/b", "a\n", "é")),
        (config(data=b""), "config data must be larger than 0 and less than 1024000 bytes"),
        (config(data=bytes(1024000)), "config data must be larger than 0 and less than 1024000 bytes"),
    ],
)
async def test_what_is_refused(bench: Bench, given: model.ConfigSpec, text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await create(bench, given)
    assert refused.value.message == text
    assert not len(bench.store.view().configs)


async def test_the_largest_one_is_taken(bench: Bench) -> None:
    assert len((await create(bench, config(data=bytes(1023999)))).spec.data) == 1023999


async def test_names_are_unique_in_any_case(bench: Bench) -> None:
    await create(bench, config())
    for name in ("app-conf", "APP-conf"):
        with pytest.raises(errors.AlreadyExists, match=f"^config {name} already exists$"):
            await create(bench, config(name))


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ((), ["one", "two", "three"]),
        ((("name", "t"),), ["two", "three"]),
        ((("names", "t"),), []),
        ((("names", "two"), ("names", "one")), ["one", "two"]),
        ((("label", "tier"),), ["one", "two"]),
        ((("label", "tier=web"),), ["two"]),
        ((("id", "id00000000000000000000000"),), ["one"]),
        ((("name", "o"), ("label", "nosuch")), []),
    ],
)
async def test_lists(bench: Bench, terms: tuple[tuple[str, str], ...], found: list[str]) -> None:
    for name, labels in (("one", {"tier": "db"}), ("two", {"tier": "web"}), ("three", {})):
        await create(bench, config(name, labels=labels))
    listed = await bench.listed("configs", *terms)
    assert [each.spec.name for each in listed.configs] == found
    with pytest.raises(errors.InvalidArgument, match=r"^Invalid filter 'mode'$"):
        await bench.listed("configs", ("mode", "x"))


async def test_only_labels_are_updated(bench: Bench) -> None:
    made = await create(bench, config())
    for given in (config(labels={"a": "1"}), config(data=b"", labels={"a": "1"})):
        changed = await update(bench, await get(bench, made.id), given)
        assert changed.spec == config(labels={"a": "1"})
        assert changed.version > made.version
    for given in (config("other"), config(data=b"else")):
        with pytest.raises(errors.InvalidArgument, match=r"^only updates to Labels are allowed$"):
            await update(bench, changed, given)
    with pytest.raises(errors.OutOfSequence):
        await update(bench, changed, config(), version=made.version)
    with pytest.raises(errors.NotFound, match=r"^config nosuch not found$"):
        await update(bench, replace(made, id="nosuch"), config())


def with_configs(*references: model.ConfigReference, name: str = "web") -> model.ServiceSpec:
    given = spec(name)
    assert given.task.container is not None
    container = replace(given.task.container, configs=references)
    return replace(given, task=replace(given.task, container=container), endpoint=None)


def reference(made: model.Config, target: str = "/etc/app") -> model.ConfigReference:
    file = model.FileTarget(target, "0", "0", 0o444)
    return model.ConfigReference(file, config_id=made.id, config_name=made.spec.name)


def using(made: model.Config, name: str) -> model.Service:
    return model.Service(id=name, spec=with_configs(reference(made), name=name))


async def test_a_service_has_its_configs_as_given(bench: Bench) -> None:
    one, two = await create(bench, config("one")), await create(bench, config("two"))
    given = with_configs(reference(one, "/a"), reference(two, "/b"), reference(one, "/c"))
    made = await bench.create(given)
    assert made.spec.task.container is not None
    assert given.task.container is not None
    assert made.spec.task.container.configs == given.task.container.configs
    fewer = with_configs(reference(two, "/b"))
    changed = await bench.update(made, replace(made.spec, task=fewer.task))
    assert changed.spec.task.container is not None
    assert changed.spec.task.container.configs == (reference(two, "/b"),)
    await bench.control.remove_config(model.RemoveRequest("one"), CALLER)
    with pytest.raises(errors.InvalidArgument, match=r"^configs not found: one, one$"):
        await bench.update(changed, replace(made.spec, task=given.task))
    with pytest.raises(errors.InvalidArgument, match=r"^configs not found: one, one$"):
        await bench.update(changed, changed.spec, rollback=True)


ONE = model.Config(id="c1", spec=model.ConfigSpec(name="one"))


@pytest.mark.parametrize(
    ("references", "text"),
    [
        ((reference(ONE),), "config not found: one"),
        ((reference(ONE, "/a"), reference(replace(ONE, id="c2"), "/b")), "configs not found: one, one"),
        ((model.ConfigReference(model.FileTarget("/a"), config_id="c1"),), "malformed config reference"),
        ((model.ConfigReference(model.FileTarget("/a"), config_name="one"),), "malformed config reference"),
        ((replace(reference(ONE), file=None),), "malformed config reference, no target provided"),
        ((reference(ONE, ""),), "malformed file config reference, invalid target file name provided"),
        (
            (reference(ONE, "/a"), reference(replace(ONE, spec=model.ConfigSpec(name="two")), "/a")),
            "config references 'one' and 'two' have a conflicting target: '/a'",
        ),
    ],
)
async def test_references_that_are_refused(
    bench: Bench, references: tuple[model.ConfigReference, ...], text: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.create(with_configs(*references))
    assert refused.value.message == text


async def test_a_reference_by_another_name_is_none(bench: Bench) -> None:
    made = await create(bench, config())
    wrong = replace(reference(made), config_name="other")
    with pytest.raises(errors.InvalidArgument, match=r"^config not found: other$"):
        await bench.create(with_configs(wrong))


async def test_one_that_services_use_stays(bench: Bench) -> None:
    made = await create(bench, config())
    await bench.put(using(made, "web"), model.Service(id="other", spec=spec("other")))
    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.control.remove_config(model.RemoveRequest("app-conf"), CALLER)
    assert refused.value.message == "config 'app-conf' is in use by the following service: web"
    await bench.put(using(made, "api"))
    with pytest.raises(errors.InvalidArgument) as refused:
        await bench.control.remove_config(model.RemoveRequest("app-conf"), CALLER)
    assert refused.value.message == "config 'app-conf' is in use by the following services: api, web"
    for name in ("api", "web"):
        await bench.control.remove_service(model.RemoveRequest(name), CALLER)
    await bench.control.remove_config(model.RemoveRequest("app-conf"), CALLER)
    with pytest.raises(errors.NotFound, match=r"^config app-conf not found$"):
        await bench.control.remove_config(model.RemoveRequest("app-conf"), CALLER)
