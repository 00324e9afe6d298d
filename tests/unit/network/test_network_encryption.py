"""What seals encrypted networks: whichever steps nodes have come to, what one sends the other opens."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import encryption, names, plan, refusals
from agent.network.encryption import End, Key
from agent.network.facts import (
    Facts,
    Forward,
    Namespace,
    SealPolicy,
    SealState,
    Vxlan,
    after,
    difference,
    held_back,
    is_guard,
    sealed_tunnels,
)
from agent.network.rules import seal_tables
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import errors, model
from manager import keys

ENDS = tuple(End(n, f"192.0.2.{n}") for n in (1, 2, 3))


def turns(count: int) -> list[tuple[Key, ...]]:
    """The rings that managers hand out, one after the other, from a swarm's first on."""
    numbers = itertools.count(1)
    first = tuple(model.EncryptionKey(use, b"\1" * keys.LENGTH, 1) for use in keys.SUBSYSTEMS)
    cluster = model.Cluster(id="c", network_keys=first, key_clock=1)
    found = [encryption.ring(cluster.network_keys)]
    for _ in range(count):
        cluster = keys.turned(cluster, 0, lambda length: next(numbers).to_bytes(length, "big"))
        found.append(encryption.ring(cluster.network_keys))
    return found


def steps(before: Facts, wanted: Facts) -> list[Facts]:
    """What stands in the kernel on the way, change by change."""
    view = {names.HOST: before}
    found = [before]
    for change in difference(view, {names.HOST: wanted}):
        view = after(view, (change,))
        found.append(view[names.HOST])
    return found


def used(facts: Facts, sender: End, receiver: End) -> SealState:
    """The state that seals what goes from one to the other."""
    policy = next(f for f in facts if isinstance(f, SealPolicy) and f.destination == receiver.address)
    return next(
        f for f in facts
        if isinstance(f, SealState) and (f.source, f.destination, f.spi) == (sender.address, receiver.address, policy.spi)
    )  # fmt: skip


def test_at_every_interleaving_what_is_sent_is_opened() -> None:
    """All pairs of steps that two nodes can have come to on the way from one turn to the next, from the first key on."""
    me, peer = ENDS[:2]
    pairs = 0
    for old, new in itertools.pairwise(turns(6)):
        mine = steps(encryption.facts(me, (peer,), old), encryption.facts(me, (peer,), new))
        theirs = steps(encryption.facts(peer, (me,), old), encryption.facts(peer, (me,), new))
        for here, there in itertools.product(mine, theirs):
            assert used(here, me, peer) in there
            assert used(there, peer, me) in here
            pairs += 1
    assert pairs > 150


@given(st.lists(st.integers(0, 2), max_size=120), st.integers(2, 5))
def test_any_order_of_hearing_of_turns(order: list[int], count: int) -> None:
    """Nodes go on step by step in any order; the managers turn the keys once all have come to the last turn."""
    ring = turns(count)
    standing: list[Facts] = [
        encryption.facts(me, tuple(e for e in ENDS if e is not me), ring[0]) for me in ENDS
    ]
    ahead: list[list[Facts]] = [[] for _ in ENDS]
    turn = 0
    for node in order:
        if not any(ahead) and turn + 1 < len(ring):
            turn += 1
            for n, me in enumerate(ENDS):
                peers = tuple(e for e in ENDS if e is not me)
                ahead[n] = steps(standing[n], encryption.facts(me, peers, ring[turn]))[1:]
        if ahead[node]:
            standing[node] = ahead[node].pop(0)
        for (a, sender), (b, receiver) in itertools.permutations(tuple(enumerate(ENDS)), 2):
            assert used(standing[a], sender, receiver) in standing[b]


def test_a_ring_that_is_two_turns_behind_is_not_understood() -> None:
    """So far and no farther: the bound that the interleavings lean on."""
    ring = turns(6)
    me, peer = ENDS[:2]
    old, new = encryption.facts(me, (peer,), ring[3]), encryption.facts(peer, (me,), ring[5])
    assert used(old, me, peer) not in new


def test_guards_come_first_and_go_last() -> None:
    """The tunnel stands only while nothing unsealed can leave it or come in."""
    sandbox = frozenset((Namespace(), Vxlan("vxlan0", 5000, ENDS[0].address, 1416, "br0", names.SEALED_PORT)))
    full = {names.HOST: encryption.facts(ENDS[0], ENDS[1:], turns(2)[2]), "n-x": sandbox}
    for before, after_ in (({}, full), (full, {})):
        view = {n: frozenset(f) for n, f in before.items()}
        for change in difference(view, after_):
            view = after(view, (change,))
            if any(isinstance(f, Vxlan) for f in view.get("n-x", ())):
                assert encryption.guards() <= view[names.HOST]


def test_keys_differ_by_pair_direction_and_turn() -> None:
    ring = turns(3)[3]
    made = [encryption.state(a, b, key) for a, b in itertools.permutations(ENDS, 2) for key in ring]
    assert len({state.key for state in made}) == len(made) == 18
    assert len({(state.destination, state.spi) for state in made}) == 18
    assert all(state.spi > 255 and len(state.key) == 20 for state in made)  # up to 255 are reserved
    assert repr(made[0].key) not in repr(made[0])
    assert repr(ring[0].secret) not in repr(Underlay("192.0.2.1", keys=ring))


def test_without_a_key_nothing_passes() -> None:
    assert encryption.facts(ENDS[0], ENDS[1:], ()) == encryption.guards()


def test_a_new_swarm_seals_with_its_only_key() -> None:
    ring = turns(1)
    assert encryption.sealing(ring[0]) == encryption.sealing(ring[1]) == ring[0][0]


