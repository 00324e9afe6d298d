"""Joining over real TLS and gRPC, and who may call what."""

import asyncio
import datetime as dt
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from manager_swarm import Running, ask, manager

from common import errors, joining, model, pki, rpc, tokens
from common.model.stubs import CAStub, ControlStub
from common.pb import ca_pb2, control_pb2, dispatcher_pb2, local_pb2
from common.rpc import method_roles

SERVICES = (
    ca_pb2.DESCRIPTOR.services_by_name["CA"],
    control_pb2.DESCRIPTOR.services_by_name["Control"],
    dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"],
    local_pb2.DESCRIPTOR.services_by_name["Local"],
)
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Running]:
    async with manager(tmp_path) as running:
        await running.init()
        await running.settled()
        yield running


async def join(
    m: Running, token: str, key: pki.Key | None = None, addr: str = "", advertise: str = ""
) -> model.IssueReply:
    csr = pki.create_csr(key or pki.new_key())
    where = addr or m.addr
    return await joining.join(where, token, csr, "worker", "machine-2", model.Availability.DRAIN, advertise)


async def nodes(m: Running) -> dict[str, model.Node]:
    reply = await ask(m.control.ListNodes, model.ListRequest())
    return {n.description.hostname: n for n in reply.nodes}


async def test_a_worker_joins(swarm: Running) -> None:
    cluster, key = await swarm.cluster(), pki.new_key()
    reply = await join(swarm, cluster.root_ca.join_tokens.worker, key)
    assert (reply.cluster_id, reply.role) == (cluster.id, model.NodeRole.WORKER)
    assert (reply.managers, reply.remote_addr) == ((swarm.addr,), "127.0.0.1")
    assert pki.leaf_identity(reply.certificate) == (reply.node_id, cluster.id, model.NodeRole.WORKER)
    node = (await nodes(swarm))["worker"]
    assert node.id == reply.node_id
    assert node.role is node.spec.role is model.NodeRole.WORKER
    assert node.spec.availability is model.Availability.DRAIN
    assert (node.description.machine, node.status.addr) == ("machine-2", "127.0.0.1")
    assert node.certificate_key == pki.public_key_digest(pki.create_csr(key))


async def test_the_advertised_address_is_kept(swarm: Running) -> None:
    token = (await swarm.cluster()).root_ca.join_tokens.worker
    await join(swarm, token, advertise="10.1.2.3")
    assert (await nodes(swarm))["worker"].status.addr == "10.1.2.3"


async def test_a_certificate_is_renewed(swarm: Running) -> None:
    token, key = (await swarm.cluster()).root_ca.join_tokens.worker, pki.new_key()
    reply = await join(swarm, token, key)
    fresh = pki.new_key()
    async with tls(swarm, pki.key_pem(key), reply.certificate) as channel:
        renewed = await ask(CAStub(channel).Renew, model.RenewRequest(pki.create_csr(fresh)))
    assert pki.leaf_identity(renewed.certificate) == pki.leaf_identity(reply.certificate)
    assert (await nodes(swarm))["worker"].certificate_key == pki.public_key_digest(pki.create_csr(fresh))


async def test_wrong_tokens(swarm: Running) -> None:
    right = tokens.parse((await swarm.cluster()).root_ca.join_tokens.worker)
    started = time.monotonic()
    with pytest.raises(errors.InvalidArgument, match="A valid join token is necessary to join this cluster"):
        await join(swarm, str(replace(right, secret=bytes(16))))
    assert time.monotonic() - started < 12  # the answer, not the end of somebody's patience
    with pytest.raises(errors.ShoalError) as raised:
        await join(swarm, str(replace(right, digest="ab" * 32)))
    assert raised.value.message == f"remote CA does not match fingerprint. Expected: {'ab' * 32}"
    assert raised.value.status == 500
    with pytest.raises(errors.ShoalError, match=r"^invalid join token$"):
        await join(swarm, "SWMTKN-1-x")
    assert set(await nodes(swarm)) == {"manager"}


async def test_rotation_takes_effect_at_once(swarm: Running) -> None:
    cluster = await swarm.cluster()
    old = cluster.root_ca.join_tokens
    await ask(
        swarm.control.UpdateCluster,
        model.UpdateClusterRequest(version=cluster.version, spec=cluster.spec, rotate_worker_token=True),
    )
    now = (await swarm.cluster()).root_ca.join_tokens
    assert now.worker != old.worker
    assert now.manager == old.manager
    with pytest.raises(errors.InvalidArgument, match="A valid join token is necessary"):
        await join(swarm, old.worker)
    await join(swarm, now.worker)


