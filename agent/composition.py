"""Makes the agent's parts and connects them: who is told of what. Called once by agent/daemon.py, which runs what comes of it.

The parts that touch the machine come from agent/assembly.py. Nothing is started here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent import description, identity
from agent.applier import Applier
from agent.assembly import Assembly
from agent.check.checks import Checks
from agent.database import Database, Remembered
from agent.liveness import Liveness
from agent.membership import Membership, Parts
from agent.names import Names
from agent.settings import Settings
from agent.single.attachments import Attachments
from agent.single.containers import Singles
from agent.single.execs import Execs
from agent.single.networks import LocalNetworks
from agent.single.zones import views
from agent.state import NodeState
from agent.statuses import StatusQueue
from agent.worker.files import TaskFiles
from agent.worker.tools import Tools
from agent.worker.worker import Worker
from common.clock import Clock


@dataclass(frozen=True, slots=True)
class Composition:
    """All that one run of the agent consists of, but for its database."""

    machine: Assembly
    worker: Worker
    singles: Singles
    execs: Execs
    applier: Applier
    membership: Membership
    liveness: Liveness
    checks: Checks


def compose(
    settings: Settings, machine: Assembly, database: Database, remembered: Remembered, clock: Clock
) -> Composition:
    """`remembered` is what the database had at the start."""
    folder, network, statuses = Path(settings.state.dir), machine.network, StatusQueue()
    tools = Tools(
        machine.runtime, network, database, statuses, clock, folder / "volumes",
        TaskFiles(Path(settings.network.folder) / "tasks"), description.describe,
        settings.containerd.starts, boot_id=identity.boot_id(),
    )  # fmt: skip
    worker = Worker(tools)
    applier = Applier(remembered.state, database, network, worker)
    tools.network_stands = applier.stands

    attachments = Attachments(statuses, clock, applier.stands)
    networks = LocalNetworks(database, network, remembered.networks)
    singles = Singles(machine.runtime, network, database, attachments, remembered.singles, networks)
    tools.others = singles.sandboxes
    _name(machine.names, worker, singles, networks)

    checks = Checks(machine.insight, lambda: membership.node_id, lambda: liveness.unseen, clock.now_ns)
    membership = Membership(
        Parts(
            folder, database, applier, statuses, worker, network, machine.routes,
            settings.manager.socket, attachments, checks,
        ),
        remembered.contact,
    )  # fmt: skip
    attachments.declare = membership.declare
    checks.tell = membership.tell
    liveness = Liveness(machine.gossip, applier, membership)

    def changed(state: NodeState) -> None:
        machine.names.update(state)
        attachments.update(state)

    def contact() -> None:
        network.use_keys(membership.contact.network_keys)
        liveness.look()

    applier.changed = changed
    applier.narrow, statuses.noted = liveness.narrow, liveness.ended
    membership.on_contact, membership.on_leaving = contact, liveness.leave
    network.use_keys(remembered.contact.network_keys)
    execs = Execs(machine.runtime)
    return Composition(machine, worker, singles, execs, applier, membership, liveness, checks)


def _name(names: Names, worker: Worker, singles: Singles, networks: LocalNetworks) -> None:
    """What runs here beside the swarm's assignments has names too."""
    names.short_ids = lambda: {**worker.short_ids(), **singles.short_ids()}
    names.singles = lambda places: views(singles.records().values(), networks.get, places)
    singles.wiring.changed = names.refresh