@given(st.integers(1280, 9001))
def test_the_mtu_fills_the_underlay(underlay: int) -> None:
    def wire(inner: int) -> int:
        carried = 8 + 8 + 14 + inner  # UDP, VXLAN, Ethernet
        return 20 + 8 + 8 + -(-(carried + 2) // 4) * 4 + 16

    found = encryption.sealed_mtu(underlay)
    assert wire(found) <= underlay < wire(found + 1)


def test_the_usual_mtu() -> None:
    assert encryption.sealed_mtu(1500) == 1416


# ---- in the plan

ENCRYPTED = model.Driver("overlay", {"encrypted": ""})


def state(driver: model.Driver) -> NodeState:
    network = model.Network(
        id="app", spec=model.NetworkSpec(name="app", driver=driver), vni=4097,
        ipam=model.IPAMOptions(configs=(model.IPAMConfig(subnet="10.0.1.0/24"),)),
    )  # fmt: skip
    legs = (model.NetworkAttachment(network_id="app", addresses=("10.0.1.5/24",)),)
    return NodeState(
        node_id="n1",
        tasks={"t1": model.TaskAssignment(model.Task(id="t1", networks=legs))},
        networks={"app": network},
        endpoints={
            ("t2", "app"): model.EndpointRecord(task_id="t2", network_id="app", addr="10.0.1.6", node_id="n2")
        },
        nodes={
            f"n{end.number}": model.NodeRecord(id=f"n{end.number}", vtep=end.address, number=end.number)
            for end in ENDS
        },
    )


UNDERLAY = Underlay("192.0.2.1", keys=turns(2)[2])


def test_the_plan_of_an_encrypted_network() -> None:
    view = plan.desired(state(ENCRYPTED), {"t1": ""}, UNDERLAY)
    tunnel = next(f for f in view["n-app"] if isinstance(f, Vxlan))
    assert (tunnel.port, tunnel.mtu) == (names.SEALED_PORT, 1416)
    seals = {f for f in view[""] if isinstance(f, SealState | SealPolicy) or is_guard(f)}
    assert seals == encryption.facts(ENDS[0], ENDS[1:2], UNDERLAY.keys)  # n3 has no task there


def test_other_networks_are_sealed_by_nothing() -> None:
    view = plan.desired(state(model.Driver("overlay")), {"t1": ""}, UNDERLAY)
    assert next(f for f in view["n-app"] if isinstance(f, Vxlan)).port == names.VXLAN_PORT
    assert not [f for f in view[""] if isinstance(f, SealState | SealPolicy) or is_guard(f)]


def test_without_esp_there_is_no_tunnel() -> None:
    """Also for a task that was adopted: its leg leads nowhere, rather than out in plain text."""
    view = plan.desired(state(ENCRYPTED), {"t1": ""}, replace(UNDERLAY, seals=False))
    facts = [fact for found in view.values() for fact in found]
    assert not [fact for fact in facts if isinstance(fact, Vxlan | Forward | SealState | SealPolicy)]


def test_the_refusal_names_the_module() -> None:
    given = state(ENCRYPTED)
    refusals.refuse_impossible(given, given.tasks["t1"].task)
    with pytest.raises(errors.FailedPrecondition, match=r"sandbox of network app: .*no module esp4$"):
        refusals.refuse_impossible(given, given.tasks["t1"].task, "esp4")
    plain = state(model.Driver("overlay"))
    refusals.refuse_impossible(plain, plain.tasks["t1"].task, "esp4")


def test_a_node_that_joined_again_is_sealed_to_with_one_key() -> None:
    """Its old record stays until it is removed: two numbers, one address."""
    me, before, now = End(1, "10.0.0.1"), End(2, "10.0.0.2"), End(7, "10.0.0.2")
    key = Key(1, b"k" * 20)
    assert encryption.state(me, before, key) == encryption.state(me, now, key)
    assert encryption.state(before, me, key).spi != encryption.state(now, me, key).spi


def test_without_guards_there_is_no_tunnel() -> None:
    """What is left of an encrypted network where nothing can keep plain text in; other networks stay whole."""
    view = plan.desired(state(ENCRYPTED), {"t1": ""}, UNDERLAY)
    plain = plan.desired(state(model.Driver("overlay")), {"t1": ""}, UNDERLAY)
    assert sealed_tunnels(view) == {"n-app"}
    assert sealed_tunnels(plain) == frozenset()
    held = held_back(view)
    assert not [f for f in held["n-app"] if isinstance(f, Vxlan | Forward)]
    assert {name: held[name] for name in view if name != "n-app"} == {
        n: view[n] for n in view if n != "n-app"
    }
    assert held_back(plain) == plain


def test_a_node_that_does_not_know_itself_has_guards_all_the_same() -> None:
    given = state(ENCRYPTED)
    alone = replace(given, nodes={n: record for n, record in given.nodes.items() if n != "n1"})
    view = plan.desired(alone, {"t1": ""}, UNDERLAY)
    assert sealed_tunnels(view) and encryption.guards() <= view[""]


def test_both_tables_say_the_same_of_both_directions() -> None:
    tables = {t.name: t.text for t in seal_tables()}
    assert tables.keys() == {names.SEALS_TABLE, names.HELD_TABLE}
    for text in tables.values():
        assert "udp dport 4790 rt ipsec missing counter drop" in text
        assert "udp dport 4790 meta ipsec missing counter drop" in text
    assert ["owner" in tables[name] for name in (names.SEALS_TABLE, names.HELD_TABLE)] == [False, True]
