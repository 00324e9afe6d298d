"""`shoal network check`: what people see of a check, and the exit code."""

import json

import pytest

A, B, C = (
    {"ID": f"id{n}", "Hostname": n, "Addr": f"192.0.2.{i}"} for i, n in enumerate(("m1", "w1", "w2"), 1)
)
WELL = {"State": "ready", "OnNetwork": True, "ClockOffset": 0, "Names": 2, "VIPs": 1}


def answer(*faults, nodes=({**A, **WELL}, {**B, **WELL}, {**C, **WELL})):
    return {
        "Network": {"Id": "netid", "Name": "web-net", "VXLANId": 4099, "MTU": 1450},
        "Nodes": list(nodes),
        "Faults": [dict(zip(("Kind", "From", "To", "Text"), fault, strict=True)) for fault in faults],
    }


def test_all_is_well(daemon, shoal):
    daemon.says("GET", "/networks/web-net/check", answer())
    done = shoal("network", "check", "web-net")
    assert done.code == 0
    assert (
        done.out
        == """\
Network web-net (VXLAN 4099, MTU 1450): on 3 of 3 nodes

NODE      ADDRESS     STATE     ON NETWORK   CLOCK     DNS       VIP
m1        192.0.2.1   ready     yes          +0.0 s    ok (2)    ok (1)
w1        192.0.2.2   ready     yes          +0.0 s    ok (2)    ok (1)
w2        192.0.2.3   ready     yes          +0.0 s    ok (2)    ok (1)

FROM \\ TO   m1        w1        w2
m1          -         ok        ok
w1          ok        -         ok
w2          ok        ok        -

No faults found.
"""
    )


def test_faults_stand_in_their_cells_and_below(daemon, shoal):
    down = {**C, **WELL, "State": "down", "OnNetwork": False, "Names": 0, "VIPs": 0}
    off = {**B, **WELL, "OnNetwork": False, "ClockOffset": -12_340_000_000, "Names": 0, "VIPs": 0}
    faults = (
        ("4789", ["idm1"], "idw1", "m1 -> w1: nothing arrives"),
        ("7946/udp", ["idm1"], "idw1", "m1 -> w1: no gossip"),
        ("clock", [], "idw1", "w1's clock is behind"),
        ("dns", [], "idm1", "m1: no answer"),
        ("down", [], "idw2", "w2 is Down"),
    )
    daemon.says("GET", "/networks/web-net/check", answer(*faults, nodes=({**A, **WELL}, off, down)))
    done = shoal("network", "check", "web-net")
    assert done.code == 1
    assert (
        done.out
        == """\
Network web-net (VXLAN 4099, MTU 1450): on 1 of 3 nodes

NODE      ADDRESS     STATE     ON NETWORK            CLOCK     DNS       VIP
m1        192.0.2.1   ready     yes                   +0.0 s    fault     ok (1)
w1        192.0.2.2   ready     not on this network   -12.3 s   -         -
w2        192.0.2.3   down      not on this network   -         -         -

FROM \\ TO   m1        w1              w2
m1          -         4789,7946/udp   down
w1          ok        -               down
w2          down      down            -

1. m1 -> w1: nothing arrives.
2. m1 -> w1: no gossip.
3. w1's clock is behind.
4. m1: no answer.
5. w2 is Down.
"""
    )


def test_of_many_nodes_only_those_with_a_fault_are_in_the_matrix(daemon, shoal):
    nodes = [{**WELL, "ID": f"id{n}", "Hostname": f"n{n}", "Addr": ""} for n in range(20)]
    found = answer(("4789", ["id3"], "id7", "n3 -> n7: nothing arrives"), nodes=nodes)
    daemon.says("GET", "/networks/web-net/check", found)
    done = shoal("network", "check", "web-net")
    assert "FROM \\ TO   n3        n7\nn3          -         4789\nn7          ok        -\n" in done.out


def test_as_json(daemon, shoal):
    found = answer(("clock", [], "idw1", "late"))
    daemon.says("GET", "/networks/web-net/check", found)
    done = shoal("network", "check", "--format", "json", "web-net")
    assert (done.code, json.loads(done.out)) == (1, found)


@pytest.mark.parametrize("form", ["{{.ID}}", "yaml"])
def test_other_formats_are_refused(daemon, shoal, form):
    done = shoal("network", "check", "--format", form, "web-net")
    assert (done.code, done.err) == (1, "--format takes table or json\n")


def test_the_daemons_refusal(daemon, shoal):
    daemon.says("GET", "/networks/x/check", {"message": "network x not found"}, status=404)
    done = shoal("network", "check", "x")
    assert (done.code, done.err) == (1, "Error response from daemon: network x not found\n")
