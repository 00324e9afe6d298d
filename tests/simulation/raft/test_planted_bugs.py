"""Each patch in bugs/ puts one real fault into a copy of the core; the simulation must catch it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.planted import check_caught, plant

PATCHES = sorted((Path(__file__).parent / "bugs").glob("*.patch"))
SEEDS = 1_500


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_planted_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    plant(patch, ("manager",), tmp_path)
    check_caught(patch, tmp_path, "tests.simulation.raft.catch", SEEDS)


def test_there_are_bugs() -> None:
    assert len(PATCHES) >= 10
