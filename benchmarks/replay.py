"""Speed of recorded episodes on one core: reset+step of the environment, and compilation of reports.

    python benchmarks/replay.py [--episodes DIR] [--seconds 3] [--json]

Without `--episodes` it records one live episode of each scenario of the library first. `report_ms_p50` is a whole
report from telemetry in memory; `read_ms_p50` reads that telemetry from disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chaosgym.envs import RootCauseEnv
from chaosgym.episode import Episode, list_episodes, read_episode
from chaosgym.incident import compile_incident

_ANSWER = '{"verdict": "fault", "causes": [{"component": "none", "fault": "process.crash", "probability": 0.5}], "evidence": []}'
_ROUNDS = 5


@dataclass(frozen=True)
class Result:
    """Rates of the readable and of the compact rendering, and milliseconds."""

    reset_step_per_s: float
    reset_step_per_s_min: float
    reset_step_per_s_compact: float
    report_ms_p50: float
    report_ms_p95: float
    read_ms_p50: float
    episodes: int


def record_some(folder: Path, which: str = "tag:basics") -> None:
    """One live episode of each of those scenarios of the library."""
    from chaosgym.recording.pool import Pool
    from chaosgym.recording.record import plan_tasks, record
    from chaosgym.scenarios import find_scenarios, load_app

    scenarios = find_scenarios(which)
    apps = {s.spec.app: load_app(s.spec.app) for s in scenarios}
    with Pool(2) as pool:
        record(plan_tasks(scenarios, apps, len(scenarios), seed=1, split=None), pool, folder, lambda task, outcome: None)


def rates(env: RootCauseEnv, seconds: float) -> list[float]:
    """Reset+step a second, several rounds, after everything has been compiled once."""
    warm = {env.reset(seed=i)[0] for i in range(2000)}
    assert warm
    return [_rate(env, seconds / _ROUNDS) for _ in range(_ROUNDS)]


def _rate(env: RootCauseEnv, seconds: float) -> float:
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(100):
            env.reset()
            env.step(_ANSWER)
        count += 100
    return count / (time.perf_counter() - begun)


def milliseconds(work: Callable[[Episode], object], episodes: Sequence[Episode]) -> list[float]:
    """Time of `work` on each episode."""
    found: list[float] = []
    for episode in episodes:
        begun = time.perf_counter()
        work(episode)
        found.append((time.perf_counter() - begun) * 1000)
    return found


def measure(folder: Path, seconds: float) -> Result:
    """All figures for the episodes in `folder`."""
    paths = [path for path in list_episodes(folder) if read_episode(path).header.status == "ok"]
    fresh = [read_episode(path) for path in paths]
    read = milliseconds(lambda episode: episode.tables, fresh)
    compile_incident(fresh[0])
    report = milliseconds(compile_incident, fresh)
    readable, compact = (rates(RootCauseEnv(folder, split=None, rendering=rendering), seconds) for rendering in ("readable", "compact"))
    return Result(
        reset_step_per_s=round(statistics.median(readable)),
        reset_step_per_s_min=round(min(readable)),
        reset_step_per_s_compact=round(statistics.median(compact)),
        report_ms_p50=round(statistics.median(report), 2),
        report_ms_p95=round(sorted(report)[int(0.95 * (len(report) - 1))], 2),
        read_ms_p50=round(statistics.median(read), 2),
        episodes=len(paths),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.episodes is None:
            record_some(Path(folder))
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
        result = asdict(measure(args.episodes or Path(folder), args.seconds))
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:26s} {value}")


if __name__ == "__main__":
    main()