async def test_a_connection_from_before_the_rotation_is_worth_nothing_after(swarm: Running) -> None:
    cluster = await swarm.cluster()
    async with joiner(swarm, cluster, model.NodeRole.WORKER) as channel:
        await channel.channel_ready()
        await ask(
            swarm.control.UpdateCluster,
            model.UpdateClusterRequest(version=cluster.version, spec=cluster.spec, rotate_worker_token=True),
        )
        with pytest.raises(errors.Unauthenticated, match="not one of this swarm"):
            await ask(CAStub(channel).Issue, model.IssueRequest(csr=pki.create_csr(pki.new_key())))


async def test_a_managers_token_makes_a_node_that_is_to_be_a_manager(swarm: Running) -> None:
    cluster, key = await swarm.cluster(), pki.new_key()
    reply = await join(swarm, cluster.root_ca.join_tokens.manager, key)
    assert reply.role is model.NodeRole.MANAGER
    assert pki.leaf_identity(reply.certificate) == (reply.node_id, cluster.id, model.NodeRole.WORKER)
    asked = model.RenewRequest(pki.create_csr(pki.new_key()), model.NodeRole.MANAGER)
    async with tls(swarm, pki.key_pem(key), reply.certificate) as channel:
        papers = await ask(CAStub(channel).Renew, asked)
    assert pki.leaf_identity(papers.certificate) == (reply.node_id, cluster.id, model.NodeRole.MANAGER)
    node = (await nodes(swarm))["worker"]
    assert node.role is node.spec.role is model.NodeRole.MANAGER
    assert node.certificate_key == pki.public_key_digest(pki.create_csr(key))
    assert node.manager_status is None


async def test_a_workers_node_gets_no_managers_certificate(swarm: Running) -> None:
    token, key = (await swarm.cluster()).root_ca.join_tokens.worker, pki.new_key()
    reply = await join(swarm, token, key)
    asked = model.RenewRequest(pki.create_csr(pki.new_key()), model.NodeRole.MANAGER)
    async with tls(swarm, pki.key_pem(key), reply.certificate) as channel:
        with pytest.raises(errors.FailedPrecondition, match="is not to be a manager"):
            await ask(CAStub(channel).Renew, asked)


