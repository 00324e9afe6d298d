"""What the manager's port shows and trusts in a TLS handshake, now and after every change. member.py makes one for its port.

gRPC asks before each handshake whether something has changed. An answer with news makes it free what it has used until
then, although another thread may be about to begin a handshake with that (https://github.com/grpc/grpc/issues/36693):
the process ends, or corrupts its memory, when two nodes connect at the same moment. So news are told only when there are
any, and only when every handshake that was asked about before has begun long ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc

BEGUN: Final = 0.25
"""Seconds after which a handshake that gRPC has asked about has surely begun; it takes microseconds."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Key and certificate chain, and the roots that a client's certificate must come from (PEM)."""

    key: bytes = field(repr=False)
    chain: bytes
    roots: bytes

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The same for gRPC."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.roots)


class Handshakes:
    """Credentials of one port, which follow `current`. That is called in threads of gRPC, one after the other: gRPC
    holds a lock meanwhile, so that other handshakes wait."""

    def __init__(
        self,
        current: Callable[[], Shown],
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._current = current
        self._now = now
        self._wait = wait
        self._told = current()
        self._asked = now()

    def credentials(self) -> grpc.ServerCredentials:
        """For the port; whoever connects must have a certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._told.configuration(),
            self.news,  # type: ignore[arg-type]  # it may return None
            require_client_authentication=True,
        )

    def news(self) -> grpc.ServerCertificateConfiguration | None:
        """What the handshake that is about to begin, and those after it, are to use; None: the same as before."""
        if self._current() == self._told:
            self._asked = self._now()
            return None
        # Nothing tells when a handshake has begun. No other one is asked about while this waits.
        self._wait(max(0.0, self._asked + BEGUN - self._now()))
        self._told = self._current()
        self._asked = self._now()
        return self._told.configuration()
