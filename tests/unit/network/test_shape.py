"""What is counted in a table's text and in nft's listing of it."""

from __future__ import annotations

from agent.network import rules
from agent.network.rules import Published
from agent.network.shape import shape

LISTED = """table ip shoal {
\tmap ports {
\t\ttype inet_proto . inet_service : verdict
\t\telements = { tcp . 80 : jump tcp_80,
\t\t\t     udp . 53 : jump udp_53 }
\t}

\tmap flows {
\t\ttype ipv4_addr : mark
\t\tflags dynamic,timeout
\t\telements = { 10.0.0.1 timeout 3m expires 2m : 0x00000001 }
\t}

\tchain tcp_80 {
\t\tct mark set numgen inc mod 2 map { 0 : 0x1, 1 : 0x2 }
\t\tmeta l4proto tcp dnat to ct mark map { 0x1 : 10.0.0.1, 0x2 : 10.0.0.2 }:80
\t}

\tchain hook {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tfib daddr type local meta l4proto . th dport vmap @ports
\t}

\tchain plan_0123456789abcdef {
\t}
}
"""
MADE = """table ip shoal
delete table ip shoal
table ip shoal {
  chain plan_0123456789abcdef {
  }
  map ports { type inet_proto . inet_service : verdict; elements = { tcp . 80 : jump tcp_80, udp . 53 : jump udp_53 }
  }
  map flows { type ipv4_addr : mark; flags dynamic,timeout; timeout 180s; size 65536;
  }
  chain tcp_80 {
    ct mark set numgen inc mod 2 map { 0 : 0x1, 1 : 0x2 }
    meta l4proto tcp dnat to ct mark map { 0x1 : 10.0.0.1, 0x2 : 10.0.0.2 } : 80
  }
  chain hook {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local meta l4proto . th dport vmap @ports
  }
}
"""


def test_a_listing_and_its_text_have_the_same_shape() -> None:
    assert shape(LISTED) == shape(MADE)
    assert shape(LISTED) == {"ports": 3, "tcp_80": 2, "hook": 1, "plan_0123456789abcdef": 0}


def test_what_was_taken_out_is_missing() -> None:
    lines = LISTED.splitlines()
    rule = next(n for n, line in enumerate(lines) if "numgen" in line)
    assert shape("\n".join(lines[:rule] + lines[rule + 1 :])) != shape(MADE)
    assert shape(LISTED.replace("udp . 53 : jump udp_53", "")) != shape(MADE)
    assert shape(LISTED.replace("chain tcp_80", "chain other")) != shape(MADE)


def test_our_own_texts_are_understood() -> None:
    ports = [Published("tcp", 80, 8080, ("10.0.0.1", "10.0.0.2")), Published("udp", 53, 53, ())]
    counted = shape(rules.host_table("n1", ports, "172.18.0.0/16").text)
    assert counted["tcp_80"] == 2 and counted["udp_53"] == 2
    assert "mesh_flows" not in counted