async def test_unreachable_managers(swarm: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    token = (await swarm.cluster()).root_ca.join_tokens.worker
    with pytest.raises(errors.Unavailable) as raised:
        await join(swarm, token, addr="127.0.0.1:1")
    assert raised.value.described() == (
        'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: '
        'dial tcp 127.0.0.1:1: connect: connection refused"'
    )
    monkeypatch.setattr(joining, "TIMEOUT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        addr = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match=f"dial tcp {addr}: no answer within"):
            await join(swarm, token, addr=addr)
    with pytest.raises(errors.Unavailable, match=r"lookup nowhere\.invalid: no such host"):
        await join(swarm, token, addr="nowhere.invalid:2377")


async def test_something_else_listens_there(swarm: Running) -> None:
    token = (await swarm.cluster()).root_ca.join_tokens.worker

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        addr = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match="the other side is no manager of a swarm"):
            await join(swarm, token, addr=addr)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:2377", ("10.0.0.1", 2377)),
        ("10.0.0.1", ("10.0.0.1", 2377)),
        ("manager:99", ("manager", 99)),
        ("[fd00::1]:99", ("fd00::1", 99)),
        ("[fd00::1]", ("fd00::1", 2377)),
        ("fd00::1", ("fd00::1", 2377)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert joining.split_address(text) == expected


@pytest.mark.parametrize("text", ["", ":2377", "host:", "host:0", "host:65536", "host:x", "[::1]:x"])
def test_bad_addresses(text: str) -> None:
    if text == "host:":
        assert joining.split_address("host:1") == ("host", 1)
    with pytest.raises(errors.InvalidArgument, match="invalid address of a manager"):
        joining.split_address(text)


# ---- who may call what


@asynccontextmanager
async def tls(m: Running, key: bytes, chain: bytes, root: bytes = b"") -> AsyncIterator[grpc.aio.Channel]:
    trusted = root or (await m.cluster()).root_ca.cert
    credentials = grpc.ssl_channel_credentials(trusted, key, chain)
    async with rpc.client(m.addr, credentials, pki.SERVER_NAME) as channel:
        yield channel


@asynccontextmanager
async def joiner(m: Running, cluster: model.Cluster, role: model.NodeRole) -> AsyncIterator[grpc.aio.Channel]:
    pair = cluster.root_ca.join_tokens
    token = tokens.parse(pair.manager if role is model.NodeRole.MANAGER else pair.worker)
    key = pki.new_key()
    certificate = pki.issue_joiner(pki.join_authority(token.secret, role, token.digest), key)
    async with tls(m, pki.key_pem(key), certificate) as channel:
        yield channel


async def outcomes(channel: grpc.aio.Channel) -> dict[str, str]:
    """What calling each method with an empty request gives: OK or the name of a status."""
    found: dict[str, str] = {}
    for service in SERVICES:
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            try:
                if method.client_streaming:
                    stream: Any = channel.stream_stream(path)(iter([b""]), timeout=30)
                    await stream.read()
                else:
                    await channel.unary_unary(path)(b"", timeout=30)
                found[path] = "OK"
            except grpc.aio.AioRpcError as exc:
                found[path] = exc.code().name
    return found


def refused(found: dict[str, str], role: model.Role) -> None:
    """Every method that is not for `role` was refused, and every other was not."""
    for service in SERVICES:
        for method in service.methods:
            got = found[f"/{service.full_name}/{method.name}"]
            if service.name == "Local":
                assert got == "UNIMPLEMENTED"
            elif role in method_roles(method):
                assert got not in ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE"), (method.name, got)
            else:
                assert got == "PERMISSION_DENIED", (method.name, got)


async def issued(
    m: Running, role: model.NodeRole, node_id: str, cluster_id: str = "", root: pki.Authority | None = None
) -> tuple[bytes, bytes]:
    """Key and chain of a certificate that the swarm's root (or another) has signed."""
    cluster, key = await m.cluster(), pki.new_key()
    signer = root or pki.Authority(cluster.root_ca.cert, cluster.root_ca.key)
    csr = pki.create_csr(key)
    return pki.key_pem(key), pki.issue_node(signer, csr, node_id, role, cluster_id or cluster.id, NOW)


async def test_a_worker_reaches_no_managers_method(swarm: Running) -> None:
    token, key = (await swarm.cluster()).root_ca.join_tokens.worker, pki.new_key()
    reply = await join(swarm, token, key)
    async with tls(swarm, pki.key_pem(key), reply.certificate) as channel:
        refused(await outcomes(channel), model.Role.ROLE_WORKER)


async def test_a_workers_node_with_a_managers_certificate_is_a_worker(swarm: Running) -> None:
    reply = await join(swarm, (await swarm.cluster()).root_ca.join_tokens.worker)
    async with tls(swarm, *await issued(swarm, model.NodeRole.MANAGER, reply.node_id)) as channel:
        refused(await outcomes(channel), model.Role.ROLE_WORKER)


async def test_an_expired_node_may_only_ask_for_a_certificate(swarm: Running) -> None:
    """With its renewal certificate: a worker's, and that of a manager's node."""
    cluster, own = await swarm.cluster(), (await nodes(swarm))["manager"].id
    root = pki.Authority(cluster.root_ca.cert, cluster.root_ca.key)
    joined = await join(swarm, cluster.root_ca.join_tokens.worker)
    for node_id in (joined.node_id, own):
        key = pki.new_key()
        chain = pki.issue_renewal(root, pki.create_csr(key), node_id, cluster.id, 1)
        async with tls(swarm, pki.key_pem(key), chain) as channel:
            refused(await outcomes(channel), model.Role.ROLE_RENEWER)
            asked = model.RenewRequest(pki.create_csr(pki.new_key()), model.NodeRole.MANAGER)
            with pytest.raises(errors.PermissionDenied, match="not for a node whose own has expired"):
                await ask(CAStub(channel).Renew, asked)


async def test_a_renewal_certificate_is_no_managers(swarm: Running) -> None:
    cluster, own, key = await swarm.cluster(), (await nodes(swarm))["manager"].id, pki.new_key()
    root = pki.Authority(cluster.root_ca.cert, cluster.root_ca.key)
    chain = pki.issue_renewal(root, pki.create_csr(key), own, cluster.id, 1)
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pki.key_pem(key), chain)]))
    await server.start()
    credentials = grpc.ssl_channel_credentials(cluster.root_ca.cert)
    async with rpc.client(f"127.0.0.1:{port}", credentials, pki.SERVER_NAME) as channel:
        await all_get(channel, "UNAVAILABLE")
    await server.stop(None)


