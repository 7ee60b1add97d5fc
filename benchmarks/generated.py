"""What a generated application costs on the local sandbox, by its size: reset, memory, CPU and latency.

    python benchmarks/generated.py [--components 8 20 40] [--seeds 3] [--workers 1] [--json]

Every seed and size is one healthy episode at 20 requests a second. `reset_s` is from the claim of a warm sandbox until
every process listens, `memory_mb` the proportional set size (PSS) of the worker with its datastores and services,
`p95_ms` and `failed` what users saw. With several workers they run side by side, begun one after another as
`chaosgym record` does, and the figures are of the worst; why an episode is unscorable is told on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sandbox import pss_mb, tree_cpu  # benchmarks/sandbox.py

from chaosgym.app import App
from chaosgym.episode import read_episode
from chaosgym.recording.pool import Pool
from chaosgym.recording.record import STAGGER
from chaosgym.scenario import Scenario
from chaosgym.scenarios import load_app, load_scenario

_EDGE = "edge"


@dataclass(frozen=True)
class Result:
    app: str
    components: int
    processes: int
    reset_s: float
    memory_mb: float
    cpu_s_per_episode: float
    p95_ms: float
    failed: float
    """Share of requests."""
    spans_per_request: float
    unscorable: int
    """Of all the episodes of this application."""


@dataclass(frozen=True)
class _Run:
    reset_s: float
    p95_ms: float
    failed: float
    spans_per_request: float
    status: str


def run(pool: Pool, app: App, seed: int, out: Path, wait_s: float) -> _Run:
    """One healthy episode."""
    marks: dict[str, float] = {}
    time.sleep(wait_s)

    def mark(phase: str, detail: str) -> None:
        marks.setdefault(phase, time.perf_counter())

    recorded = pool.record(_healthy(app), app, seed, out, mark)
    reset = marks["serving"] - marks["start"] if "serving" in marks else float("nan")
    if recorded.status != "ok":
        print(f"{app.metadata.name}: {recorded.reason}", file=sys.stderr)
        return _Run(reset, float("nan"), float("nan"), float("nan"), recorded.reason)
    columns = ["service_name", "start_time_unix_nano", "end_time_unix_nano", "error_type"]
    spans = read_episode(recorded.path).tables["spans"].select(columns).to_pylist()
    users = [span for span in spans if span["service_name"] == _EDGE]
    seconds = [(span["end_time_unix_nano"] - span["start_time_unix_nano"]) / 1e9 for span in users]
    failed = sum(span["error_type"] is not None for span in users) / len(users)
    return _Run(reset, 1000 * float(np.percentile(seconds, 95)), failed, len(spans) / len(users), "ok")


def _healthy(app: App) -> Scenario:
    scenario = load_scenario("healthy-steady")
    return scenario.model_copy(update={"spec": scenario.spec.model_copy(update={"app": app.metadata.name, "decoys": ()})})


def measure(app: App, workers: int) -> Result:
    """The worst of as many sandboxes side by side, two episodes each."""
    with Pool(workers) as pool, tempfile.TemporaryDirectory() as out, ThreadPoolExecutor(workers) as threads:
        pids = [worker.process.pid for worker in pool.workers]
        largest, done = [0.0], threading.Event()

        def look() -> None:
            while not done.wait(0.5):
                largest[0] = max(largest[0], *(pss_mb(pid) for pid in pids))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        cpu = sum(map(tree_cpu, pids))
        waits = [STAGGER * number if number < workers else 0.0 for number in range(2 * workers)]
        runs = list(threads.map(lambda seed: run(pool, app, seed, Path(out), waits[seed]), range(len(waits))))
        spent = sum(map(tree_cpu, pids)) - cpu
        done.set()
        watcher.join()
    return _result(app, runs, largest[0], spent / len(runs))


def _result(app: App, runs: Sequence[_Run], memory: float, cpu: float) -> Result:
    components = app.spec.components.values()
    processes = sum(component.replicas for component in components if component.kind not in ("postgres", "redis"))
    return Result(
        app.metadata.name, len(components), processes, round(max(run.reset_s for run in runs), 2), round(memory, 0), round(cpu, 2),
        round(float(np.nanmax([run.p95_ms for run in runs])), 1), round(float(np.nanmax([run.failed for run in runs])), 3),
        round(float(np.nanmean([run.spans_per_request for run in runs])), 1), sum(run.status != "ok" for run in runs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, nargs="+", default=[8, 20, 40])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--apps", nargs="*", default=[], help="of the library, in place of generated ones")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = args.apps or [f"generated-{seed}-{size}" for size in args.components for seed in range(args.seeds)]
    results = [asdict(measure(load_app(name), args.workers)) for name in names]
    if args.json:
        print(json.dumps(results))
        return
    print("  ".join(results[0]))
    for result in results:
        print("  ".join(str(value).ljust(len(name)) for name, value in result.items()))


if __name__ == "__main__":
    main()
