"""The node's own network, `host`, which services may ask for as for any other (`service create --network host`).

It is a network in the store so that tasks refer to it as to others; the first service that wants it brings it about,
and lists don't show it. A container in it has the node's interfaces, addresses and resolver. Used by services.py and
networks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common import errors, model
from manager import lifecycle
from manager.store.store import Transaction
from manager.store.view import ReadView

HOST: Final = "host"
LABEL: Final = "com.docker.swarm.predefined"


def ensure(tx: Transaction, spec: model.ServiceSpec, new_id: Callable[[], str]) -> None:
    """Puts the network into the store when a service names it and nobody has before."""
    asked = any(attachment.target == HOST for attachment in spec.task.networks)
    if asked and tx.view.networks.by_name(HOST) is None:
        driver = model.Driver(name=HOST)
        network = model.NetworkSpec(name=HOST, labels={LABEL: "true"}, driver=driver, scope="swarm")
        tx.put(model.Network(id=new_id(), spec=network))


def hidden(network: model.Network) -> bool:
    """Whether lists leave it out: it is as old as the node, not somebody's."""
    return LABEL in network.spec.labels


def check(view: ReadView, spec: model.ServiceSpec) -> None:
    """A container is on the node's own network alone, and what it listens on needs no publishing."""
    found = [network for a in spec.task.networks if (network := view.networks.get(a.target)) is not None]
    if all(lifecycle.is_overlay(network) for network in found):
        return
    if len(found) > 1:
        raise errors.InvalidArgument("a service in the node's own network (host) can be in no other network")
    if lifecycle.spec_ports(spec):
        raise errors.InvalidArgument(
            "a service in the node's own network (host) listens on its nodes' ports itself: it can publish none"
        )
