"""From one text of a table to another by the least that has to change."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.network import delta, rules
from agent.network.rules import Balancer, Published, WayBack

WAY = WayBack("eth0", "10.0.0.9", ((1, "10.0.0.2"), (2, "10.0.0.3")))
BACKENDS = st.lists(st.integers(2, 9).map(lambda n: f"10.1.0.{n}"), max_size=4, unique=True).map(tuple)
SERVICES = st.dictionaries(st.integers(1, 5), BACKENDS, max_size=5)


def text(services: dict[int, tuple[str, ...]], way: WayBack | None = WAY) -> str:
    balancers = [Balancer(f"s{n}", f"10.1.1.{n}", backends) for n, backends in services.items()]
    return rules.task_table("t", balancers, way).text


def applied(before: str, transaction: str) -> dict[tuple[str, str], tuple[str, list[str]]]:
    """What nftables makes of it."""
    if transaction.startswith("table "):
        before, transaction = transaction, ""
    parsed = delta._parsed(before)
    assert parsed is not None
    found = {key: (more, [r.strip() for r in lines.splitlines()]) for key, (more, lines) in parsed[1].items()}
    for line in transaction.splitlines():
        verb, kind, _, _, name, rest = (*line.split(" ", 5), "")[:6]
        match verb:
            case "delete":
                del found["chain", name]
            case "flush":
                found["chain", name] = ("", [])
            case "add" if kind == "rule":
                found["chain", name][1].append(rest)
            case "add":
                found["chain", name] = ("", [])
    return found


@given(SERVICES, SERVICES)
def test_the_outcome_is_the_same(
    before: dict[int, tuple[str, ...]], after: dict[int, tuple[str, ...]]
) -> None:
    old, new = text(before), text(after)
    assert applied(old, delta.transaction(old, new)) == applied(new, "")


def test_only_what_has_changed_is_touched() -> None:
    services = dict.fromkeys(range(1, 101), ("10.1.0.2", "10.1.0.3"))
    found = delta.transaction(text(services), text({**services, 7: ("10.1.0.2",)}))
    assert len(found.splitlines()) == 6
    assert set(re.findall(r"vip_\w+", found)) == {"vip_10_1_1_7"}


def test_the_whole_text_where_more_differs() -> None:
    one, two = text({1: ("10.1.0.2",)}), text({1: ("10.1.0.2",), 2: ()})
    assert delta.transaction(one, two) == two  # another service
    assert delta.transaction(two, text({1: ("10.1.0.2",), 2: ()}, None)).startswith("table ")  # another hook
    flows = rules.flows_table("eth0", "10.0.0.9").text
    assert delta.transaction(one, flows) == flows  # another table
    assert delta.transaction("", one) == one


def test_a_published_port_of_the_host() -> None:
    port = Published("tcp", 80, 8080, ("10.0.0.5", "10.0.0.6"))
    other = Published("udp", 53, 53, ("10.0.0.7",))
    before = rules.host_table("n", (port, other), "172.18.0.0/16").text
    after = rules.host_table("n", (Published("tcp", 80, 8080, ()), other), "172.18.0.0/16").text
    found = delta.transaction(before, after)
    assert "udp_53" not in found
    assert "reject with tcp reset" in found
    assert applied(before, found) == applied(after, "")
