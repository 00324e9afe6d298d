"""A manager's own certificate, which it issues to itself: the root's key is in the store. member.py makes one.

Nobody is asked, so a manager without a quorum, or one that was off for a year, has a certificate that others accept before it
listens. A new one takes the place of the old one at a random moment between half and four fifths of its life, and is used
from the next handshake on. Also replaced is one that is not valid yet (the clock was wrong when it was made) and one
whose key is not the one beside it (a crash between the two files).
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from common import pki
from common.clock import Clock
from manager.ca import authority
from manager.ca.service import expiry, utc
from manager.elsewhere import Papers
from manager.identity import Folder
from manager.keeper import Keeper
from manager.store.store import Store

log = logging.getLogger("manager")

CHECK: Final = 60.0
"""Seconds between two looks at the clock, which may jump."""
BETWEEN: Final = (0.5, 0.8)
"""Of a certificate's life."""


class OwnCertificate:
    """`papers` are those of now: key and chain together, for any thread."""

    def __init__(
        self, papers: Papers, folder: Folder, store: Store, keeper: Keeper, clock: Clock,
        rng: random.Random | None = None,
    ) -> None:  # fmt: skip
        self.papers = papers
        self._folder = folder
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._rng = rng or random.Random()
        self._moment = self._chosen()

    def _chosen(self) -> float:
        return pki.renewal_moment(self.papers.chain, self._rng.uniform(*BETWEEN)).timestamp()

    def check(self) -> None:
        """Replaces the certificate when it is time."""
        now, papers = utc(self._clock), self.papers
        start, end = pki.validity(papers.chain)
        if not pki.belongs(papers.key, papers.chain):
            log.error(
                "%s is not the key of %s: both are replaced", self._folder.key, self._folder.certificate
            )
        elif now < start:
            log.warning(
                "this manager's certificate is valid from %s on, but it is %s: was a clock wrong?", start, now
            )
        elif now >= end:
            log.warning(
                "this manager's certificate expired on %s; it is %s by this machine's clock", end, now
            )
        elif now.timestamp() < self._moment:
            return
        self._replace()

    def _replace(self) -> None:
        cluster, key = self._store.view().cluster, pki.new_key()
        if not cluster.root_ca.key:
            log.error("no new certificate: this manager has not got the swarm's state yet")
            return
        node_id, cluster_id, role = pki.leaf_identity(self.papers.chain)
        root = authority.root_authority(cluster.root_ca)
        csr, now = pki.create_csr(key), utc(self._clock)
        chain = pki.issue_node(root, csr, node_id, role, cluster_id, now, expiry(cluster))
        self.papers = Papers(pki.key_pem(key), chain)
        self._moment = self._chosen()
        log.info("new certificate, valid until %s", pki.validity(chain)[1])
        try:
            self._folder.write_certificate(chain, self._keeper.private(self.papers.key))
        except OSError as exc:
            log.error("the new certificate could not be written and is used until this manager ends: %s", exc)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.check()
            left = self._moment - self._clock.now_ns() / 1e9
            await asyncio.sleep(min(CHECK, max(1.0, left)))
