"""What a network check makes of what nodes have tried and heard: causes, once each, in their direction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from common import model
from common.model import CheckPhase
from manager.dispatcher.check_plan import Planned
from manager.dispatcher.check_verdict import Answers, judge

SECOND = 1_000_000_000
MTU, OVERHEAD = 1450, 50
NAMES = ("manager", "worker1", "worker2")
Fault = tuple[str, str, str]  # kind, from, to


@dataclass
class World:
    """Three nodes between which everything passes, but for what a test takes away."""

    names: tuple[str, ...] = NAMES
    on: frozenset[str] = frozenset(NAMES)
    lost: set[Fault] = field(default_factory=set)  # kinds: vxlan tunnel whole gossip stream
    largest: dict[tuple[str, str], int] = field(default_factory=dict)
    unseen: set[tuple[str, str]] = field(default_factory=set)
    troubles: dict[str, tuple[model.CheckTrouble, ...]] = field(default_factory=dict)
    errors: dict[tuple[str, str], model.CheckTried] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    down: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    services: tuple[model.CheckService, ...] = (model.CheckService("web", "10.0.1.2", ("10.0.1.3",)),)
    now: tuple[model.CheckService, ...] | None = None
    lives_on: dict[str, str] = field(default_factory=dict)
    sealed: bool = False

    def node(self, name: str) -> model.CheckNode:
        n = self.names.index(name) + 1
        leg = f"10.0.1.{n + 10}" if name in self.on else ""
        return model.CheckNode(name, name, f"192.0.2.{n}", f"192.0.2.{n}", leg, name not in self.down)

    def answers(self, name: str) -> Answers:
        others = [other for other in self.names if other != name]
        phase = CheckPhase.CHECK_LISTEN
        return Answers(
            model.CheckReport("c", phase, sandbox=name in self.on, mtu=MTU, needs=MTU + OVERHEAD),
            model.CheckReport(
                tried=tuple(self.tried(name, other) for other in others), troubles=self.troubles.get(name, ())
            ),
            model.CheckReport(
                heard=tuple(self.heard(other, name) for other in others if other not in self.down),
                unseen=tuple(b for a, b in self.unseen if a == name),
            ),
            self.offsets.get(name, 0),
        )

    def tried(self, a: str, b: str) -> model.CheckTried:
        gone = ("stream", a, b) in self.lost or b in self.down
        known = self.errors.get((a, b), model.CheckTried(b))
        return replace(known, stream=known.stream or ("no answer" if gone else ""), silent=gone)

    def heard(self, a: str, b: str) -> model.CheckHeard:
        def passes(kind: str) -> bool:
            return (kind, a, b) not in self.lost

        tunnel = (self.sealed or passes("vxlan")) and passes("tunnel") and {a, b} <= self.on
        return model.CheckHeard(
            a,
            passes("vxlan"),
            self.largest.get((a, b), MTU + OVERHEAD) if passes("vxlan") else 0,
            passes("gossip"),
            tunnel,
            tunnel and passes("whole"),
        )

    def judge(self) -> model.NetworkCheck:
        plan = model.CheckPlan(b"", "net", tuple(map(self.node, self.names)), self.services)
        answers = {name: self.answers(name) for name in self.names if name not in self.down}
        for name in self.silent:
            answers[name].told = None
        now = self.services if self.now is None else self.now
        return judge("c", Planned(plan, self.lives_on, self.down, self.sealed), answers, now, "manager")


def told(found: model.NetworkCheck) -> set[Fault]:
    return {(f.kind, source, f.target) for f in found.faults for source in f.sources or ("",)}


def texts(found: model.NetworkCheck) -> str:
    return "\n".join(fault.text for fault in found.faults)


def test_nothing_is_wrong() -> None:
    found = World().judge()
    assert found.faults == ()
    assert [(n.hostname, n.state, n.on_network) for n in found.nodes] == [(n, "ready", True) for n in NAMES]
    assert found.mtu == MTU


def test_a_blocked_port_is_told_once_for_all_who_meet_it() -> None:
    found = World(lost={("vxlan", "manager", "worker2"), ("vxlan", "worker1", "worker2")}).judge()
    (fault,) = found.faults
    assert (fault.kind, fault.sources, fault.target) == ("4789", ("manager", "worker1"), "worker2")
    assert fault.text.startswith("manager, worker1 -> worker2: nothing arrives on UDP 4789")
    assert "Open 4789/udp on worker2" in fault.text


def test_packets_that_are_lost_and_those_that_are_cut_up() -> None:
    lost = World(
        largest={("manager", "worker1"): 1400}, lost={("whole", "manager", "worker1")}
    ).judge()  # fmt: skip
    assert told(lost) == {("mtu", "manager", "worker1")}
    assert "more than 1400 bytes are lost" in texts(lost) and "driver.mtu=1350" in texts(lost)
    cut = World(largest={("manager", "worker1"): 1400}).judge()
    assert "are cut up on the way" in texts(cut)


def test_gossip_by_one_protocol_and_by_both() -> None:
    both = {("stream", "manager", "worker1"), ("gossip", "manager", "worker1")}
    assert told(World(lost=both).judge()) == {("7946", "manager", "worker1")}
    for lost, kind in (("stream", "7946/tcp"), ("gossip", "7946/udp")):
        found = World(lost={(lost, "worker1", "worker2")}, unseen={("worker1", "worker2")}).judge()
        assert told(found) == {(kind, "worker1", "worker2")}
        assert "That is why gossip holds worker2 dead" in texts(found)


def test_gossip_that_differs_though_its_port_is_open_is_no_fault_of_the_port() -> None:
    found = World(unseen={("manager", "worker1")}).judge()
    assert told(found) == {("gossip", "manager", "worker1")}
    blocked_there = World(unseen={("manager", "worker1")}, lost={("gossip", "worker1", "manager")}).judge()
    assert told(blocked_there) == {("7946/udp", "worker1", "manager")}


def test_a_machine_that_does_not_send_is_told_for_itself() -> None:
    errors = {
        ("worker1", b): model.CheckTried(b, "", "Operation not permitted") for b in ("manager", "worker2")
    }
    lost = {("vxlan", "worker1", b) for b in ("manager", "worker2")}
    found = World(errors=errors, lost=lost).judge()
    assert told(found) == {("4789", "worker1", "manager"), ("4789", "worker1", "worker2")}
    assert "this machine itself does not send to UDP 4789 (Operation not permitted)" in texts(found)


def test_the_tunnel_alone() -> None:
    found = World(lost={("tunnel", "manager", "worker1")}).judge()
    assert told(found) == {("tunnel", "manager", "worker1")}


def test_an_encrypted_network_has_a_way_of_its_own() -> None:
    blocked = {("vxlan", "manager", "worker1")}
    assert told(World(sealed=True, lost=blocked).judge()) == set()
    found = World(sealed=True, lost=blocked | {("tunnel", "manager", "worker1")}).judge()
    assert told(found) == {("tunnel", "manager", "worker1")}
    assert "open the protocol ESP (50) on worker1, and 4790/udp for what comes out of it" in texts(found)
    assert "4789" not in texts(found)
    silent = {("manager", "worker1"): model.CheckTried("worker1", vxlan="Operation not permitted")}
    world = World(sealed=True)
    world.tried = lambda a, b: silent.get((a, b), model.CheckTried(b))  # type: ignore[method-assign]
    assert told(world.judge()) == set()


def test_nodes_that_are_not_on_the_network_have_their_ports_probed_all_the_same() -> None:
    lost = {
        ("tunnel", "manager", "worker2"),
        ("tunnel", "worker2", "manager"),
        ("vxlan", "worker2", "worker1"),
    }
    found = World(on=frozenset({"manager", "worker1"}), lost=lost).judge()
    assert told(found) == {("4789", "worker2", "worker1")}
    assert [n.on_network for n in found.nodes] == [True, True, False]


def test_down_nodes_by_what_their_machines_say() -> None:
    away = World(down={"worker2": "heartbeat failure"}).judge()
    assert told(away) == {("down", "", "worker2")}
    assert texts(away) == (
        "worker2 is Down (heartbeat failure); nothing answers at 192.0.2.3: it is switched off, or cut off"
    )
    refused = {("manager", "worker2"): model.CheckTried("worker2", "connection refused")}
    world = World(down={"worker2": ""}, errors=refused)
    world.tried = lambda a, b: refused.get((a, b), model.CheckTried(b, "no answer", silent=True))  # type: ignore[method-assign]
    assert "the machine at 192.0.2.3 answers, but no agent on it" in texts(world.judge())
    world.tried = lambda a, b: model.CheckTried(b)  # type: ignore[method-assign]
    assert "its agent runs, but has no session with a manager" in texts(world.judge())


def test_a_node_that_does_not_answer_is_no_reason_against_others() -> None:
    found = World(silent={"worker1"}).judge()
    assert told(found) == {("silent", "", "worker1")}
    assert [n.state for n in found.nodes] == ["ready", "silent", "ready"]


def test_clocks() -> None:
    world = World(offsets={"worker1": 3 * SECOND, "worker2": -90 * SECOND, "manager": 2 * SECOND})
    found = world.judge()
    assert told(found) == {("clock", "", "worker1"), ("clock", "", "worker2")}
    assert "worker1's clock is 3.0 s ahead of manager's" in texts(found)
    assert "worker2's clock is 90.0 s behind manager's" in texts(found)


def test_a_clock_is_not_blamed_for_an_answer_that_took_long() -> None:
    plan = model.CheckPlan(b"", "net", (World().node("manager"),))
    answers = World(names=("manager",)).answers("manager")
    answers.offset, answers.uncertain = 3 * SECOND, 2 * SECOND
    assert judge("c", Planned(plan), {"manager": answers}, (), "manager").faults == ()


def backend(address: str) -> tuple[model.CheckTrouble, ...]:
    return (model.CheckTrouble("backend", "web", address),)


def test_a_task_that_does_not_answer_is_told_unless_its_node_is_why() -> None:
    world = World(troubles={"manager": backend("10.0.1.3")}, lives_on={"10.0.1.3": "worker1"})
    assert told(world.judge()) == {("vip", "", "manager")}
    assert "10.0.1.3, a task of web on worker1, does not answer" in texts(world.judge())
    world.lost = {("vxlan", "manager", "worker1")}
    assert told(world.judge()) == {("4789", "manager", "worker1")}
    world.lost = {("vxlan", "worker1", "manager")}
    assert told(world.judge()) == {("4789", "worker1", "manager")}
    world.lost, world.silent = set(), {"worker1"}
    assert told(world.judge()) == {("silent", "", "worker1")}


def test_services_that_have_changed_meanwhile_are_not_judged() -> None:
    for kind in ("dns", "vip", "backend"):
        world = World(troubles={"manager": (model.CheckTrouble(kind, "web", "10.0.1.3"),)})
        assert len(world.judge().faults) == 1
        world.now = (model.CheckService("web", "10.0.1.2", ("10.0.1.4",)),)
        assert world.judge().faults == ()


def test_what_a_node_lacks() -> None:
    troubles = {"worker1": (model.CheckTrouble("module", "", "the kernel has no vxlan"),)}
    found = World(troubles=troubles).judge()
    assert [(f.kind, f.target, f.text) for f in found.faults] == [
        ("module", "worker1", "worker1: the kernel has no vxlan")
    ]
    missing = World()
    answers = missing.answers
    missing.answers = lambda name: (  # type: ignore[method-assign]
        answers(name) if name != "worker1" else Answers(model.CheckReport(mtu=MTU), *_rest(answers(name)))
    )
    assert told(missing.judge()) == {("network", "", "worker1")}


def test_what_a_node_says_is_no_command_to_anybodys_terminal() -> None:
    wicked = (
        model.CheckTrouble("network", "", "\x1b[2J" + "x" * 1000),
        model.CheckTrouble("unheard of", "", "y"),
    )
    errors = {("worker1", "manager"): model.CheckTried("manager", "\x1b]0;z\a", "\r", "\n")}
    found = World(troubles={"worker1": wicked * 200}, errors=errors).judge()
    assert {f.kind for f in found.faults} == {"network", "4789", "7946/tcp", "7946/udp"}
    assert texts(found).replace("\n", "").isprintable() and len(texts(found)) < 2000


def _rest(said: Answers) -> tuple[model.CheckReport | None, model.CheckReport | None]:
    return said.sent, said.told


PAIRS = [(a, b) for a in NAMES for b in NAMES if a != b]
KIND = {"vxlan": "4789", "tunnel": "tunnel", "whole": "mtu"}


@given(
    st.sets(
        st.sampled_from(
            [(k, a, b) for k in ("vxlan", "tunnel", "whole", "gossip", "stream") for a, b in PAIRS]
        )
    ),
    st.sets(st.sampled_from(NAMES)),
)
def test_each_way_has_just_its_first_cause(lost: set[Fault], on: set[str]) -> None:
    found = World(lost=lost, on=frozenset(on)).judge()
    expected: set[Fault] = set()
    for a, b in PAIRS:
        gone = {kind for kind, source, target in lost if (source, target) == (a, b)}
        for kind in ("vxlan", "tunnel", "whole"):
            if kind in gone and (kind == "vxlan" or {a, b} <= on):
                expected.add((KIND[kind], a, b))
                break
        if {"gossip", "stream"} & gone:
            word = "7946" if {"gossip", "stream"} <= gone else "7946/udp" if "gossip" in gone else "7946/tcp"
            expected.add((word, a, b))
    assert told(found) == expected
    assert len({(f.kind, f.target, f.text) for f in found.faults}) == len(found.faults)
