"""`chaosgym train watch`: what a run's metrics say, as a picture and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from chaosgym.cli.program import make_program
from chaosgym.cli.watch import read_progress, sparkline


def watch(*arguments: str) -> Result:
    return CliRunner().invoke(make_program(), ["train", "watch", *arguments], prog_name="chaosgym")


def write_run(path: Path, lines: list[dict[str, Any]], **config: Any) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"command": "grpo", "config": {"steps": 100, "minutes": None, **config}}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def steps(count: int, seconds: float = 3.0) -> list[dict[str, Any]]:
    return [{"step": 10 * n, "of": 100, "seconds": 10 * n * seconds, "reward": n / 10, "kl": 0.5} for n in range(1, count + 1)]


def test_a_frame_shows_steps_time_left_and_the_course_of_what_there_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "grpo", [{"step": 0, "validation/component": 0.4}, *steps(4)])
    lines = watch(str(run), "--once").output.splitlines()
    assert lines[0] == f"grpo {run}: step 40 of 100, 2:00, 3:00 left"
    assert [line[:20].strip() for line in lines[1:]] == ["reward", "kept out: component", "KL to the start"]
    assert lines[1].split()[1:] == ["0.4", "0.1", "to", "0.4", "▁▃▆█"]
    assert watch(str(run)).output.splitlines() == lines  # no terminal: one frame


def test_json_has_the_latest_of_every_metric(tmp_path: Path) -> None:
    run = write_run(tmp_path / "grpo", [*steps(3), {"step": 30, "anything": 7}], minutes=2)
    found = json.loads(watch(str(run), "--json").output)
    assert found["latest"] == {"reward": 0.3, "kl": 0.5, "anything": 7}
    assert (found["step"], found["of"], found["left_seconds"], found["ended"]) == (30, 100, 30.0, False)  # the clock ends it
    (run / "summary.json").write_text("{}")
    ended = json.loads(watch(str(run), "--json").output)
    assert (ended["left_seconds"], ended["ended"]) == (0.0, True)


def test_a_resumed_run_goes_on_with_its_course_and_its_own_pace(tmp_path: Path) -> None:
    again = [{"step": n, "of": 100, "seconds": 5.0 * (n - 20), "reward": 0.9} for n in (30, 40)]
    progress = read_progress(write_run(tmp_path / "grpo", [*steps(4), *again]))
    assert progress.courses["reward"] == [0.1, 0.2, 0.9, 0.9]
    assert (progress.seconds, progress.left) == (100.0, 300.0)


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "grpo", steps(2))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "rew')
    assert read_progress(run).step == 20


def test_a_run_that_has_just_begun_shows_nothing_yet(tmp_path: Path) -> None:
    shown = watch(str(write_run(tmp_path / "grpo", [])), "--once")
    assert shown.output.splitlines() == [f"grpo {tmp_path / 'grpo'}: step 0 of 100, 0:00, waiting for a second line of metrics"]


def test_what_is_no_run_is_refused_with_the_remedy(tmp_path: Path) -> None:
    shown = watch(str(tmp_path), "--once")
    assert shown.exit_code != 0
    assert "pass a run directory of `chaosgym train`" in str(shown.exception)


@given(st.lists(st.floats(-1e9, 1e9), max_size=300))
def test_a_sparkline_is_never_wider_than_asked_and_reaches_both_ends(values: list[float]) -> None:
    line = sparkline(values, 20)
    assert len(line) == min(20, len(values))
    assert set(line) <= set("▁▂▃▄▅▆▇█")
    if 2 <= len(values) <= 20 and max(values) - min(values) > 1:
        assert line[values.index(max(values))] == "█"
        assert line[values.index(min(values))] == "▁"


def test_watching_needs_no_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "grpo", steps(2))
    code = "import sys\nfrom chaosgym.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "train", "watch", str(run)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == "False"
