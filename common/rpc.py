"""gRPC without generated servicers: handlers are built from the descriptors, so that no method can lack its roles.

A service's implementation has one coroutine (or async generator) for each method, named in snake case; it takes the
request dataclass and the Caller and returns the answer dataclass. Errors of common/errors.py travel as status codes
and come back as the same classes (`error_from`). Used by the manager (server) and by both daemons (client).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from common import errors, model
from common.pb import options_pb2

log = logging.getLogger("rpc")
_FIRST_MESSAGE: Final = 1.0

_ROLES: Any = options_pb2.roles
_LIMIT: Final = 64 << 20
# grpc drops bursts beyond 1000 requests that are not accepted yet, unless told otherwise.
SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", _LIMIT),
    ("grpc.max_send_message_length", _LIMIT),
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
# The default back-off grows to two minutes; a peer that restarts must be found again within a second. The least back-off
# is how long one attempt may take: with TLS, on a machine that is busy.
CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", _LIMIT),
    ("grpc.max_send_message_length", _LIMIT),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

# A manager whose machine lost power says nothing: without these a stream to it would stay up for a quarter of an hour.
# For our own servers only: others (containerd) hang up on a client that pings this often.
KEEPALIVE: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # A minute by default: so long a daemon that is stopped would keep whoever talks to it.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: what the certificate (or the unix socket) and the store say together."""

    roles: frozenset[model.Role]
    node_id: str = ""
    address: str = ""  # IP, without port
    join_role: model.NodeRole | None = None  # which join token a joiner holds
    certificate: bytes = b""  # PEM of the leaf
    forwarded: bool = False  # another manager took the call and passed it on: this one does not do so again


class Authorize(Protocol):
    """Finds out who calls; raises errors.Unauthenticated for a caller that may call nothing."""

    def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller: ...


def method_roles(method: MethodDescriptor) -> frozenset[model.Role]:
    """Roles that may call `method`; raises TypeError for one without the annotation."""
    roles = frozenset(model.Role(r) for r in method.GetOptions().Extensions[_ROLES])
    if not roles:
        raise TypeError(f"{method.full_name} does not say who may call it: add option (roles)")
    return roles


def snake_case(name: str) -> str:
    """CreateService -> create_service."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def check(method: MethodDescriptor, allowed: frozenset[model.Role], caller: Caller) -> None:
    """Raises errors.PermissionDenied unless `caller` has one of the roles that `method` allows."""
    if model.Role.ROLE_ANYBODY not in allowed and not caller.roles & allowed:
        raise errors.PermissionDenied(f"{method.full_name} is not for {_describe(caller)}")


def _describe(caller: Caller) -> str:
    roles = ", ".join(sorted(r.name.removeprefix("ROLE_").lower() for r in caller.roles)) or "unknown"
    return f"node {caller.node_id} ({roles})" if caller.node_id else f"a caller that is {roles}"


async def _fail(context: grpc.aio.ServicerContext[Any, Any], exc: errors.ShoalError) -> None:
    await context.abort(STATUS[exc.code], exc.message)


class _Requests:
    """A stream's messages; knows whether one has come."""

    def __init__(self, messages: Any) -> None:
        self._messages = aiter(messages)
        self._heard = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await anext(self._messages)
        self._heard = True
        return message

    async def heard(self) -> None:
        """Takes in a refused caller's first message: a client that is still sending it would not be told the reason."""
        if not self._heard:
            with suppress(TimeoutError, StopAsyncIteration):
                async with asyncio.timeout(_FIRST_MESSAGE):
                    await anext(self)


def _unary(method: MethodDescriptor, function: Callable[..., Any], authorize: Authorize) -> Any:
    allowed = method_roles(method)

    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            caller = authorize(context)
            check(method, allowed, caller)
            return await function(request, caller)
        except errors.ShoalError as exc:
            await _fail(context, exc)

    return handle


def _stream(method: MethodDescriptor, function: Callable[..., Any], authorize: Authorize) -> Any:
    allowed = method_roles(method)

    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        given = _Requests(request) if method.client_streaming else request
        try:
            caller = authorize(context)
            check(method, allowed, caller)
            async with aclosing(function(given, caller)) as replies:
                async for reply in replies:
                    yield reply
        except errors.ShoalError as exc:
            if isinstance(given, _Requests):
                await given.heard()
            await _fail(context, exc)

    return handle


def handler(
    service: ServiceDescriptor, implementation: object, authorize: Authorize
) -> grpc.GenericRpcHandler:
    """All methods of `service`, served by `implementation`; raises TypeError for a method without roles
    and AttributeError for one that the implementation lacks."""
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        function = getattr(implementation, snake_case(method.name))
        request = getattr(model, method.input_type.name)
        serializers: Mapping[str, Any] = {
            "request_deserializer": request.from_bytes,
            "response_serializer": model.Message.to_bytes,
        }
        if method.client_streaming and method.server_streaming:
            made = grpc.stream_stream_rpc_method_handler(_stream(method, function, authorize), **serializers)
        elif method.server_streaming:
            made = grpc.unary_stream_rpc_method_handler(_stream(method, function, authorize), **serializers)
        else:
            made = grpc.unary_unary_rpc_method_handler(_unary(method, function, authorize), **serializers)
        methods[method.name] = made
    return grpc.method_handlers_generic_handler(service.full_name, methods)


STATUS: Final[Mapping[str, grpc.StatusCode]] = {
    "Unknown": grpc.StatusCode.UNKNOWN,
    "InvalidArgument": grpc.StatusCode.INVALID_ARGUMENT,
    "FailedPrecondition": grpc.StatusCode.FAILED_PRECONDITION,
    "NotFound": grpc.StatusCode.NOT_FOUND,
    "AlreadyExists": grpc.StatusCode.ALREADY_EXISTS,
    "Aborted": grpc.StatusCode.ABORTED,
    "PermissionDenied": grpc.StatusCode.PERMISSION_DENIED,
    "Unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "Unavailable": grpc.StatusCode.UNAVAILABLE,
    "DeadlineExceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "Internal": grpc.StatusCode.INTERNAL,
    "Unimplemented": grpc.StatusCode.UNIMPLEMENTED,
}
# BoringSSL's words, somewhere in gRPC's.
_DATES: Final = {
    "certificate has expired": "has expired",
    "certificate is not yet valid": "is not valid yet",
}
_CODES: Final = {status: code for code, status in STATUS.items()}


def error_from(exc: grpc.aio.AioRpcError) -> errors.ShoalError:
    """The error of common/errors.py that the peer raised, or the nearest one for a broken connection."""
    details = exc.details() or str(exc.code())
    if exc.code() is grpc.StatusCode.UNAVAILABLE:
        for reason, text in _DATES.items():
            if reason in details:
                return errors.ClockSkew(
                    f"the manager's certificate {text} by this machine's clock: is one of the two clocks wrong?"
                )
    return errors.BY_CODE.get(_CODES.get(exc.code(), "Unknown"), errors.ShoalError)(details)


def client(
    target: str, credentials: grpc.ChannelCredentials | None = None, server_name: str = ""
) -> grpc.aio.Channel:
    """A channel to `target` (host:port or unix:///path); with `server_name` the certificate must carry that name."""
    options = [*CHANNEL_OPTIONS, *([("grpc.ssl_target_name_override", server_name)] if server_name else [])]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=[*options, *KEEPALIVE])
