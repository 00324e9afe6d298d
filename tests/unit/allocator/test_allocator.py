"""VIPs, ports, numbers and networks: one pass at a time."""

from __future__ import annotations

from dataclasses import replace

from allocator_bench import network, service, start, task

from common import model
from common.model import EndpointMode, NodeState, PublishMode, TaskState
from manager.store.store import Change, ChangeKind


def test_networks_get_subnet_gateway_and_vni() -> None:
    bench = start()
    web = bench.view.networks.get("web")
    assert web.ipam.configs == (model.IPAMConfig(subnet="10.1.0.0/24", gateway="10.1.0.1"),)
    assert web.vni == 0x530001
    assert bench.view.cluster.next_vni == 0x530002
    assert web.driver_state.options == {"com.docker.network.driver.overlay.vxlanid_list": str(0x530001)}


def test_many_networks_in_one_pass_do_not_meet() -> None:
    bench = start()
    for n in range(5):
        bench.write(network(f"n{n}"))
    bench.settle()
    found = {bench.view.networks.get(f"n{n}").ipam.configs[0].subnet for n in range(5)}
    assert found == {f"10.1.{n}.0/24" for n in range(1, 6)}
    assert len({n.vni for n in bench.view.networks.all()}) == 7


def test_an_overlapping_subnet_is_an_error_until_it_is_free() -> None:
    bench = start()
    bench.write(network("other", "10.1.0.0/25"))
    bench.settle()
    other = bench.view.networks.get("other")
    assert other.error == "network other: subnet 10.1.0.0/25 overlaps network web (10.1.0.0/24)"
    web = service("api", "other")
    bench.write(web)
    bench.write(task("t", web))
    bench.settle()
    assert bench.view.tasks.get("t").status.err == other.error
    bench.view.rows[model.Network].remove("web")
    bench.allocator.observe(Change(ChangeKind.REMOVE, network("web"), None), bench.view)
    bench.settle()
    assert bench.view.networks.get("other").error == ""
    assert bench.view.tasks.get("t").status.state == TaskState.TASK_PENDING


def test_service_and_task() -> None:
    bench = start()
    ports = (
        model.PortConfig(target_port=80, publish_mode=PublishMode.INGRESS),
        model.PortConfig(target_port=81, published_port=8081, publish_mode=PublishMode.HOST),
    )
    web = service("api", "web", ports=ports)
    bench.write(web)
    bench.write(task("t", web))
    bench.settle()
    found = bench.view.services.get("api")
    assert [v.addr for v in found.endpoint.virtual_ips] == ["10.0.0.2/16", "10.1.0.2/24"]
    assert [p.published_port for p in found.endpoint.ports] == [30000, 8081]
    got = bench.view.tasks.get("t")
    assert (got.status.state, got.status.message) == (TaskState.TASK_PENDING, "pending task scheduling")
    assert [(a.network_id, a.addresses, a.aliases) for a in got.networks] == [
        ("ingress", ("10.0.0.3/16",), ()),
        ("web", ("10.1.0.3/24",), ("api-alias",)),
    ]
    assert got.ports == found.endpoint.ports


def test_a_port_that_is_taken_parks_the_service_and_its_tasks() -> None:
    bench = start()
    ports = (model.PortConfig(target_port=80, published_port=80),)
    bench.write(service("one", ports=ports))
    bench.settle()
    two = service("two", ports=ports)
    bench.write(two)
    bench.write(task("t", two))
    bench.settle()
    text = "port '80' is already in use by service 'one' (one) as an ingress port"
    assert bench.view.services.get("two").error == text
    assert bench.view.tasks.get("t").status.err == text
    bench.remove(bench.view.services.get("one"))
    bench.settle()
    assert bench.view.tasks.get("t").status.state == TaskState.TASK_PENDING
    assert bench.view.tasks.get("t").status.err == ""


