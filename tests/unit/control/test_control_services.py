"""Services by the Control service: what it writes, answers and refuses."""

import asyncio
from dataclasses import replace

import pytest
from control_bench import CALLER, SECOND, Bench, attached, refused, spec, task

from common import errors, model


async def test_create_and_get(bench: Bench) -> None:
    made = await bench.create(spec())
    assert made.version == made.spec_version == 2
    assert made.created_at == made.updated_at == 77 * SECOND
    for ref in (made.id, "web", "WEB", made.id[:-1]):
        got = await bench.control.get_service(model.GetRequest(ref), CALLER)
        assert got.service == made
    shown = await bench.control.get_service(model.GetRequest("web", insert_defaults=True), CALLER)
    assert shown.service.spec.update is not None
    await refused(
        bench.control.get_service(model.GetRequest("nosuch"), CALLER), "NotFound", "service nosuch not found"
    )
    await bench.create(spec("other"))
    await refused(
        bench.control.get_service(model.GetRequest("id"), CALLER),
        "Unknown",
        "service id is ambiguous (2 matches found)",
    )


async def test_duplicate_names(bench: Bench) -> None:
    await bench.create(spec("helloworld"))
    await refused(
        bench.create(spec("helloworld")),
        "AlreadyExists",
        "name conflicts with an existing object: service helloworld already exists",
    )
    assert len(bench.store.view().services) == 1


async def test_two_creates_at_once_give_one_service(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.create(spec("one")) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(r, errors.AlreadyExists) for r in results) == 4


async def test_ports_in_use(bench: Bench) -> None:
    made = await bench.create(spec("web", 8080))
    text = f"port '8080' is already in use by service 'web' ({made.id}) as an ingress port"
    await refused(bench.create(spec("other", 8080)), "InvalidArgument", text)
    host = replace(
        spec("host", 9090),
        endpoint=model.EndpointSpec(
            ports=(
                model.PortConfig(target_port=80, published_port=9090, publish_mode=model.PublishMode.HOST),
            )
        ),
    )
    first = await bench.create(host)
    await bench.create(replace(host, name="host2"))
    await refused(
        bench.create(spec("third", 9090)),
        "InvalidArgument",
        f"port '9090' is already in use by service 'host' ({first.id}) as a host-published port",
    )
    other = await bench.create(spec("other", 8081))
    await refused(bench.update(other, spec("other", 8080)), "InvalidArgument", text)
    await bench.update(made, spec("web", 8080, force_update=1))


async def test_a_port_that_was_handed_out_is_in_use(bench: Bench) -> None:
    given = model.PortConfig("", model.PortProtocol.TCP, 80, 30000, model.PublishMode.INGRESS)
    await bench.put(model.Service(id="dyn", spec=spec("dynamic"), endpoint=model.Endpoint(ports=(given,))))
    with pytest.raises(errors.InvalidArgument, match="port '30000' is already in use by service 'dynamic'"):
        await bench.create(spec("x", 30000))


async def test_publishing_needs_the_ingress_network(bench: Bench) -> None:
    await bench.control.remove_network(model.RemoveRequest("ingress"), CALLER)
    await refused(
        bench.create(spec("web", 80)),
        "FailedPrecondition",
        "service needs ingress network, but no ingress network is present",
    )
    await bench.create(spec("web"))


async def test_networks_by_name_or_id(bench: Bench) -> None:
    net = await bench.network("my-net")
    made = await bench.create(spec(networks=attached("my-net", net.id)))
    assert [a.target for a in made.spec.task.networks] == [net.id]
    await refused(
        bench.create(spec("x", networks=attached("nosuch"))), "NotFound", "network nosuch not found"
    )
    await refused(
        bench.create(spec("x", networks=attached("ingress"))),
        "InvalidArgument",
        'Service cannot be explicitly attached to the ingress network "ingress"',
    )


async def test_update(bench: Bench) -> None:
    made = await bench.create(spec())
    scaled_spec = replace(made.spec, mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=9)))
    scaled = await bench.update(made, scaled_spec)
    assert scaled.version > made.version
    assert scaled.spec_version == made.spec_version
    assert scaled.previous_spec == made.spec
    await refused(bench.update(made, scaled_spec), "Unknown", "update out of sequence")
    forced = await bench.update(scaled, replace(scaled_spec, task=replace(scaled_spec.task, force_update=1)))
    assert forced.spec_version == forced.version
    assert forced.previous_spec_version == made.spec_version
    await refused(bench.update(forced, spec("new")), "Unimplemented", "renaming services is not supported")


async def test_rollback(bench: Bench) -> None:
    made = await bench.create(spec())
    await refused(
        bench.update(made, model.ServiceSpec(), rollback=True),
        "FailedPrecondition",
        f"service {made.id} does not have a previous spec",
    )
    second = await bench.update(made, spec(force_update=5))
    back = await bench.update(second, model.ServiceSpec(), rollback=True)
    assert back.spec == made.spec
    assert back.spec_version == made.spec_version
    assert back.previous_spec == second.spec
    assert back.update_status == model.UpdateStatus(
        model.UpdateState.UPDATE_ROLLBACK_STARTED, 77 * SECOND, 0, "manually requested rollback"
    )


async def test_registry_credentials_stay(bench: Bench) -> None:
    secret = replace(
        spec(), task=model.TaskSpec(container=model.ContainerSpec(image="nginx", pull_auth="abc"))
    )
    made = await bench.create(secret)
    again = await bench.update(made, spec(force_update=1))
    assert again.spec.task.container is not None
    assert again.spec.task.container.pull_auth == "abc"


async def test_remove(bench: Bench) -> None:
    await bench.create(spec())
    await bench.control.remove_service(model.RemoveRequest("web"), CALLER)
    assert len(bench.store.view().services) == 0
    await refused(
        bench.control.remove_service(model.RemoveRequest("web"), CALLER), "NotFound", "service web not found"
    )


async def test_lists_of_services(bench: Bench) -> None:
    web = await bench.create(spec("web"))
    await bench.create(replace(spec("redis"), labels={}))
    await bench.put(
        task("t1", web.id, model.TaskState.TASK_RUNNING),
        task("t2", web.id, model.TaskState.TASK_FAILED, model.TaskState.TASK_SHUTDOWN),
    )

    async def found(*terms: tuple[str, str]) -> list[str]:
        return [s.spec.name for s in (await bench.listed("services", *terms)).services]

    assert await found() == ["web", "redis"]
    assert await found(("name", "we")) == ["web"]
    assert await found(("name", "web"), ("name", "redis")) == ["web", "redis"]
    assert await found(("id", "web")) == []
    assert await found(("id", web.id[:-1]), ("name", "web")) == ["web"]
    assert await found(("label", "tier")) == ["web"]
    assert await found(("label", "tier=back")) == ["web"]
    assert await found(("label", "tier=front")) == []
    assert await found(("mode", "replicated")) == ["web", "redis"]
    assert await found(("mode", "global")) == []
    with pytest.raises(errors.InvalidArgument, match="Invalid filter 'foo'"):
        await found(("foo", "bar"))
    listed = (await bench.listed("services", ("name", "web"), status=True)).services
    assert listed[0].status == model.ServiceStatus(1, 3, 0)
    assert (await bench.listed("services")).services[0].status is None
