"""Nodes, what recorded conversations don't show: where gossip and a node's session differ."""

from __future__ import annotations

import pytest
from fake_daemon import Daemon, Shoal

UNSEEN = "not seen by gossip: is port 7946 open, TCP and UDP, between the nodes?"


@pytest.mark.parametrize(
    ("state", "message", "shown"),
    [
        ("ready", "", "Ready"),
        ("ready", UNSEEN, "Ready, unseen"),
        ("ready", "something else", "Ready"),
        ("down", "no session, and not seen by gossip", "Down"),
        ("down", "heartbeat failure", "Down"),
    ],
)
def test_a_node_that_gossip_does_not_see_says_so(
    daemon: Daemon, shoal: Shoal, state: str, message: str, shown: str
) -> None:
    node = {
        "ID": "n1",
        "Description": {"Hostname": "worker1"},
        "Status": {"State": state, "Message": message},
    }
    daemon.says("GET", "/nodes", [node])
    daemon.says("GET", "/info", {"Swarm": {"NodeID": "n0"}})
    assert shoal("node", "ls", "--format", "{{.Hostname}}: {{.Status}}").out == f"worker1: {shown}\n"