async def test_the_managers_own_agent_is_a_worker(swarm: Running) -> None:
    own = (await nodes(swarm))["manager"].id
    async with tls(swarm, *await issued(swarm, model.NodeRole.WORKER, own)) as channel:
        refused(await outcomes(channel), model.Role.ROLE_WORKER)


async def test_a_manager_reaches_control(swarm: Running) -> None:
    own = (await nodes(swarm))["manager"].id
    async with tls(swarm, *await issued(swarm, model.NodeRole.MANAGER, own)) as channel:
        reply = await ask(ControlStub(channel).ListNodes, model.ListRequest())
        assert [n.id for n in reply.nodes] == [own]


async def test_a_joiner_may_only_ask_for_a_certificate(swarm: Running) -> None:
    cluster = await swarm.cluster()
    async with joiner(swarm, cluster, model.NodeRole.WORKER) as channel:
        refused(await outcomes(channel), model.Role.ROLE_JOINER)


async def all_get(channel: grpc.aio.Channel, status: str) -> None:
    found = await outcomes(channel)
    assert {v for k, v in found.items() if "Local" not in k} == {status}, found
    assert {v for k, v in found.items() if "Local" in k} <= {status, "UNIMPLEMENTED"}


async def test_a_removed_node_reaches_nothing(swarm: Running) -> None:
    token, key = (await swarm.cluster()).root_ca.join_tokens.worker, pki.new_key()
    reply = await join(swarm, token, key)
    await ask(swarm.control.RemoveNode, model.RemoveRequest(reply.node_id, force=True))
    async with tls(swarm, pki.key_pem(key), reply.certificate) as channel:
        await all_get(channel, "UNAUTHENTICATED")


async def test_a_certificate_of_another_cluster_id_reaches_nothing(swarm: Running) -> None:
    own = (await nodes(swarm))["manager"].id
    async with tls(swarm, *await issued(swarm, model.NodeRole.MANAGER, own, "other")) as channel:
        await all_get(channel, "UNAUTHENTICATED")


async def test_a_stranger_gets_no_connection(swarm: Running) -> None:
    other = pki.create_root(NOW)
    own = (await nodes(swarm))["manager"].id
    key, chain = await issued(swarm, model.NodeRole.MANAGER, own, root=other)
    async with tls(swarm, key, chain) as channel:
        await all_get(channel, "UNAVAILABLE")
    alone = pki.new_key()
    csr = pki.create_csr(alone)
    self_made = pki.issue_node(
        pki.Authority(other.cert, other.key), csr, own, model.NodeRole.MANAGER, "x", NOW
    )
    async with tls(swarm, pki.key_pem(alone), pki.split_chain(self_made)[0]) as channel:
        await all_get(channel, "UNAVAILABLE")


async def test_without_a_certificate_there_is_no_connection(swarm: Running) -> None:
    root = (await swarm.cluster()).root_ca.cert
    async with rpc.client(swarm.addr, grpc.ssl_channel_credentials(root), pki.SERVER_NAME) as channel:
        await all_get(channel, "UNAVAILABLE")


async def test_plain_text_gets_nothing(swarm: Running) -> None:
    async with rpc.client(swarm.addr) as channel:
        await all_get(channel, "UNAVAILABLE")
    for greeting in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(3000)):
        reader, writer = await asyncio.open_connection("127.0.0.1", swarm.port)
        writer.write(greeting)
        async with asyncio.timeout(30):
            got = await reader.read()
        assert len(got) <= 7  # a TLS alert at most
        writer.close()
        await writer.wait_closed()
    assert (await nodes(swarm)).keys() == {"manager"}


async def test_the_unix_socket_is_local_and_manager(swarm: Running) -> None:
    async with rpc.client(f"unix:{swarm.path}/m.sock") as channel:
        await ask(ControlStub(channel).ListNodes, model.ListRequest())
        found = await outcomes(channel)
    assert {v for k, v in found.items() if "/shoal.CA/" in k or "Dispatcher" in k} == {"UNIMPLEMENTED"}
    assert "PERMISSION_DENIED" not in found.values()


async def test_a_name_that_no_machine_can_have() -> None:
    token = str(tokens.generate(tokens.root_digest(b""), bytes(16)))
    for name in ("a" * 64, "a..b"):
        with pytest.raises(errors.Unavailable, match=f"lookup {name}: no such host"):
            await joining.join(name, token, b"", "w", "m")
