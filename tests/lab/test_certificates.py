"""Machines that were off until their certificates had expired, on which nobody does anything but switch them on.

The certificate on the disk is replaced by one that ended ten days ago; who signed it does not matter, for nobody sees it.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = pytest.mark.lab

OUTDATE = """
import dataclasses, datetime, pathlib, sys
from agent import identity
from common import model, pki
agent, manager = pathlib.Path("/var/lib/shoal/agent"), pathlib.Path("/var/lib/shoal/manager/state")
now = datetime.datetime.now(datetime.UTC)
nobody, then = pki.create_root(now), now - datetime.timedelta(days=100)
def outdated(key, chain):
    node_id, cluster_id, role = pki.leaf_identity(chain)
    made = pki.issue_node(nobody, pki.create_csr(key), node_id, role, cluster_id, then)
    return pki.split_chain(made)[0] + pki.split_chain(chain)[-1]
papers = identity.load(agent)
chain = outdated(pki.load_key(papers.key.encode()), papers.certificate.encode())
identity.save(agent, dataclasses.replace(papers, certificate=chain.decode()))
if manager.exists():
    key = pki.load_key((manager / "manager.key").read_bytes())
    (manager / "manager.crt").write_bytes(outdated(key, (manager / "manager.crt").read_bytes()))
"""
ENDS = """
import pathlib
from agent import identity
from common import pki
chains = [identity.load(pathlib.Path("/var/lib/shoal/agent")).certificate.encode()]
manager = pathlib.Path("/var/lib/shoal/manager/state/manager.crt")
chains += [manager.read_bytes()] if manager.exists() else []
print(min(pki.validity(chain)[1] for chain in chains).timestamp())
"""
PYTHON = "/opt/shoal/bin/python"
UNITS = ("shoal-agent.service", "shoal-manager.service", "shoal-manager.socket")


def ends(machine: Machine) -> float:
    """When the first of a machine's certificates ends."""
    return float(machine.run(PYTHON, "-", input=ENDS).stdout)


def off_for_long(machine: Machine) -> None:
    """Daemons end, certificates expire. They do so just before: a node is away for no longer than its daemons' end and start, else a
    busy machine's tasks would be moved."""
    running = [u for u in UNITS if machine.run("systemctl", "is-active", u, check=False).returncode == 0]
    machine.run(PYTHON, "-", input=OUTDATE)
    now = float(machine.sh("date +%s"))
    assert ends(machine) < now
    again = [u for u in running if u != "shoal-manager.service"]
    machine.sh(
        f"systemctl stop {' '.join(UNITS)}" + (f" && systemctl start {' '.join(again)}" if again else "")
    )


def healed(machine: Machine) -> bool:
    """Whether both certificates are valid again, and the node stands in its swarm."""
    try:
        info = machine.api("/info")["Swarm"]
    except (OSError, LookupError):
        return False
    well = info["LocalNodeState"] == "active" and not info["Error"]
    return well and ends(machine) > float(machine.sh("date +%s"))


def pids(web: Lab) -> dict[str, int]:
    return {t["ID"]: t["Status"]["ContainerStatus"]["PID"] for t in web.wait_running("my-nginx", 5)}


def test_a_worker_whose_certificate_has_expired_comes_back(web: Lab) -> None:
    before = pids(web)
    worker = web.machines["worker1"]
    off_for_long(worker)
    until(lambda: healed(worker), 60, "worker1 has a new certificate")
    web.wait_node("worker1", "ready", 60)
    assert pids(web) == before


def test_all_machines_whose_certificates_have_expired_come_back(web: Lab) -> None:
    before = pids(web)
    for machine in web.machines.values():
        off_for_long(machine)
    for machine in web.machines.values():
        until(partial(healed, machine), 60, f"{machine.name} has new certificates")
        web.wait_node(machine.name, "ready", 60)
    assert pids(web) == before
    web.manager.docker("service", "update", "--force", "--detach=false", "my-nginx")


def test_certificates_live_as_long_as_the_swarm_says(swarm: Lab) -> None:
    worker = swarm.machines["worker1"]
    swarm.manager.docker("swarm", "update", "--cert-expiry", "2h0m0s")
    assert "Expiry Duration: 2 hours" in swarm.manager.docker("info").stdout
    off_for_long(worker)
    until(lambda: healed(worker), 60, "worker1 has a new certificate")
    left = ends(worker) - float(worker.sh("date +%s"))
    swarm.manager.docker("swarm", "update", "--cert-expiry", "2160h0m0s")
    assert 6900 < left <= 7201
    assert "Expiry Duration: 3 months" in swarm.manager.docker("info").stdout
    assert swarm.manager.docker("swarm", "ca").stdout.startswith("-----BEGIN CERTIFICATE-----")


def test_a_rotated_join_token_is_worth_nothing_and_the_nodes_stay(swarm: Lab) -> None:
    worker = swarm.machines["worker2"]
    old = swarm.manager.docker("swarm", "join-token", "-q", "worker").stdout.strip()
    kept = swarm.manager.docker("swarm", "join-token", "-q", "manager").stdout.strip()
    new = swarm.manager.docker("swarm", "join-token", "-q", "--rotate", "worker").stdout.strip()
    assert new != old
    assert swarm.manager.docker("swarm", "join-token", "-q", "manager").stdout.strip() == kept
    node = worker.api("/info")["Swarm"]["NodeID"]
    worker.shoal("swarm", "leave")
    swarm.wait_node("worker2", "down")
    refused = worker.shoal("swarm", "join", "--token", old, f"{swarm.manager.addr}:2377", check=False)
    assert refused.returncode == 1
    assert "A valid join token is necessary to join this cluster" in refused.stderr
    worker.shoal("swarm", "join", "--token", new, f"{swarm.manager.addr}:2377")
    swarm.manager.shoal("node", "rm", node)
    for name in swarm.machines:
        swarm.wait_node(name, "ready")


def test_a_node_removed_while_it_was_off_says_so(swarm: Lab) -> None:
    worker = swarm.machines["worker2"]
    node = worker.api("/info")["Swarm"]["NodeID"]
    worker.run("systemctl", "stop", "shoal-agent.service")
    swarm.wait_node("worker2", "down")
    swarm.manager.docker("node", "rm", "--force", node)
    off_for_long(worker)
    worker.run("systemctl", "start", "shoal-agent.service")

    def told() -> bool:
        try:
            return "is not part of this swarm (any more)" in worker.api("/info")["Swarm"]["Error"]
        except (OSError, LookupError):
            return False

    until(told, 60, "worker2 is told that it was removed")
    worker.shoal("swarm", "leave", "--force")
    token = swarm.manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
    worker.shoal("swarm", "join", "--token", token, f"{swarm.manager.addr}:2377")
    swarm.wait_node("worker2", "ready")
