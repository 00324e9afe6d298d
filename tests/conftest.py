"""For all tests: Hypothesis takes its time, gRPC's one poller thread is started once and never stopped, and a failure is short.

How long an example takes, or is made, says how busy the machine is and nothing else.

grpc.aio counts its channels and servers; when the last one of an event loop is collected it joins its poller, and
where the collector does that in the middle of another test the join can wait for ever. A daemon always holds one.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc.aio
import pytest
from hypothesis import HealthCheck, settings

from tests.reports import shorten

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
grpc.aio.init_grpc_aio()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """The last to have its hands on a report."""
    report = yield
    if report.failed:
        shorten(report)
    return report
