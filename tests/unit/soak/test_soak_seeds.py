"""tests/soak/seeds.py: goes on where it was, each range by itself, and is not held up by a run that never ends."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.soak import seeds

ENDLESS, WRONG = 3, 5


@dataclass(slots=True)
class Counted(seeds.Soak):
    """Adds the seeds up."""

    total: int = 0

    def once(self, seed: int) -> str:
        while seed == ENDLESS:
            pass
        self.total += seed
        return "out of order" if seed == WRONG else ""

    def told(self) -> str:
        return f"{self.total} in all"


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    seeds.arguments(parser, 2)
    return parser.parse_args(words)


def test_a_run_that_never_ends_is_a_violation_and_the_next_one_follows(tmp_path: Path) -> None:
    soak = Counted("code", 2)
    path = tmp_path / "counted.json"
    assert not seeds.run(soak, 4, path, limit=0.5)
    assert soak.runs == 2 and json.loads(path.read_text())["runs"] == 2
    assert seeds.run(soak, 4, path, limit=0.5)
    assert soak.runs == 4 and soak.total == 2 + 4 + 5
    assert [each["seed"] for each in soak.violations] == [ENDLESS, WRONG]
    assert str(soak.violations[0]["wrong"]).startswith("not over within 0.5 s; it was in once")
    assert soak.violations[1]["wrong"] == "out of order"
    assert "4 runs (seeds 2 to 5), 2 violations, 11 in all" in soak.sentence()


def test_after_a_run_that_was_broken_off_a_new_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaced(Exception):
        pass

    def execv(program: str, words: list[str]) -> None:
        assert (program, words) == (sys.executable, sys.orig_argv)
        raise Replaced

    monkeypatch.setattr(seeds, "RESULTS", tmp_path)
    monkeypatch.setattr(seeds, "run", lambda *_: False)
    monkeypatch.setattr("os.execv", execv)
    with pytest.raises(Replaced):
        seeds.soak(Counted, "counted", "code", given())


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "counted.json"
    seeds.run(seeds.load(path, Counted, "code", 6), 2, path)
    again = seeds.load(path, Counted, "code", 6)
    assert (again.runs, again.total) == (2, 13)
    seeds.run(again, 3, path)
    assert (again.runs, again.total) == (3, 21)


def test_other_code_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "counted.json"
    path.write_text('{"code": "old", "first": 0, "of another shape": 1}')
    assert seeds.load(path, Counted, "new", 0).runs == 0


def test_ranges_have_results_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "RESULTS", tmp_path)
    assert seeds.soak(Counted, "counted", "code", given()) == 0
    assert seeds.soak(Counted, "counted", "code", given("--first", "5", "--runs", "1")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counted-5.json", "counted.json"]


def test_code_is_told_apart_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "ROOT", tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.py").write_text("1")
    (tmp_path / "two.py").write_text("2")
    before = seeds.fingerprint("folder", "two.py")
    (tmp_path / "folder" / "test_one.py").write_text("a test of it")
    assert seeds.fingerprint("folder", "two.py") == before
    (tmp_path / "two.py").write_text("3")
    assert seeds.fingerprint("folder", "two.py") != before
