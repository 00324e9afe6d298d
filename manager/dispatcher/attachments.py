"""Places of single containers in networks, as the managers keep them: a task each, bound to its node from the start. Pure.

An agent says which places its containers have or want, all of them at once. What is new becomes a task NEW with the id that the
agent gave it; the allocator finds the addresses, the scheduler hands it to its node. An address that the container asks for is
refused at once where it can never be given; while somebody has it, the task waits for it and its agent is told why. A container that
has another name gives it to its tasks, and so to DNS on all nodes. What an agent doesn't name any more is over.
service.py carries it out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final

from common import errors, model, overlays
from common.model import TaskState
from manager import lifecycle
from manager.allocator import subnets
from manager.allocator.addresses import MAC_IN_USE, has_mac, held_by
from manager.store.view import ReadView

_ID: Final = re.compile(r"[0-9a-z]{25}")


def settle(
    view: ReadView, node_id: str, held: Iterable[model.ContainerAttachment], now: int
) -> tuple[tuple[model.Task, ...], tuple[model.AttachmentRefused, ...]]:
    """The tasks to be written, and what cannot be had."""
    written: list[model.Task] = []
    refused: list[model.AttachmentRefused] = []
    named = {attachment.id: attachment for attachment in held}
    going = tuple(_over(view, node_id, named.keys(), now))
    over = frozenset(task.id for task in going)
    for attachment in named.values():
        task = view.tasks.get(attachment.id)
        if task is not None and known(task, node_id):
            if task.name != attachment.name and not lifecycle.ended(task):
                written.append(replace(task, name=attachment.name))
            continue
        made = _attempt(view, node_id, attachment, over, now)
        if isinstance(made, model.Task):
            written.append(made)
            refused += _waits(view, made, over)
        else:
            refused.append(made)
    return (*written, *going), tuple(refused)


def known(task: model.Task | None, node_id: str) -> bool:
    """Whether the place exists already, as this node's."""
    return task is not None and task.node_id == node_id and task.spec.attachment is not None


def _over(view: ReadView, node_id: str, named: Iterable[str], now: int) -> Iterator[model.Task]:
    kept = frozenset(named)
    for task in view.tasks.by_node(node_id):
        if task.spec.attachment is not None and task.id not in kept and not lifecycle.ended(task):
            gone = lifecycle.with_status(task, now, TaskState.TASK_SHUTDOWN, "its container has ended")
            yield replace(gone, desired_state=TaskState.TASK_REMOVE)


def _attempt(
    view: ReadView, node_id: str, attachment: model.ContainerAttachment, over: Collection[str], now: int
) -> model.Task | model.AttachmentRefused:
    network = ""
    configs: list[model.NetworkAttachmentConfig] = []
    try:
        if not _ID.fullmatch(attachment.id) or view.tasks.get(attachment.id) is not None:
            raise errors.InvalidArgument(f"attachment {attachment.id!r} cannot be made")
        for config in attachment.networks:
            network = config.target
            found = _attachable(view, network, node_id)
            if why := next(filter(None, (subnets.refusal(found, a) for a in config.addresses)), ""):
                return _no_address(attachment.id, network, why)
            _refuse_mac(view, found, config, over)
            configs.append(replace(config, target=found.id))
    except errors.ShoalError as exc:
        return model.AttachmentRefused(attachment.id, network, exc.code, exc.message)
    spec = model.TaskSpec(
        attachment=model.NetworkAttachmentSpec(attachment.container_id), networks=tuple(configs)
    )
    return model.Task(
        id=attachment.id,
        created_at=now,
        name=attachment.name,
        spec=spec,
        node_id=node_id,
        status=model.TaskStatus(timestamp=now, state=TaskState.TASK_NEW, message="created"),
        desired_state=TaskState.TASK_RUNNING,
    )


def _refuse_mac(
    view: ReadView, network: model.Network, config: model.NetworkAttachmentConfig, over: Collection[str]
) -> None:
    """Raises where the MAC that a container asks for belongs to an address that somebody else has there, or where a node's agent
    would go by the one that belongs to the container's. Tasks that are `over` have nothing any more."""
    if not config.mac:
        return
    if not overlays.is_mac(config.mac):
        raise errors.InvalidArgument(f"invalid MAC address {config.mac!r}")
    known = overlays.address_of(config.mac)
    if known and known not in config.addresses and known in _taken(view, network, over):
        raise errors.InvalidArgument(
            f"MAC address {config.mac} is the one of {known} in network {network.spec.name}"
        )
    old = [n for n in view.nodes.all() if overlays.OVERLAY_MAC not in n.description.abilities]
    if old:
        names = ", ".join(sorted(lifecycle.hostname(node, node.id) for node in old))
        raise errors.FailedPrecondition(
            f"--mac-address in network {network.spec.name} asks more than the agents of {names} can do: upgrade them"
        )


def _taken(view: ReadView, network: model.Network, over: Collection[str]) -> frozenset[str]:
    """The addresses that somebody has in a network."""
    things = (*view.services.all(), *_living(view, over), *view.nodes.all())
    held = (item for thing in things for item in held_by(thing))
    return frozenset(subnets.plain(address) for id, address in held if id == network.id)


def _living(view: ReadView, over: Collection[str]) -> Iterator[model.Task]:
    return (task for task in view.tasks.all() if not lifecycle.ended(task) and task.id not in over)


def _waits(view: ReadView, task: model.Task, over: Collection[str]) -> Iterator[model.AttachmentRefused]:
    """What a new task asks for and somebody has now."""
    for config in task.spec.networks:
        network = view.networks.get(config.target)
        if network is None or not (config.addresses or config.mac):
            continue
        if config.mac and has_mac(_living(view, over), network.id, config.mac):
            why = f"{MAC_IN_USE}: {config.mac}"
            yield _no_address(task.id, network.spec.name, why, waits=True)
        used = _taken(view, network, over)
        for address in config.addresses:
            if subnets.plain(address) in used:
                yield _no_address(task.id, network.spec.name, f"{subnets.IN_USE}: {address}", waits=True)


def _no_address(id: str, network: str, why: str, waits: bool = False) -> model.AttachmentRefused:
    code = errors.AlreadyExists.code if waits else errors.InvalidArgument.code
    return model.AttachmentRefused(id, network, code, why, address=True, waits=waits)


def _attachable(view: ReadView, ref: str, node_id: str) -> model.Network:
    """The network that a name or id means, if single containers may be in it."""
    network = view.networks.get(ref) or view.networks.by_name(ref)
    if network is None or network.pending_delete or not lifecycle.is_overlay(network):
        raise errors.NotFound(f"network {ref} not found")
    if not network.spec.attachable:
        raise errors.PermissionDenied(f"network {ref} not manually attachable")
    node = view.nodes.get(node_id)
    if node is not None and not overlays.suits(network.spec, node.description.abilities):
        raise errors.FailedPrecondition(
            f"network {ref} asks more of this node than its agent can do: upgrade it"
        )
    return network
