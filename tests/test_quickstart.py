"""The quickstart goes on where it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaosgym.training import quickstart
from chaosgym.training.quickstart import Recipe

TINY = Recipe(workers=1, train_episodes=2, seeds_episodes=1, record_minutes=0.1)


@contextmanager
def _silent(total: int) -> Generator[quickstart.Told]:
    yield lambda task, outcome: None


@pytest.mark.slow
def test_a_recording_cut_short_by_its_time_is_not_taken_up_again_under_a_model_that_has_begun(tmp_path: Path) -> None:
    none = Recipe(workers=1, train_episodes=2, seeds_episodes=1, record_minutes=0.0)
    first, _ = quickstart.record_episodes(tmp_path, print, _silent, 0, none)
    assert first.recorded == 0
    again, _ = quickstart.record_episodes(tmp_path, print, _silent, 0, TINY)
    assert again.recorded == 0
    (tmp_path / "ended").unlink()
    third, _ = quickstart.record_episodes(tmp_path, print, _silent, 0, TINY)
    assert third.recorded > 0