def test_vips_follow_the_spec() -> None:
    bench = start()
    api = service("api", "web")
    bench.write(api)
    bench.settle()
    found = bench.view.services.get("api")
    dnsrr = replace(found, spec=replace(found.spec, endpoint=model.EndpointSpec(mode=EndpointMode.DNSRR)))
    bench.write(dnsrr)
    bench.settle()
    assert bench.view.services.get("api").endpoint.virtual_ips == ()
    assert [h.addr for h in bench.view.networks.get("web").held] == ["10.1.0.2"]


def test_a_vip_lasts_as_long_as_tasks_stand_behind_it() -> None:
    """A rolling update takes the service out of a network: the tasks that still serve there keep their VIP."""
    bench = start()
    bench.write(network("new"))
    api = service("api", "web")
    bench.write(api)
    bench.write(task("t", api))
    bench.settle()
    found = bench.view.services.get("api")
    bench.write(replace(found, spec=service("api", "new").spec))
    bench.settle()
    assert {v.network_id for v in bench.view.services.get("api").endpoint.virtual_ips} == {"web", "new"}
    running = bench.view.tasks.get("t")
    bench.write(replace(running, status=replace(running.status, state=TaskState.TASK_SHUTDOWN)))
    bench.settle()
    assert {v.network_id for v in bench.view.services.get("api").endpoint.virtual_ips} == {"new"}
    assert [h.addr for h in bench.view.networks.get("web").held] == ["10.1.0.2", "10.1.0.3"]


def test_a_removed_network_goes_with_its_last_task() -> None:
    bench = start()
    api = service("api", "web")
    bench.write(api)
    for name, where in (("t1", "a"), ("t2", "a"), ("t3", "b")):
        bench.write(model.Node(id=where, status=model.NodeStatus(state=NodeState.NODE_READY)))
        bench.write(task(name, api))
        bench.settle()
        bench.write(replace(bench.view.tasks.get(name), node_id=where))
    bench.remove(bench.view.services.get("api"))
    bench.write(replace(bench.view.networks.get("web"), pending_delete=True))
    bench.write(network("same", "10.1.0.0/24"))
    bench.settle()
    assert bench.view.networks.get("same").error == "", "a subnet may be asked for again"
    bench.write(network("other"))
    bench.settle()
    assert bench.view.networks.get("other").ipam.configs[0].subnet == "10.1.1.0/24", "but it isn't chosen"

    def end(name: str) -> None:
        running = bench.view.tasks.get(name)
        bench.write(replace(running, status=replace(running.status, state=TaskState.TASK_SHUTDOWN)))
        bench.settle()

    end("t1")
    assert bench.view.networks.get("web") is not None
    bench.write(replace(bench.view.nodes.get("b"), status=model.NodeStatus(state=NodeState.NODE_DOWN)))
    bench.settle()
    assert bench.view.networks.get("web") is not None
    end("t2")
    assert bench.view.networks.get("web") is None, "nobody waits for the node that is Down"
    end("t3")
    assert not any(a.addresses for t in bench.view.tasks.all() for a in t.networks)


def test_the_vips_of_a_removed_service_rest() -> None:
    bench = start()
    bench.write(service("api", "web"))
    bench.settle()
    bench.remove(bench.view.services.get("api"))
    bench.settle()
    assert [h.addr for h in bench.view.networks.get("web").held] == ["10.1.0.2"]


def test_nodes_get_the_lowest_free_number() -> None:
    bench = start()
    for name in ("a", "b", "c"):
        bench.write(model.Node(id=name))
    bench.settle()
    assert [bench.view.nodes.get(n).number for n in "abc"] == [1, 2, 3]
    bench.remove(bench.view.nodes.get("b"))
    bench.write(model.Node(id="d"))
    bench.settle()
    assert bench.view.nodes.get("d").number == 2
    assert bench.view.nodes.get("d").attachments[0].addresses == ("10.0.0.5/16",)
