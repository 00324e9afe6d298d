"""Any manager answers: writes reach the leader, once, as whoever called, also while leadership moves."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from manager_swarm import ask
from three_managers import CA, CONTROL, DISPATCHER, RAFT, Swarm, service, swarm, until

from common import errors, model, pki, rpc
from common.model.stubs import CAStub, ControlStub, RaftStub
from manager.raft import forward
from manager.raft.forward import UNKNOWN, only_at_leader
from manager.store.store import NO_LEADER

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
LOCAL = rpc.Caller(frozenset({model.Role.ROLE_LOCAL, model.Role.ROLE_MANAGER}))


@pytest.fixture
async def managers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Swarm]:
    monkeypatch.setattr(forward, "PATIENCE", 30.0)  # so that only what a test does decides how it ends
    async with swarm() as made:
        yield made


def names(managers: Swarm, at: str) -> set[str]:
    return {s.spec.name for s in managers[at].store.view().services.all()}


async def test_a_write_at_a_follower(managers: Swarm) -> None:
    async with managers.client("m2", "m3", MANAGER) as channel:
        control = ControlStub(channel)
        made = (await ask(control.CreateService, service("web"))).service
        assert made.spec.name == "web"
        # What the follower holds already shows it, and reads are its own.
        assert names(managers, "m2") == {"web"}
        assert (await ask(control.GetService, model.GetRequest("web"))).service == made
        with pytest.raises(errors.AlreadyExists, match="name conflicts with an existing object"):
            await ask(control.CreateService, service("web"))
        with pytest.raises(errors.ShoalError, match="update out of sequence"):
            await ask(control.UpdateService, model.UpdateServiceRequest("web", 1, made.spec))
        await ask(control.RemoveService, model.RemoveRequest("web"))
        assert names(managers, "m1") == set()


async def test_a_write_from_the_socket(managers: Swarm) -> None:
    for name in ("m1", "m2", "m3"):
        await managers[name].control.create_service(service(f"by-{name}"), LOCAL)
    assert names(managers, "m3") == {"by-m1", "by-m2", "by-m3"}
    assert managers["m1"].batches == [1, 1]


async def test_a_reply_waits_for_the_followers_own_store(managers: Swarm) -> None:
    late = managers["m2"].consensus
    late.hold()
    call = asyncio.create_task(managers["m2"].control.create_service(service("web"), LOCAL))
    await until(lambda: bool(late.held))
    await asyncio.sleep(0.02)
    assert not call.done()
    late.release()
    await call
    assert names(managers, "m2") == {"web"}


async def test_a_follower_that_stays_behind_answers_all_the_same(
    managers: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "PATIENCE", 0.1)
    managers["m2"].consensus.hold()
    await managers["m2"].control.create_service(service("web"), LOCAL)
    assert names(managers, "m2") == set()
    managers["m2"].consensus.release()


async def test_a_burst_goes_in_batches(managers: Swarm) -> None:
    await managers["m2"].control.create_service(service("first"), LOCAL)
    await asyncio.gather(
        *(managers["m2"].control.create_service(service(f"s{n}"), LOCAL) for n in range(256))
    )
    assert len(names(managers, "m2")) == 257
    assert managers["m1"].batches == [1, 256]


async def test_joining_and_renewing_at_a_follower(managers: Swarm) -> None:
    key = pki.new_key()
    async with managers.joiner("m3", WORKER) as channel:
        request = model.IssueRequest(pki.create_csr(key), "worker2", "machine-9")
        reply = await ask(CAStub(channel).Issue, request)
    assert reply.remote_addr == "127.0.0.1"
    node = managers["m3"].store.view().nodes.get(reply.node_id)
    assert node is not None and node.role is WORKER
    async with managers.channel(managers["m2"].port, key, reply.certificate) as channel:
        renewed = await ask(CAStub(channel).Renew, model.RenewRequest(pki.create_csr(pki.new_key())))
    assert pki.leaf_identity(renewed.certificate) == (reply.node_id, "c", WORKER)


async def test_membership_is_asked_for_by_the_first_caller(managers: Swarm) -> None:
    async with managers.client("m3", "m2", MANAGER) as channel:
        assert (await ask(RaftStub(channel).Join, model.RaftJoinRequest("10.0.0.9:2377"))).raft_id == 7
        await ask(RaftStub(channel).Leave, model.RaftLeaveRequest())
    assert managers["m1"].membership.asked == ["join m2 10.0.0.9:2377", "leave m2"]


# ---- who may


async def outcomes(channel: grpc.aio.Channel, **metadata: bytes) -> dict[str, str]:
    """What each unary method gives for an empty request."""
    found = {}
    told = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    for described in (CA, CONTROL, RAFT):
        for method in described.methods:
            if method.client_streaming:
                continue
            try:
                await channel.unary_unary(f"/{described.full_name}/{method.name}")(
                    b"", timeout=30, metadata=told
                )
                found[method.name] = "OK"
            except grpc.aio.AioRpcError as exc:
                found[method.name] = exc.code().name
    return found


@pytest.mark.parametrize("at", ["m1", "m2"])
async def test_a_worker_reaches_no_managers_method(managers: Swarm, at: str) -> None:
    async with managers.client(at, "w1") as channel:
        found = await outcomes(channel)
    allowed = {name: code for name, code in found.items() if code != "PERMISSION_DENIED"}
    assert allowed == {"Renew": "INVALID_ARGUMENT"}
    assert managers["m1"].membership.asked == []


async def test_a_node_that_a_follower_has_not_heard_of_is_told_to_come_again(managers: Swarm) -> None:
    """The leader knows for certain; who lags behind must not turn a new node away for good."""
    managers["m2"].consensus.hold()
    new = model.Node(id="w2", role=WORKER)
    await managers["m1"].store.update(lambda tx: tx.put(new))
    for name, known in (("m2", errors.Unavailable), ("m1", errors.InvalidArgument)):
        async with managers.client(name, "w2") as channel:
            with pytest.raises(known):
                await ask(CAStub(channel).Renew, model.RenewRequest())
    async with managers.client("m1", "w9") as channel:
        with pytest.raises(errors.Unauthenticated, match="is not part of this swarm"):
            await ask(CAStub(channel).Renew, model.RenewRequest())
    managers["m2"].consensus.release()


@pytest.mark.parametrize("at", ["m1", "m2"])
async def test_a_joiner_only_joins(managers: Swarm, at: str) -> None:
    async with managers.joiner(at, WORKER) as channel:
        found = await outcomes(channel)
    assert {name for name, code in found.items() if code != "PERMISSION_DENIED"} == {"Issue"}


async def replies(channel: grpc.aio.Channel, *calls: model.ForwardedCall) -> list[model.ForwardedReply]:
    stream: Any = RaftStub(channel).Forward()
    await stream.write(model.ForwardedCalls(calls))
    await stream.done_writing()
    return [reply async for batch in stream for reply in batch.replies]


async def test_the_leader_judges_the_first_caller_itself(managers: Swarm) -> None:
    """A passing manager can't make a worker, or a stranger, a manager."""
    _, worker = managers.certificate("w1", WORKER)
    _, stranger = Swarm().certificate("m3", MANAGER)
    _, gone = managers.certificate("nobody", WORKER)
    remove = model.RemoveRequest("w1", force=True).to_bytes()

    def calls(certificate: bytes) -> list[model.ForwardedCall]:
        first = model.ForwardedCaller(
            certificate.partition(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n",
            "10.0.0.5",
        )
        methods = [m for d in (CONTROL, RAFT) for m in d.methods if only_at_leader(m)]
        return [model.ForwardedCall(n, forward.path_of(m), remove, first) for n, m in enumerate(methods)]

    async with managers.client("m1", "m2", MANAGER) as channel:
        for certificate, code in (
            (worker, "PermissionDenied"),
            (stranger, "Unauthenticated"),
            (gone, "Unauthenticated"),
        ):
            got = await replies(channel, *calls(certificate))
            assert len(got) == len(calls(certificate))
            assert {reply.error for reply in got} == {code}
        unreadable = model.ForwardedCall(1, "/shoal.Control/CreateService", b"\xff\xff")
        reads = model.ForwardedCall(2, "/shoal.Control/ListNodes", b"")
        elsewhere = model.ForwardedCall(3, "/shoal.Local/Leave", b"")
        got = await replies(channel, unreadable, reads, elsewhere)
        assert {r.number: r.error for r in got} == {
            1: "InvalidArgument",
            2: "Unimplemented",
            3: "Unimplemented",
        }
    assert managers["m1"].store.view().nodes.get("w1") is not None


async def test_only_a_manager_passes_calls_on(managers: Swarm) -> None:
    async with managers.client("m1", "w1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await replies(channel, model.ForwardedCall(1, "/shoal.Control/CreateService"))
        assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED
        named = model.ForwardedCaller(managers.certificate("m2", MANAGER)[1]).to_bytes()
        found = await outcomes(channel, on_behalf_bin=named)
        assert set(found.values()) == {"PERMISSION_DENIED"}


async def test_a_named_caller_is_the_one_that_counts(managers: Swarm) -> None:
    named = model.ForwardedCaller(managers.certificate("w1", WORKER)[1]).to_bytes()
    async with managers.client("m1", "m2", MANAGER) as channel:
        found = await outcomes(channel, on_behalf_bin=named)
        assert {name for name, code in found.items() if code != "PERMISSION_DENIED"} == {"Renew"}
        assert set((await outcomes(channel, on_behalf_bin=b"\xff\xff")).values()) == {"INVALID_ARGUMENT"}
        assert set((await outcomes(channel, on_behalf_bin=b"")).values()) == {"UNAUTHENTICATED"}


async def test_what_was_passed_on_is_not_passed_on_again(managers: Swarm) -> None:
    async with managers.client("m2", "m3", MANAGER) as channel:
        got = await replies(
            channel, model.ForwardedCall(1, "/shoal.Control/CreateService", service("a").to_bytes())
        )
    assert [(r.error, r.message) for r in got] == [("NotLeader", NO_LEADER)]


# ---- while leadership moves


async def test_a_refused_write_finds_the_next_leader(managers: Swarm) -> None:
    """m1 stops leading before it proposes: nothing was written, so m2 asks again, and m3 does it."""
    m1 = managers["m1"].consensus

    async def moves() -> None:
        m1.before_propose = None
        managers.group.elect("m3")

    m1.before_propose = moves
    await managers["m2"].control.create_service(service("web"), LOCAL)
    assert names(managers, "m2") == {"web"}
    assert managers["m3"].batches == [1]


async def test_a_write_at_a_leader_that_leads_no_more_goes_on_to_the_next(managers: Swarm) -> None:
    m1 = managers["m1"].consensus

    async def moves() -> None:
        m1.before_propose = None
        managers.group.elect("m2")

    m1.before_propose = moves
    await managers["m1"].control.create_service(service("web"), LOCAL)
    assert names(managers, "m1") == {"web"}


async def test_a_write_under_way_at_the_former_leader_is_still_answered(managers: Swarm) -> None:
    """m2 hears of the new leader before the old one's answer comes."""
    m1, m2 = managers["m1"].consensus, managers["m2"].consensus

    async def moves() -> None:
        m1.before_propose = None
        m2.follow("m3")
        await asyncio.sleep(0.05)

    m1.before_propose = moves
    await managers["m2"].control.create_service(service("web"), LOCAL)
    assert managers["m3"].batches == []


async def test_a_write_waits_for_a_leader(managers: Swarm) -> None:
    managers.group.elect("")
    calls = [
        asyncio.create_task(managers[name].control.create_service(service(f"by-{name}"), LOCAL))
        for name in ("m1", "m2", "m3")
    ]
    await asyncio.sleep(0.05)
    assert not any(call.done() for call in calls)
    # Elected, but what earlier leaders wrote is not applied yet: it does not lead so far.
    for member in managers.group.members.values():
        member.follow("m2", leads=False)
    await asyncio.sleep(0.05)
    assert not any(call.done() for call in calls)
    managers.group.elect("m2")
    await asyncio.gather(*calls)
    assert names(managers, "m3") == {"by-m1", "by-m2", "by-m3"}


async def test_without_a_leader_writes_and_reads_fail_soon_in_dockers_words(
    managers: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "PATIENCE", 0.2)
    managers.group.elect("")
    for name in ("m1", "m2"):
        with pytest.raises(errors.ShoalError) as failure:
            await managers[name].control.create_service(service("web"), LOCAL)
        assert failure.value.described() == f"rpc error: code = Unknown desc = {NO_LEADER}"
        assert failure.value.status == 500
        with pytest.raises(errors.ShoalError, match="The swarm does not have a leader"):
            await managers[name].control.list_nodes(model.ListRequest(), LOCAL)


async def test_a_write_whose_fate_is_unknown_is_not_tried_again(managers: Swarm) -> None:
    """The leader dies with the write in hand: it may have come to be."""
    m1 = managers["m1"]
    reached = asyncio.Event()

    async def hangs() -> None:
        reached.set()
        await asyncio.Event().wait()

    m1.consensus.before_propose = hangs
    write = asyncio.create_task(managers["m2"].control.create_service(service("web"), LOCAL))
    await reached.wait()
    waits = asyncio.create_task(managers["m3"].control.create_service(service("other"), LOCAL))
    await until(lambda: sum(m1.batches) == 2)
    await m1.stop_serving()
    with pytest.raises(errors.ShoalError) as failure:
        await write
    assert failure.value.described() == f"rpc error: code = Unknown desc = {UNKNOWN}"
    managers.group.elect("m2")
    with pytest.raises(errors.ShoalError, match=UNKNOWN):
        await waits
    # What has not been sent yet, or does no harm twice, goes on.
    await managers["m3"].control.create_service(service("next"), LOCAL)
    assert names(managers, "m3") == {"next"}


async def test_what_does_no_harm_twice_is_tried_again(managers: Swarm) -> None:
    reached = asyncio.Event()

    async def hangs() -> None:
        reached.set()
        await asyncio.Event().wait()

    managers["m1"].consensus.before_propose = hangs
    key, chain = managers.certificate("w1", WORKER)
    async with managers.channel(managers["m2"].port, key, chain) as channel:
        renewal = asyncio.create_task(ask(CAStub(channel).Renew, model.RenewRequest(pki.create_csr(key))))
        await reached.wait()
        await managers["m1"].stop_serving()
        managers.group.elect("m3")
        assert pki.leaf_identity((await renewal).certificate)[0] == "w1"


async def test_a_dead_leader_is_left_for_the_next(managers: Swarm) -> None:
    await managers["m1"].stop_serving()
    write = asyncio.create_task(managers["m2"].control.create_service(service("web"), LOCAL))
    await asyncio.sleep(0.1)
    managers.group.elect("")
    await asyncio.sleep(0.05)
    managers.group.elect("m3")
    await write
    assert names(managers, "m2") == {"web"}


async def test_a_cancelled_call_is_forgotten(managers: Swarm) -> None:
    async def hangs() -> None:
        await asyncio.Event().wait()

    managers["m1"].consensus.before_propose = hangs
    call = asyncio.create_task(managers["m2"].control.create_service(service("web"), LOCAL))
    await until(lambda: managers["m1"].batches == [1])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    managers["m1"].consensus.before_propose = None


async def test_writes_all_along_while_leadership_wanders(managers: Swarm) -> None:
    """Each one is done once or refused as unknown; with orderly moves, none is."""

    async def writer(name: str) -> None:
        for n in range(20):
            await managers[name].control.create_service(service(f"{name}-{n}"), LOCAL)

    writers = [asyncio.create_task(writer(name)) for name in managers.managers]
    for turn in range(12):
        managers.group.elect(("m2", "m3", "m1")[turn % 3])
        await asyncio.sleep(0.02)
    await asyncio.gather(*writers)
    assert names(managers, "m1") == {f"{name}-{n}" for name in managers.managers for n in range(20)}


def test_what_goes_to_the_leader() -> None:
    named = {m.name for d in (CONTROL, CA, RAFT, DISPATCHER) for m in d.methods if only_at_leader(m)}
    assert named == {
        *("UpdateCluster", "UpdateNode", "RemoveNode", "CreateService", "UpdateService", "RemoveService"),
        *("CreateNetwork", "RemoveNetwork", "CreateConfig", "UpdateConfig", "RemoveConfig"),
        *("Issue", "Renew", "Join", "Leave"),
    }
