"""For all tests: gRPC's one poller thread is started once and never stopped.

grpc.aio counts its channels and servers; when the last one of an event loop is collected it joins its poller, and
where the collector does that in the middle of another test the join can wait for ever. A daemon always holds one.
"""

from __future__ import annotations

import grpc.aio

grpc.aio.init_grpc_aio()
