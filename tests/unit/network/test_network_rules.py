"""The text of the tables; tests/lab loads it into a kernel."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.network import names, rules
from agent.network.rules import Balancer, Published, WayBack

BACKENDS = st.lists(st.integers(10, 250).map(lambda n: f"10.0.1.{n}"), unique=True, max_size=12).map(tuple)


def picked(text: str, chain: str) -> list[str]:
    """The backends of a chain in the order of its counter, once for each turn."""
    body = text.partition(f"chain {chain} {{")[2].partition("\n  }")[0]
    turns = re.findall(r"(\d+) : (0x[0-9a-f]+)", body.partition("dnat")[0])
    targets = dict(re.findall(r"(0x[0-9a-f]+) : (\d+\.\d+\.\d+\.\d+)", body.partition("dnat")[2]))
    modulus = re.findall(r"numgen inc mod (\d+)", body)
    assert [int(n) for n, _ in turns] == list(range(len(turns)))
    assert modulus == ([str(len(turns))] if turns else [])
    return [targets[mark] for _, mark in turns]


@given(BACKENDS, st.text("abc123", min_size=1, max_size=5))
def test_every_backend_once_in_each_turn(backends: tuple[str, ...], task: str) -> None:
    table = rules.task_table(task, [Balancer("svc", "10.0.1.2", backends)], None)
    assert Counter(picked(table.text, "vip_10_0_1_2")) == Counter(backends)
    assert table == rules.task_table(task, [Balancer("svc", "10.0.1.2", backends)], None)


def test_nobody_serves() -> None:
    text = rules.task_table("t", [Balancer("svc", "10.0.1.2", ())], None).text
    assert "10.0.1.2 : goto vip_10_0_1_2" in text
    assert "tcp reject with tcp reset" in text
    assert "dnat to ct mark" not in text


def test_a_vip_is_translated_for_what_a_container_sends_and_forwards() -> None:
    text = rules.task_table("t", [Balancer("svc", "10.0.1.2", ("10.0.1.5",))], None).text
    assert text.count("ip daddr vmap @vips") == 2
    assert f"th dport 53 dnat to 127.0.0.11:{names.DNS_PORT}" in text


def test_only_a_task_of_the_mesh_knows_nodes() -> None:
    without = rules.task_table("t", [], None).text
    way = WayBack("eth0", "10.0.0.9", ((1, "10.0.0.2"), (2, "10.0.0.3")))
    text = rules.task_table("t", [], way).text
    assert "mesh_" not in without
    assert text.count("02:42:0a:00:00:03 : 2") == 2  # the mark and the zone
    assert 'iifname "eth0" ct original zone set' in text


def test_published_ports() -> None:
    published = [
        Published("tcp", 80, 8080, ("10.0.0.5", "10.0.0.6")),
        Published("udp", 53, 5353, ("10.0.0.5",)),
        Published("tcp", 81, 81, ()),
    ]
    text = rules.host_table("node", published, "172.18.0.0/16").text
    assert sorted(picked(text, "tcp_80")) == ["10.0.0.5", "10.0.0.6"]
    assert "81 : goto tcp_81" in text
    assert re.search(r"meta l4proto udp dnat to ct mark map \{ \S+ : 10.0.0.5 \} : 5353", text)
    assert "fib daddr type local tcp dport vmap @tcp_ports" in text


def test_a_table_is_known_by_its_text() -> None:
    one = rules.host_table("node", [], "172.18.0.0/16")
    two = rules.host_table("node", [], "172.19.0.0/16")
    assert one.digest != two.digest
    assert f"chain {rules.marker(one.digest)} {{" in one.text


def test_clients_begin_at_different_backends() -> None:
    backends = tuple(f"10.0.1.{n}" for n in range(10, 15))
    firsts = {rules.rotated(backends, f"task{n}", "svc")[0] for n in range(50)}
    assert firsts == set(backends)
    assert rules.rotated((), "t") == ()
