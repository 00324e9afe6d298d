"""Which nodes a change of the store concerns, so that only their assignments are worked out again. Pure.

Used by service.py with the membership before and after the change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common import model
from manager.dispatcher.assignments import bare, legs_changed, node_record, same_order, service_record
from manager.dispatcher.dependencies import configs_of
from manager.membership import Membership, networks_of
from manager.plan import Change
from manager.store.view import ReadView


@dataclass(slots=True)
class Interest:
    """Nodes to look at; `everyone` stands for all, `greetings` for those whose welcome may have changed."""

    nodes: set[str] = field(default_factory=set)
    everyone: bool = False
    greetings: bool = False

    def add(self, change: Change, members: Membership, view: ReadView) -> None:
        """Takes in one change, which `members` already follows."""
        subject = change.subject
        if isinstance(subject, model.Task):
            self._task(change, members)
        elif isinstance(subject, model.Service):
            self.everyone |= _service_differs(change.old, change.new)
        elif isinstance(subject, model.Network):
            if (
                not isinstance(change.old, model.Network)
                or not isinstance(change.new, model.Network)
                or bare(change.old) != bare(change.new)
                or change.new.held != change.old.held
            ):
                self.nodes.update(members.nodes(subject.id))
        elif isinstance(subject, model.Config):
            self._config(change, view)
        elif isinstance(subject, model.Node):
            self._node(change, view)
        elif isinstance(subject, model.Cluster):
            self.greetings = True

    def _task(self, change: Change, members: Membership) -> None:
        old, new = change.old, change.new
        same = isinstance(old, model.Task) and isinstance(new, model.Task) and same_order(old, new)
        for task in (old, new):
            if isinstance(task, model.Task) and task.node_id and not same:
                self.nodes.add(task.node_id)
        if legs_changed(old, new):
            for network_id in networks_of(old) | networks_of(new):
                self.nodes.update(members.nodes(network_id))
            # A node that no longer takes part must be told so.
            self.nodes.update(t.node_id for t in (old, new) if isinstance(t, model.Task) and t.node_id)

    def _config(self, change: Change, view: ReadView) -> None:
        """Only one that goes is news: its data never changes, and nobody can have waited for a new one."""
        if change.new is None:
            users = (task for task in view.tasks.all() if change.subject.id in configs_of(task))
            self.nodes.update(task.node_id for task in users)

    def _node(self, change: Change, view: ReadView) -> None:
        old, new = change.old, change.new
        if not isinstance(old, model.Node) or not isinstance(new, model.Node):
            self.everyone = self.greetings = True
            return
        self.everyone |= (
            node_record(view, old) != node_record(view, new) or old.attachments != new.attachments
        )
        if old.description.abilities != new.description.abilities:
            self.nodes.add(new.id)
        self.greetings |= (
            old.manager_status != new.manager_status
            or old.role != new.role
            or old.spec.availability != new.spec.availability
        )


def _service_differs(old: object, new: object) -> bool:
    if not isinstance(old, model.Service) or not isinstance(new, model.Service):
        return True
    return service_record(old) != service_record(new) or old.pending_delete != new.pending_delete
