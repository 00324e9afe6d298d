"""A failure that lasts is told once, and again when it is another; what was repaired is told where nothing failed."""

from __future__ import annotations

import errno
import logging

import pytest

from agent.network import names
from agent.network.facts import Change, Namespace
from agent.network.report import Report

FULL = OSError(errno.ENOBUFS, "No buffer space available")


def test_each_failure_once(caplog: pytest.LogCaptureFixture) -> None:
    report = Report()
    for _ in range(3):
        report.passed({"n-net": FULL}, 0, ())
    assert caplog.text.count("network namespace n-net: No buffer space available") == 1
    assert report.failing == {"n-net": "No buffer space available"}
    report.passed({}, 0, ())
    report.passed({"n-net": FULL}, 0, ())
    assert caplog.text.count("No buffer space") == 2


def test_a_pass_that_fails_as_a_whole_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    report = Report()
    for _ in range(3):
        assert report.broke(ValueError("'x' is no address")) == "could not set up networks: 'x' is no address"
    assert len(caplog.records) == 1 and caplog.records[0].exc_info is None
    for _ in range(3):
        assert report.broke(KeyError("t1")) == "could not set up networks: KeyError: 't1'"
    assert len(caplog.records) == 2 and caplog.records[1].exc_info
    assert list(report.failing) == [names.HOST]


def test_what_was_repaired(caplog: pytest.LogCaptureFixture) -> None:
    changes = tuple(Change(f"t-{n}", Namespace()) for n in range(3))
    report = Report()
    with caplog.at_level(logging.WARNING):
        report.passed({}, 0, changes)
        assert not caplog.records
        report.passed({}, 2, changes)
    assert "2 changes made" in caplog.text and "t-0" not in caplog.text and "t-2" in caplog.text
