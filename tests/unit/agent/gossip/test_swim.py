"""The state machine among its like, on a virtual clock: convergence, failures, losses, partitions, come-backs."""

from __future__ import annotations

import pytest

from agent.gossip.api import Change, Config, Departed, JoinAnswered, UserMessage, UserState
from agent.gossip.messages import State
from tests.unit.agent.gossip.cluster import Cluster, agreed, known

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_members_that_join_one_are_known_to_all_within_seconds(seed: int) -> None:
    cluster = Cluster(seed)
    peers = [cluster.add(f"n{i}", f"10.0.0.{i + 1}", meta=b"m%d" % i) for i in range(20)]
    for peer in peers[1:]:
        cluster.do(peer, lambda core: core.join(cluster.now, [peers[0].address]))
    start = cluster.now
    assert cluster.until(lambda: agreed(peers, 20), 10)
    assert cluster.now - start < 3
    assert {view.name: view.meta for view in peers[7].core.members()}["n13"] == b"m13"
    assert all(
        isinstance(e, JoinAnswered) and e.problem is None
        for _, e in peers[3].events
        if isinstance(e, JoinAnswered)
    )
    cluster.run(60)
    assert all(not peer.saw(Change.SUSPECTED) for peer in peers)
    assert all(peer.core.health == 0 for peer in peers)
    assert cluster.largest <= 1400


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_member_is_noticed_in_time(seed: int, count: int) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(count)
    cluster.run(5)
    killed = cluster.now
    cluster.kill(peers[-1])
    assert cluster.until(lambda: known(peers, peers[-1].name, State.DEAD), 15)
    first = min(at for peer in peers[:-1] for at in peer.saw(Change.FAILED, peers[-1].name))
    assert 4 <= first - killed <= 10
    assert cluster.now - killed <= 12
    assert not any(peer.saw(Change.FAILED, other.name) for peer in peers for other in peers[:-1])


@pytest.mark.parametrize("loss", [0.2, 0.4])
@pytest.mark.parametrize("seed", SEEDS)
def test_losses_kill_nobody(seed: int, loss: float) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(12)
    cluster.loss = loss
    cluster.run(120)
    assert not any(peer.saw(Change.FAILED) for peer in peers)
    killed = cluster.now
    cluster.kill(peers[4])
    assert cluster.until(lambda: known(peers, "n4", State.DEAD), 40)
    assert cluster.now - killed < 30


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leaving_member_is_gone_at_once_and_not_a_failure(seed: int) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(10)
    left = cluster.now
    cluster.do(peers[3], lambda core: core.leave(cluster.now))
    assert cluster.until(lambda: known(peers, "n3", State.LEFT), 5)
    assert cluster.now - left < 1.5
    assert cluster.until(lambda: any(isinstance(e, Departed) for _, e in peers[3].events), 5)
    cluster.kill(peers[3])
    cluster.run(40)
    assert not any(peer.saw(Change.FAILED) for peer in peers)


def test_the_last_one_departs_at_once() -> None:
    cluster = Cluster(1)
    peer = cluster.add("n0", "10.0.0.1")
    cluster.do(peer, lambda core: core.leave(cluster.now))
    assert isinstance(peer.events[-1][1], Departed)
    assert peer.core.next_deadline() is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_partition_is_seen_by_both_sides_and_heals_within_five_seconds(seed: int) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(7)
    one, other = peers[:5], peers[5:]
    cluster.partition(one, other)
    assert cluster.until(lambda: agreed(one, 5) and agreed(other, 2), 40)
    cluster.run(300)
    cluster.heal()
    healed = cluster.now
    assert cluster.until(lambda: not any(State.DEAD in peer.states().values() for peer in peers), 30)
    assert cluster.now - healed < 5
    assert cluster.until(lambda: agreed(peers, 7), 30)  # the last suspicion is over


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_was_cut_off_is_back_within_five_seconds(seed: int) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(3)
    cluster.partition(peers[:2], peers[2:])
    cut = cluster.now
    assert cluster.until(lambda: known(peers[:2], "n2", State.DEAD), 20)
    assert cluster.now - cut < 8
    cluster.run(60)
    cluster.heal()
    healed = cluster.now
    assert cluster.until(lambda: agreed(peers, 3), 30)
    assert cluster.now - healed < 5


