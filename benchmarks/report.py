"""Tables of a results file: on the terminal, and into docs/measurements.md between its two markers.

python -m benchmarks.report [FILE]      (default: the newest results file)
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.lab import ROOT
from benchmarks.results import FOLDER, Results

PAGE = ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SHOAL, DOCKER = "shoal", "docker"


@dataclass(frozen=True, slots=True)
class Row:
    """One compared figure: where it is in the results, and how it is called."""

    measure: str
    metric: str
    title: str
    unit: str
    higher_is_better: bool = False


def _creates() -> Iterable[Row]:
    for suffix, where in (("", "no network"), ("-overlay", "overlay")):
        for count in (5, 60):
            measure = f"create-{count}{suffix}"
            yield Row(measure, "create", f"create {count}, {where}: all running", "s")
            yield Row(measure, "remove", f"remove {count}, {where}: all gone", "s")


def _dns() -> Iterable[Row]:
    for label, name in (("vip", "the VIP"), ("tasks", "tasks.NAME, 6 records")):
        for outstanding in (1, 16):
            key = f"{label}-{outstanding}"
            title = f"DNS: {name}, {outstanding} outstanding"
            yield Row("dns", f"qps-{key}", title, "queries/s", higher_is_better=True)
            yield Row("dns", f"p50-{key}", f"{title}, p50", "µs")
            yield Row("dns", f"p99-{key}", f"{title}, p99", "µs")
            yield Row("dns", f"lost-{key}", f"{title}, lost or wrong", "")


def _configs() -> Iterable[Row]:
    ways = (("api", "over a connection that stands"), ("cli", "a call of the docker CLI"))
    for measure, managers in (("config-create-1", "one manager"), ("config-create-3", "three managers")):
        for metric, way in ways:
            yield Row(measure, metric, f"config create, {managers}: {way}", "ms")
    yield Row("config-create-3", "follower", "config create, three managers: the same, at a follower", "ms")


def _idle() -> Iterable[Row]:
    for measure, state in (("idle-0", "idle"), ("idle-60", "20 tasks per node")):
        yield Row(measure, "cpu-all", f"{state}: processor time of all daemons, 3 nodes", "s/min")
        yield Row(measure, "memory-manager", f"{state}: memory of the daemons of the manager's node", "MiB")
        yield Row(measure, "memory-worker", f"{state}: memory of the daemons of a worker's node", "MiB")
    yield Row("idle-60", "cpu-shims", "20 tasks per node: processor time of the shims, 3 nodes", "s/min")
    yield Row("idle-60", "memory-shims", "20 tasks per node: memory of a node's shims", "MiB")


ROWS = (
    *_creates(),
    Row("replacement", "replacement", "task's process killed: replacement runs (restart delay 0)", "s"),
    *_dns(),
    Row("reach", "reachable", "from running to known by name on every node", "s"),
    Row("reach", "gone", "from killed to gone from the names on every node", "s"),
    *_configs(),
    *_idle(),
)
DAEMONS = ("shoal-manager", "shoal-agent", "dockerd", "containerd")


def number(value: float) -> str:
    """Three significant digits; whole numbers from 100 on."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def spread(values: Sequence[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{number(low)} / **{number(middle)}** / {number(high)}"


def ratio(row: Row, shoal: Sequence[float], docker: Sequence[float]) -> str:
    base = statistics.median(docker)
    if base == 0:
        return "–"
    value = statistics.median(shoal) / base
    behind = value < 1 if row.higher_is_better else value > 1
    return f"{value:.2f}" + (" (behind)" if behind and round(value, 2) != 1 else "")


def comparison(results: Results) -> list[str]:
    lines = [
        "| figure (min / **median** / max) | unit | Shoal | Docker | Shoal/Docker | n |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        shoal = results.values(SHOAL, row.measure, row.metric)
        docker = results.values(DOCKER, row.measure, row.metric)
        if not shoal and not docker:
            continue
        both = ratio(row, shoal, docker) if shoal and docker else "–"
        shown = [spread(values) if values else "–" for values in (shoal, docker)]
        count = f"{len(shoal)}" if len(shoal) == len(docker) else f"{len(shoal)}, {len(docker)}"
        unit = row.unit + (" ↑" if row.higher_is_better else "")
        lines.append(f"| {row.title} | {unit} | {shown[0]} | {shown[1]} | {both} | {count} |")
    return lines


def per_daemon(results: Results) -> list[str]:
    lines = [
        "| daemon | state | processor s/min | RSS MiB | PSS MiB | n |",
        "|---|---|---|---|---|---|",
    ]
    for side, daemon, role in product((SHOAL, DOCKER), DAEMONS, ("manager", "worker")):
        for measure, state in (("idle-0", "idle"), ("idle-60", "20 tasks")):
            columns = [
                results.values(side, measure, f"{kind}-{daemon}-{role}") for kind in ("cpu", "rss", "pss")
            ]
            if columns[0]:
                shown = " | ".join(spread(values) for values in columns)
                lines.append(
                    f"| {side}: {daemon} on a {role}'s node | {state} | {shown} | {len(columns[0])} |"
                )
    return lines if len(lines) > 2 else []


def page_part(results: Results) -> str:
    """What stands between the markers."""
    about = results.about
    commit = about["commit"] + (" with uncommitted changes" if about["uncommitted_changes"] else "")
    lines = [
        f"Run of {about['date']}, commit {commit}; raw file `{_relative(results.path)}`.",
        f"{about['processors']} processors, {about['memory_mib'] / 1024:.0f} GiB, kernel {about['kernel']}; "
        f"client: {about['client']}.",
        "",
        *(f"- {name}: {side['server']}" for name, side in sorted(results.sides.items())),
        "",
        *comparison(results),
        "",
        *per_daemon(results),
        "",
    ]
    if results.failures:
        lines += ["Failed repetitions, not in the tables:", ""]
        lines += [
            f"- {f['measure']}, round {f['round']}: {f['text'].splitlines()[0]}" for f in results.failures
        ]
        lines.append("")
    return "\n".join(lines)


def _relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def write_page(results: Results) -> None:
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks its markers {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{page_part(results)}\n{END}{after}")


def main(argv: list[str]) -> int:
    newest = sorted(FOLDER.glob("*.json"), key=lambda p: p.stat().st_mtime)
    if not argv and not newest:
        print("no results yet: make bench", file=sys.stderr)
        return 1
    results = Results.load(Path(argv[0]) if argv else newest[-1])
    write_page(results)
    print(page_part(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
