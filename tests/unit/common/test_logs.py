"""Whatever ends a daemon says so in the journal, as something that matters."""

import logging
import signal
import subprocess
import sys

import pytest

from common import logs

FAILS = "import asyncio\nasync def run():\n raise {0}\nasyncio.run(run())"


def said(code: str, journal: bool) -> tuple[int, list[str]]:
    """How a process ends that has set up the logs and runs `code`, and what it says on stderr."""
    env = {"JOURNAL_STREAM": "1:2"} if journal else {}
    done = subprocess.run(
        [sys.executable, "-c", f"from common import logs\nlogs.configure()\n{code}"],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()


def test_an_error_that_nobody_expected() -> None:
    code, lines = said(FAILS.format("LookupError('no such thing')"), journal=True)
    assert code == 1
    assert lines[0] == "<2>shoal: the process ends: no such thing"
    assert lines[1].startswith("<2>Traceback")
    assert lines[-1] == "<2>LookupError: no such thing"
    assert all(line.startswith("<2>") for line in lines), "each line is an entry of the journal"


def test_one_without_words() -> None:
    code, lines = said(FAILS.format("LookupError"), journal=True)
    assert (code, lines[0]) == (1, "<2>shoal: the process ends: LookupError")


def test_from_a_shell() -> None:
    code, lines = said(FAILS.format("LookupError('no such thing')"), journal=False)
    assert code == 1
    assert lines[0].endswith("CRITICAL shoal: the process ends: no such thing")
    assert lines[-1] == "LookupError: no such thing"


def test_an_interrupt_is_no_error() -> None:
    _, lines = said(FAILS.format("KeyboardInterrupt"), journal=True)
    assert "KeyboardInterrupt" in lines[-1] and not any("<2>" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
def test_a_crash_in_native_code(number: signal.Signals) -> None:
    code, lines = said(f"import os\ndef here(): os.kill(os.getpid(), {int(number)})\nhere()", journal=True)
    assert code == -number
    assert any("Fatal Python error" in line for line in lines)
    assert any("in here" in line for line in lines)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_a_logger_that_is_spared_says_what_it_left_out() -> None:
    now = [100.0]
    logger, kept = logging.Logger("spared", logging.DEBUG), Kept()
    logger.addHandler(kept)
    logger.addFilter(logs.Sparing(lines=2, seconds=10, clock=lambda: now[0]))
    for number in range(5):
        logger.info("line %d", number)
    logger.debug("whoever asks for these wants them all")
    now[0] += 10
    logger.warning("100 % more")
    logger.info("and more")
    assert kept.lines == [
        "line 0", "line 1", "whoever asks for these wants them all", "100 % more (3 more lines were left out)", "and more",
    ]  # fmt: skip


def test_what_strangers_send_fits_into_one_line() -> None:
    assert logs.shown("/nodes/ä?x=1") == "/nodes/ä?x=1"
    assert logs.shown("a\nb\x1b[1m\udcff") == r"a\nb\x1b[1m\udcff"
    assert logs.shown("x" * 500) == "x" * 200 + "…"