@pytest.mark.parametrize("blocked", [1.0, 3.0, 4.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_blocked_loop_refutes_in_time(seed: int, blocked: float) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(8)
    cluster.freeze(peers[2], blocked)
    cluster.run(30)
    assert not any(peer.saw(Change.FAILED) for peer in peers)
    assert agreed(peers, 8)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_stood_still_accuses_nobody_and_comes_back(seed: int) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(8)
    cluster.freeze(peers[2], 60)
    assert cluster.until(lambda: known([p for p in peers if p is not peers[2]], "n2", State.DEAD), 30)
    cluster.run(60 + 20)
    assert agreed(peers, 8)
    assert not peers[2].saw(Change.FAILED)
    assert not any(
        peer.saw(Change.FAILED, other.name) for peer in peers for other in peers if other is not peers[2]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restart_at_the_same_address_takes_its_incarnation_over(seed: int) -> None:
    cluster = Cluster(seed)
    peers = cluster.grow(4)
    cluster.do(peers[3], lambda core: core.set_meta(cluster.now, b"first"))
    cluster.run(2)
    cluster.kill(peers[3])
    again = cluster.add("n3", "10.0.0.4", meta=b"second")
    cluster.do(again, lambda core: core.join(cluster.now, [peers[0].address]))
    everybody = [*peers[:3], again]
    metas = lambda: {v.meta for p in everybody for v in p.core.members() if v.name == "n3"}  # noqa: E731
    assert cluster.until(lambda: metas() == {b"second"} and agreed(everybody, 4), 5)


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_comes_back_with_a_new_address(seed: int, gone: bool) -> None:
    """Whether its old self was declared dead already, or not yet."""
    cluster = Cluster(seed)
    peers = cluster.grow(6)
    cluster.kill(peers[5])
    if gone:
        assert cluster.until(lambda: known(peers, "n5", State.DEAD), 20)
    again = cluster.add("n5", "10.9.9.9")
    cluster.do(again, lambda core: core.join(cluster.now, [peers[0].address, peers[1].address]))
    back = cluster.now
    everybody = [*peers[:5], again]

    def moved() -> bool:
        found = {(v.address, v.state) for p in everybody for v in p.core.members() if v.name == "n5"}
        return found == {(("10.9.9.9", 7946), State.ALIVE)}

    assert cluster.until(moved, 30)
    assert cluster.now - back < 5
    cluster.run(40)
    assert moved() and agreed(everybody, 6)


def test_a_second_owner_of_a_name_is_a_conflict() -> None:
    cluster = Cluster(3, config=Config(takeover=0.0))
    peers = cluster.grow(3)
    cluster.run(1)
    thief = cluster.add("n2", "10.9.9.9")
    cluster.run(1)
    cluster.do(thief, lambda core: core.join(cluster.now, [peers[0].address]))
    cluster.run(30)
    assert peers[0].saw(Change.CONFLICT, "n2")
    assert {v.address for v in peers[0].core.members() if v.name == "n2"} == {("10.0.0.3", 7946)}
    assert len(peers[0].saw(Change.CONFLICT, "n2")) <= 2


def test_user_messages_reach_several_and_only_small_ones_go() -> None:
    cluster = Cluster(4)
    peers = cluster.grow(15, keys=(b"k" * 16,))
    cluster.run(5)
    cluster.do(peers[3], lambda core: core.broadcast(cluster.now, "down", b"x" * 1300))
    cluster.run(5)
    told = sum(UserMessage(b"x" * 1300) in [event for _, event in peer.events] for peer in peers)
    assert 3 <= told <= 8
    assert cluster.largest <= 1400
    with pytest.raises(ValueError, match="the most"):
        peers[3].core.broadcast(cluster.now, "down", b"x" * 1400)
    with pytest.raises(ValueError, match="512"):
        peers[3].core.set_meta(cluster.now, b"x" * 513)


def test_user_state_travels_with_a_push_pull() -> None:
    cluster = Cluster(5)
    one, other = cluster.add("a", "10.0.0.1"), cluster.add("b", "10.0.0.2")
    one.core.user_state, other.core.user_state = b"of a", b"of b"
    cluster.do(other, lambda core: core.join(cluster.now, [one.address]))
    cluster.run(1)
    assert UserState(b"of b", True) in [e for _, e in one.events]
    assert UserState(b"of a", False) in [e for _, e in other.events] or UserState(b"of a", True) in [
        e for _, e in other.events
    ]


def test_a_new_key_goes_round_without_a_loss() -> None:
    cluster = Cluster(6)
    old, new = b"o" * 16, b"n" * 32
    peers = cluster.grow(6, keys=(old,))
    for step in ("add", "use", "remove"):
        for peer in peers:  # one after the other, gossip going on
            assert peer.core.keyring is not None
            getattr(peer.core.keyring, step)(old if step == "remove" else new)
            cluster.run(1.3)
    cluster.run(20)
    assert agreed(peers, 6)
    assert not any(peer.saw(Change.SUSPECTED) or peer.core.malformed for peer in peers)
    assert all(peer.core.keyring and peer.core.keyring.keys == (new,) for peer in peers)


def test_other_keys_join_nothing() -> None:
    cluster = Cluster(7)
    one = cluster.add("a", "10.0.0.1", keys=(b"a" * 16,))
    for host, keys in (("10.0.0.2", (b"b" * 16,)), ("10.0.0.3", ())):
        other = cluster.add(host, host, keys=keys)
        cluster.do(other, lambda core: core.join(cluster.now, [one.address]))
        cluster.run(5)
        assert len(other.core.members()) == 1
        assert any(isinstance(e, JoinAnswered) and e.problem for _, e in other.events)
    assert len(one.core.members()) == 1


def test_alone_and_idle_nothing_is_due_and_seeds_are_tried_again() -> None:
    cluster = Cluster(8)
    peer = cluster.add("n0", "10.0.0.1")
    assert peer.core.next_deadline() is None
    cluster.do(peer, lambda core: core.join(cluster.now, [("10.0.0.2", 7946)]))
    cluster.run(5)
    assert any(isinstance(e, JoinAnswered) and e.problem for _, e in peer.events)
    late = cluster.add("n1", "10.0.0.2")
    assert cluster.until(lambda: agreed([peer, late], 2), 5)


def test_a_quiet_cluster_sends_little() -> None:
    cluster = Cluster(9)
    cluster.grow(10)
    cluster.run(20)
    before = cluster.sent
    cluster.run(60)
    assert cluster.sent - before < 10 * 60 * 2 * 1.2  # a ping and an ack a second each


def test_those_long_gone_are_forgotten() -> None:
    cluster = Cluster(10, config=Config(forget_after=60.0))
    peers = cluster.grow(4)
    cluster.kill(peers[3])
    cluster.run(180)
    assert all("n3" not in peer.states() for peer in peers[:3])
    assert peers[0].saw(Change.FORGOTTEN, "n3")
