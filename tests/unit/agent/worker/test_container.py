"""What the network of a task makes of its container's settings."""

from __future__ import annotations

from typing import Any

from agent.network.api import Sandbox
from agent.runtime import api
from agent.worker import container
from common import model, templates

CONTEXT = templates.Context(node_hostname="worker1")
SANDBOX = Sandbox("t1", "/run/netns/t1", ("10.0.1.3",), "172.18.0.3")


def made(host_network: bool = False, **spec: Any) -> api.ContainerConfig:
    task = model.Task(id="t1", spec=model.TaskSpec(container=model.ContainerSpec(image="nginx", **spec)))
    sandbox = Sandbox("t1", "", ()) if host_network else SANDBOX
    mounts = container.Mounts((), (), (), ())
    return container.config(task, "n1", "c" * 64, CONTEXT, mounts, sandbox, host_network)


def dns(**given: Any) -> model.DNSConfig:
    return model.DNSConfig(**given)


def test_containers_ask_the_nodes_resolver_whatever_name_servers_a_service_has() -> None:
    own = made(dns_config=dns(nameservers=("192.0.2.53",), search=("a.b",), options=("timeout:1",)))
    assert (own.dns_nameservers, own.dns_search) == (("127.0.0.11",), ("a.b",))
    assert own.dns_options == ("timeout:1", "ndots:0")
    assert made(dns_config=dns(options=("ndots:2",))).dns_options == ("ndots:2",)
    assert made().dns_options == ("ndots:0",)
    assert (made().hostname, made().addresses) == ("c" * 12, ("10.0.1.3",))


def test_in_the_nodes_own_network_all_is_the_nodes() -> None:
    plain = made(host_network=True)
    assert (plain.host_network, plain.network_namespace, plain.addresses) == (True, None, ())
    assert (plain.dns_nameservers, plain.dns_options, plain.hostname) == ((), (), "worker1")
    asked = made(host_network=True, hostname="own", dns_config=dns(nameservers=("192.0.2.53",)))
    assert (asked.dns_nameservers, asked.hostname) == (("192.0.2.53",), "own")
