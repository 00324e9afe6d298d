"""From assignments to views."""

from __future__ import annotations

from dataclasses import replace

from agent.dns.views import Views
from agent.dns.zone import NOTHING, Found, Type
from agent.state import NodeState
from common import model

SERVING = model.EndpointState.ENDPOINT_SERVING


def network(id: str, **spec: object) -> model.Network:
    return model.Network(id=id, spec=model.NetworkSpec(name=f"{id}-net", **spec))


def task(id: str, *networks: str) -> model.TaskAssignment:
    legs = tuple(model.NetworkAttachment(network_id=n) for n in networks)
    return model.TaskAssignment(task=model.Task(id=id, networks=legs))


def endpoint(task_id: str, network_id: str, addr: str, **more: object) -> model.EndpointRecord:
    return model.EndpointRecord(
        task_id=task_id, network_id=network_id, addr=addr, task_name=f"web.1.{task_id}", **more
    )


STATE = NodeState(
    tasks={"t1": task("t1", "a", "ingress"), "t2": task("t2", "b"), "t3": task("t3")},
    networks={"a": network("a"), "b": network("b", internal=True), "ingress": network("ingress", ingress=True)},
    services={
        "s1": model.ServiceRecord(
            id="s1", name="web", virtual_ips=(model.VirtualIP("a", "10.0.1.2/24"), model.VirtualIP("ingress", "10.1.0.2/16")),
            ports=(model.PortConfig("http", model.PortProtocol.TCP, 80),),
        ),
        "s2": model.ServiceRecord(id="s2", name="rr", mode=model.EndpointMode.DNSRR),
    },
    endpoints={
        ("t1", "a"): endpoint("t1", "a", "10.0.1.3", service_id="s1", state=SERVING, aliases=("www",)),
        ("t9", "a"): endpoint("t9", "a", "10.0.1.4", service_id="s1"),
        ("t2", "b"): endpoint("t2", "b", "10.0.2.3", service_id="s2", state=SERVING),
        ("t4", "a"): endpoint("t4", "a", "10.0.1.9", aliases=("tool",), state=SERVING),
    },
)  # fmt: skip


def test_each_task_sees_its_networks() -> None:
    views = Views().of(STATE, {"t1": "0123456789ab"})
    one, two, three = views["t1"], views["t2"], views["t3"]
    assert one.find("web", Type.A) == Found(("10.0.1.2",))
    assert one.find("tasks.web", Type.A) == Found(("10.0.1.3",))
    assert one.find("web.1.t9", Type.A) == Found(("10.0.1.4",))
    assert one.find("www", Type.A) == Found(("10.0.1.2",))
    assert one.find("tool", Type.A) == Found(("10.0.1.9",))
    assert one.find("0123456789ab", Type.A) == Found(("10.0.1.3",))
    assert one.find("web", Type.AAAA) == NOTHING
    assert one.find("rr", Type.A) is None
    assert one.find("_http._tcp.web", Type.SRV) is not None
    assert one.find("2.0.1.10.in-addr.arpa", Type.PTR) is None  # of ingress: no names
    assert two.find("rr", Type.A) == Found(("10.0.2.3",))
    assert two.find("web", Type.A) is None
    assert (one.forward, two.forward, three.forward) == (True, False, True)


def test_what_did_not_change_is_the_same_object() -> None:
    views = Views()
    before = views.of(STATE)
    changed = dict(STATE.endpoints)
    changed["t9", "a"] = replace(changed["t9", "a"], state=SERVING)
    after = views.of(replace(STATE, endpoints=changed))
    assert after["t2"].networks[0] is before["t2"].networks[0]
    assert after["t1"].find("tasks.web", Type.A) == Found(("10.0.1.3", "10.0.1.4"))


def test_a_service_has_name_servers_of_its_own() -> None:
    dns = model.DNSConfig(nameservers=("127.0.0.11", "192.0.2.53"))
    spec = model.TaskSpec(container=model.ContainerSpec(dns_config=dns))
    given = model.TaskAssignment(task=model.Task(id="t1", spec=spec))
    views = Views().of(replace(STATE, tasks={**STATE.tasks, "t1": given}))
    assert (views["t1"].servers, views["t2"].servers) == (("192.0.2.53",), ())


def test_a_service_that_changes_its_mode_answers_with_tasks_at_once() -> None:
    """The address stays a moment longer in the assignment than the mode, and must not be told any more."""
    web = STATE.services["s1"]
    mixed = replace(STATE, services={**STATE.services, "s1": replace(web, mode=model.EndpointMode.DNSRR)})
    assert Views().of(mixed)["t1"].find("web", Type.A) == Found(("10.0.1.3",))
    assert Views().of(mixed)["t1"].find("www", Type.A) == Found(("10.0.1.3",))
    bare = replace(STATE, services={**STATE.services, "s1": replace(web, virtual_ips=())})
    assert Views().of(bare)["t1"].find("web", Type.A) == Found(("10.0.1.3",)), "until it has its address"


def test_addresses_of_both_families() -> None:
    vips = (model.VirtualIP("a", "10.0.1.2/24"), model.VirtualIP("a", "fd00:1::2/64"))
    web = model.ServiceRecord(id="s1", name="web", virtual_ips=vips)
    leg = endpoint("t1", "a", "10.0.1.3", addr6="fd00:1::3", service_id="s1", state=SERVING, aliases=("www",))
    state = replace(STATE, services={"s1": web}, endpoints={("t1", "a"): leg})
    view = Views().of(state)["t1"]
    for name in ("web", "www"):
        assert view.find(name, Type.A) == Found(("10.0.1.2",))
        assert view.find(name, Type.AAAA) == Found(("fd00:1::2",))
    dnsrr = replace(web, mode=model.EndpointMode.DNSRR)
    view = Views().of(replace(state, services={"s1": dnsrr}))["t1"]
    assert view.find("web", Type.AAAA) == view.find("www", Type.AAAA) == Found(("fd00:1::3",))
