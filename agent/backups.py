"""Backups on their way between the engine and this node's own manager. Used by agent/membership.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import grpc.aio

from common import errors, model, rpc
from common.model.stubs import BackupStub

_SAVE_TIMEOUT: Final = 300.0
_RESTORE_TIMEOUT: Final = 300.0
_PIECE: Final = 1 << 20


async def save(channel: grpc.aio.Channel, passphrase: str) -> AsyncIterator[bytes]:
    """The backup's file, in pieces; raises errors.ShoalError."""
    call = BackupStub(channel).Save(
        model.BackupRequest(passphrase), timeout=_SAVE_TIMEOUT, wait_for_ready=True
    )
    try:
        async for chunk in call:
            yield chunk.data
    except grpc.aio.AioRpcError as exc:
        raise rpc.error_from(exc) from exc
    finally:
        call.cancel()


async def restore(
    channel: grpc.aio.Channel, request: model.RestoreRequest, data: bytes
) -> model.RestoreReply:
    """Hands a backup's file to the manager, which answers once it is one by it; raises errors.ShoalError."""
    call = BackupStub(channel).Restore(
        _requests(request, data), timeout=_RESTORE_TIMEOUT, wait_for_ready=True
    )
    try:
        async for reply in call:
            return reply
    except grpc.aio.AioRpcError as exc:
        raise rpc.error_from(exc) from exc
    finally:
        call.cancel()
    raise errors.Internal("the manager hung up without an answer")


async def _requests(request: model.RestoreRequest, data: bytes) -> AsyncIterator[model.RestoreRequest]:
    yield request
    for start in range(0, len(data), _PIECE):
        yield model.RestoreRequest(data=data[start : start + _PIECE])
