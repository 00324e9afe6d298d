"""For all tests: Hypothesis takes its time, and gRPC's one poller thread is started once and never stopped.

How long an example takes, or is made, says how busy the machine is and nothing else.

grpc.aio counts its channels and servers; when the last one of an event loop is collected it joins its poller, and
where the collector does that in the middle of another test the join can wait for ever. A daemon always holds one.
"""

from __future__ import annotations

import grpc.aio
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
grpc.aio.init_grpc_aio()
