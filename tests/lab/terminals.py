"""Types a transcript's commands on the lab's machines, on terminals where the lab uses one. For test_tutorials.py."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.support import LAB, Lab
from tests.lab.transcript import Mismatch, Step, filled, match

_SECONDS: Final = 60.0
_PROMPT: Final = re.compile(r"(?:^|\n|\r)(?:/[^\n]*|root@[0-9a-z]{12}:[^\n]*)# $")
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")
_INTERACTIVE: Final = re.compile(r"\w+ (?:container )?(?:run|exec|attach)\b")
_FLAG: Final = re.compile(r"-[a-z]*t[a-z]*")
_KEYS: Final = {"^P^Q": b"\x10\x11", "^C": b"\x03", "^D": b"\x04"}
# `docker-machine` of the labs: a shell on a machine, and its address.
_SSH: Final = re.compile(r"docker-machine ssh vm-(\w+) (.*)")
_IP: Final = re.compile(r"docker-machine ip vm-(\w+)")


class Terminal:
    """A command on a pseudo-terminal of 40 lines and 160 columns."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self._process = subprocess.Popen(
            argv, stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(inner)
        self._raw = b""

    def type(self, text: str) -> None:
        os.write(self._fd, _KEYS.get(text) or text.encode() + b"\n")

    def until_prompt(self) -> str:
        """What came until a shell asks for the next line, or the command ended."""
        deadline = time.monotonic() + _SECONDS
        while True:
            if _PROMPT.search(self._seen()):
                break
            if time.monotonic() > deadline:
                raise Mismatch(f"no prompt after {_SECONDS:g} s: {self._seen()!r}")
            ready, _, _ = select.select([self._fd], [], [], 1.0)
            if ready and not self._read():
                break
        text, self._raw = self._seen(), b""
        return text

    def _read(self) -> bytes:
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other end is closed
            data = b""
        self._raw += data
        return data

    def _seen(self) -> str:
        return _ESCAPES.sub("", self._raw.decode(errors="replace")).replace("\r", "")

    def code(self) -> int:
        """The exit code of the command, which must come to its end."""
        try:
            return self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired as exc:
            raise Mismatch(f"{exc.cmd} does not end: {self._seen()!r}") from exc

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        os.close(self._fd)


@dataclass
class Player:
    """Plays one lab from its first command to its last, by one CLI."""

    lab: Lab
    program: str
    folder: Path
    known: dict[str, str] = field(default_factory=dict)
    open: dict[str, list[Terminal]] = field(default_factory=dict)
    behind: dict[str, tuple[Step, subprocess.Popen[str]]] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    def play(self, steps: list[Step]) -> None:
        self.known = {name: machine.addr for name, machine in self.lab.machines.items()}
        self.known["outside"] = self.lab.outside_addr
        try:
            for step in steps:
                self.step(step.by(self.program))
            for machine in list(self.behind):
                self._join(machine)
        finally:
            for terminal in (terminal for several in self.open.values() for terminal in several):
                terminal.close()
            for _, process in self.behind.values():
                process.kill()
                process.communicate()

    def step(self, step: Step) -> None:
        """One step to its end, or to its beginning if it is one for the background."""
        if step.how == "=":
            (self.folder / step.typed).write_text("\n".join(step.expected) + "\n")
            return
        self._join(step.machine)
        began = time.monotonic()
        again = step.how.endswith("~") or step.reads  # what only looks may look a moment too early
        deadline = began + (_SECONDS if again else 0)
        if step.how == "&":
            self.behind[step.machine] = (step, self._started(step.machine, filled(step.typed, self.known)))
            return
        while True:
            printed, code = self._typed(step)
            try:
                self._compare(step, printed, code)
                break
            except Mismatch:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self.trace.append(f"{step.machine}$ {step.typed}  [{time.monotonic() - began:.2f} s]\n{printed}")

    def _compare(self, step: Step, printed: str, code: int) -> None:
        try:
            if code != step.exit:
                raise Mismatch(f"exit code {code}, not {step.exit}")
            self.known = match(step.expected, printed, self.known)
        except Mismatch as problem:
            expected, before = "\n".join(step.expected), "\n".join(self.trace[-5:])
            raise Mismatch(
                f"line {step.line}, {step.machine}$ {step.typed}\n{problem}\n--- printed\n{printed}"
                f"\n--- expected\n{expected}\n--- before\n{before}"
            ) from None

    def _join(self, machine: str) -> None:
        if machine in self.behind:
            step, process = self.behind.pop(machine)
            printed, _ = process.communicate(timeout=_SECONDS)
            self._compare(step, printed, process.returncode)

    def _typed(self, step: Step) -> tuple[str, int]:
        text = filled(step.typed, self.known)
        if step.how.startswith(">"):
            return self._into_terminal(step.machine, text)
        machine = step.machine
        if found := _IP.fullmatch(text):
            return self.known[found[1]] + "\n", 0
        if found := _SSH.fullmatch(text):
            machine, text = found[1], found[2]
        if _terminal_wanted(text):
            terminal = Terminal(*self._argv(machine, text))
            self.open.setdefault(machine, []).append(terminal)
            if " attach " in text:
                terminal.type("")  # a shell that was there before says nothing by itself
            return _without_prompts(terminal.until_prompt()), 0
        process = self._started(machine, text)
        try:
            printed, _ = process.communicate(timeout=2 * _SECONDS)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise Mismatch(
                f"{machine}$ {text}: no end after {exc.timeout:g} s: {process.communicate()[0]}"
            ) from exc
        return printed, process.returncode

    def _started(self, machine: str, text: str) -> subprocess.Popen[str]:
        """Without a terminal; both its outputs in the order of time."""
        argv, environment = self._argv(machine, text)
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
            cwd=self.folder,
        )  # fmt: skip

    def _argv(self, machine: str, text: str) -> tuple[list[str], dict[str, str]]:
        """The unchanged docker CLI is the host's, our own that of the machine."""
        environment = {**os.environ, "TERM": "xterm"}
        if machine in self.lab.machines:
            environment["DOCKER_HOST"] = f"unix://{self.lab.machines[machine].socket}"
        if text.startswith("docker "):
            return ["bash", "-c", text], environment
        return [str(LAB), "exec", machine, "bash", "-c", text], environment

    def _into_terminal(self, machine: str, text: str) -> tuple[str, int]:
        terminal = self.open[machine][-1]
        terminal.type(text)
        if text in ("exit", *_KEYS):
            self.open[machine].pop()
            try:
                terminal.until_prompt()
                code = terminal.code()
                return (
                    "",
                    code if text == "exit" else 0,
                )  # docker's `attach` says 1 for a terminal that is left, `run` 0
            finally:
                terminal.close()
        printed = terminal.until_prompt()
        return _without_prompts(printed.partition(f"{text}\n")[2]), 0


def _terminal_wanted(text: str) -> bool:
    words = text.split()
    if not _INTERACTIVE.match(text):
        return False
    flags = [word for word in words if _FLAG.fullmatch(word)]
    return " attach " in text or any("d" not in word for word in flags)


def _without_prompts(text: str) -> str:
    return re.sub(r"(?m)^(?:/\S*|root@[0-9a-z]{12}:\S*) ?# *", "", text)
