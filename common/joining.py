"""A machine's first contact with a swarm: find the manager, prove it by the token's digest, get a certificate.

The agent calls `join` (for `swarm join`). One raw TLS handshake shows the manager's certificate chain, whose last
member must be the root that the token names, and tells whether the manager takes our join certificate; only then does
gRPC dial, trusting just that root. The token's secret never leaves this machine. Times out after 5 s of silence.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from common import errors, model, pki, rpc, tokens

if TYPE_CHECKING:
    from OpenSSL import SSL  # a megabyte that only a machine that joins needs: loaded when it does

TIMEOUT: Final = 5.0
_ISSUE_TIMEOUT: Final = 15.0
NO_TOKEN: Final = "A valid join token is necessary to join this cluster"
_ISSUE: Final = "/shoal.CA/Issue"


def unreachable(addr: str, reason: str) -> errors.Unavailable:
    """No connection to a manager, worded as gRPC in Go words it."""
    return errors.Unavailable(
        f'connection error: desc = "transport: Error while dialing: dial tcp {addr}: {reason}"'
    )


def split_address(addr: str, default_port: int = 2377) -> tuple[str, int]:
    """Host and port of host:port, host, [v6]:port or v6; raises errors.InvalidArgument."""
    host, port = addr, str(default_port)
    if addr.startswith("["):
        host, _, rest = addr[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif addr.count(":") == 1:
        host, _, port = addr.partition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise errors.InvalidArgument(f"invalid address of a manager: {addr}")
    return host, int(port)


async def join(
    addr: str,
    token: str,
    csr: bytes,
    hostname: str,
    machine: str,
    availability: model.Availability = model.Availability.ACTIVE,
    advertise_addr: str = "",
) -> model.IssueReply:
    """Gets this machine a certificate from the manager at `addr`. Raises errors.ShoalError; nothing is left behind."""
    parsed = tokens.parse(token)
    target = split_address(addr)
    root, key, certificate = await _introduce(target, parsed)
    credentials = grpc.ssl_channel_credentials(root, key, certificate)
    host = f"[{target[0]}]" if ":" in target[0] else target[0]
    async with rpc.client(f"{host}:{target[1]}", credentials, pki.SERVER_NAME) as channel:
        call = channel.unary_unary(
            _ISSUE,
            request_serializer=model.Message.to_bytes,
            response_deserializer=model.IssueReply.from_bytes,
        )
        request = model.IssueRequest(csr, hostname, machine, availability, advertise_addr)
        try:
            reply: model.IssueReply = await call(request, timeout=_ISSUE_TIMEOUT)
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
    if pki.split_chain(reply.certificate)[-1] != root:
        raise errors.Internal(f"the manager at {addr} answered with a certificate of another swarm")
    return reply


async def _introduce(target: tuple[str, int], token: tokens.JoinToken) -> tuple[bytes, bytes, bytes]:
    """The swarm's root, and key and certificate of a joiner that the manager accepts.

    A token does not say its role, so each is tried.
    """
    key = pki.new_key()
    pem = pki.key_pem(key)
    for role in (model.NodeRole.WORKER, model.NodeRole.MANAGER):
        authority = pki.join_authority(token.secret, role, token.digest)
        certificate = pki.issue_joiner(authority, key)
        root, accepted = await asyncio.to_thread(handshake, target, pem, certificate)
        if tokens.root_digest(root) != token.digest:
            raise errors.ShoalError(f"remote CA does not match fingerprint. Expected: {token.digest}")
        if accepted:
            return root, pem, certificate
    raise errors.InvalidArgument(NO_TOKEN)


def handshake(target: tuple[str, int], key: bytes, certificate: bytes) -> tuple[bytes, bool]:
    """The last certificate of the server's chain (unverified), and whether the server accepted ours. Blocks."""
    from OpenSSL import SSL

    addr = f"[{target[0]}]:{target[1]}" if ":" in target[0] else f"{target[0]}:{target[1]}"
    deadline = time.monotonic() + TIMEOUT
    with _connect(target, addr) as sock:
        connection = SSL.Connection(_context(key, certificate), sock)
        connection.set_connect_state()
        connection.set_tlsext_host_name(pki.SERVER_NAME.encode())
        try:
            while True:
                try:
                    connection.do_handshake()
                    break
                except (SSL.WantReadError, SSL.WantWriteError):
                    _wait(sock, addr, deadline)
        except SSL.Error as exc:
            raise unreachable(addr, "the other side is no manager of a swarm (TLS handshake failed)") from exc
        chain = connection.get_peer_cert_chain(as_cryptography=True)
        if not chain:
            raise unreachable(addr, "the other side shows no certificate")
        root = chain[-1].public_bytes(serialization.Encoding.PEM)
        return root, _accepted(connection, sock, addr, deadline)


def _connect(target: tuple[str, int], addr: str) -> socket.socket:
    try:
        sock = socket.create_connection(target, TIMEOUT)
    except TimeoutError as exc:
        raise unreachable(addr, f"no answer within {TIMEOUT:.0f} s") from exc
    except (socket.gaierror, UnicodeError) as exc:  # some names cannot even be looked up
        raise unreachable(addr, f"lookup {target[0]}: no such host") from exc
    except OSError as exc:
        raise unreachable(addr, f"connect: {os.strerror(exc.errno or errno.EIO).lower()}") from exc
    sock.setblocking(False)
    return sock


def _context(key: bytes, certificate: bytes) -> SSL.Context:
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_alpn_protos([b"h2"])
    context.use_certificate(x509.load_pem_x509_certificate(certificate))
    context.use_privatekey(pki.load_key(key))
    return context


def _wait(sock: socket.socket, addr: str, deadline: float) -> None:
    """Waits for something to read: after the hello, all that a small handshake ever waits for."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise unreachable(addr, f"no answer within {TIMEOUT:.0f} s")


def _accepted(connection: SSL.Connection, sock: socket.socket, addr: str, deadline: float) -> bool:
    """A server that takes our certificate begins HTTP/2 with its settings; one that doesn't sends an alert or hangs up."""
    from OpenSSL import SSL

    while True:
        try:
            return bool(connection.recv(1))
        except SSL.WantReadError:
            _wait(sock, addr, deadline)
        except (SSL.ZeroReturnError, SSL.SysCallError, SSL.Error):
            return False
