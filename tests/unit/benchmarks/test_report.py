"""Tables from a results file, and a file that a run goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.measure import MEASURES, Memory, _node_memory
from benchmarks.results import Repetition, Results

ABOUT = {
    "date": "2030-01-02",
    "commit": "abc",
    "uncommitted_changes": False,
    "processors": 2,
    "memory_mib": 4096,
    "kernel": "6.1",
    "client": "docker 1",
}


def some_results(path: Path) -> Results:
    results = Results(path, dict(ABOUT), {"shoal": {"server": "Shoal 1"}}, {"create-5": "a command"})
    for turn, (shoal, docker) in enumerate([(0.5, 1.0), (0.7, 2.0), (0.3, 4.0)], 1):
        figures = {"shoal": {"create": [shoal]}, "docker": {"create": [docker]}}
        results.repetitions.append(Repetition("create-5", turn, ["shoal", "docker"], "now", 0.0, figures))
    return results


def test_a_row_has_spread_ratio_of_medians_and_count(tmp_path: Path) -> None:
    table = report.comparison(some_results(tmp_path / "r.json"))
    row = next(line for line in table if "create 5, no network" in line)
    assert "| 0.30 / **0.50** / 0.70 | 1.00 / **2.00** / 4.00 | 0.25 | 3 |" in row


@pytest.mark.parametrize(
    ("higher_is_better", "shoal", "expected"),
    [(False, 3.0, "1.50 (behind)"), (False, 1.0, "0.50"), (True, 1.0, "0.50 (behind)"), (True, 4.0, "2.00")],
)
def test_what_is_behind_is_said(higher_is_better: bool, shoal: float, expected: str) -> None:
    row = report.Row("m", "x", "title", "s", higher_is_better)
    assert report.ratio(row, [shoal], [2.0]) == expected


def test_no_ratio_to_nothing() -> None:
    assert report.ratio(report.Row("m", "x", "title", "s"), [1.0], [0.0]) == "–"


def test_a_file_is_read_back_whole_and_knows_what_is_done(tmp_path: Path) -> None:
    results = some_results(tmp_path / "deeper" / "r.json")
    results.save()
    again = Results.load(results.path)
    assert again == results
    assert again.done("create-5", 3)
    assert not again.done("create-5", 4)
    assert not again.done("create-60", 1)


def test_only_what_is_between_the_markers_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    report.write_page(some_results(tmp_path / "r.json"))
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "create 5, no network" in text


def test_every_row_is_of_a_measure() -> None:
    assert {row.measure for row in report.ROWS} == {m.name for m in MEASURES}


def test_a_shared_file_counts_once_per_node() -> None:
    first = Memory(rss=30 * 1024, anonymous=10 * 1024, files={"libc": 20 * 1024})
    second = Memory(rss=25 * 1024, anonymous=10 * 1024, files={"libc": 15 * 1024})
    assert _node_memory([first, second]) == 40
