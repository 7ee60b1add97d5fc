"""From the shell to a verdict: record, look, report, evaluate and compare on real episodes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]


def chaosgym(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chaosgym.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy episode and a crash; a busy machine may spoil one, so that others are tried."""
    out = tmp_path_factory.mktemp("cli") / "episodes"
    said = ""
    for seed in (0, 100, 200):
        done = chaosgym("record", "--scenarios", "process-crash,healthy-*", "--episodes", 2, "--seed", seed, "--out", out, "--json")
        if done.stdout and json.loads(done.stdout)["unscorable"] == 0:
            return out
        said += f"ended with {done.returncode}: {done.stderr}\n"
    pytest.fail(f"no scorable episodes: {said}")


def test_what_was_recorded_is_listed_shown_and_reported_without_the_truth(episodes: Path) -> None:
    rows = [row for row in json.loads(chaosgym("episodes", "list", episodes, "--json").stdout) if row["status"] == "ok"]
    assert len(rows) >= 2
    shown = chaosgym("episodes", "show", rows[0]["path"], "--json")
    assert json.loads(shown.stdout)["rows"]["spans"] > 0
    assert "truth" not in json.loads(shown.stdout)
    assert "truth" in json.loads(chaosgym("episodes", "show", rows[0]["path"], "--truth", "--json").stdout)
    report = json.loads(chaosgym("episodes", "report", rows[0]["path"], "--json").stdout)
    assert set(report["handles"].values()) <= set(report["components"])
    assert report["compact"] in chaosgym("episodes", "report", rows[0]["path"], "--compact").stdout


def test_two_agents_are_evaluated_and_compared(episodes: Path, tmp_path: Path) -> None:
    for agent in ("null", "rules"):
        done = chaosgym("eval", agent, "--episodes", episodes, "--out", tmp_path / agent, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["agents"]["oracle"]["accuracy"]["value"] == 1.0
    assert (tmp_path / "rules" / "report.html").stat().st_size > 0
    compared = json.loads(chaosgym("compare", tmp_path / "null", tmp_path / "rules", "--json").stdout)
    assert (compared["a"], compared["b"]) == ("null", "rules")


def test_interrupted_recording_ends_with_130_and_leaves_whole_episodes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaosgym.cli", "record", "--episodes", "40", "--workers", "1", "--out", str(tmp_path)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert "recorded" in _first_count(running.stderr)
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert "Traceback" not in running.stderr.read()
    running.stderr.close()
    assert all((path / "truth.json").is_file() for path in tmp_path.iterdir() if not path.name.startswith("."))


def _first_count(lines: IO[str]) -> str:
    """The first line that counts episodes; others tell why one was spoiled."""
    return next((line for line in lines if line.startswith("recorded")), "")
