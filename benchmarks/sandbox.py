"""Speed and cost of live episodes on the local sandbox: cold start, warm reset, episodes a minute, CPU and memory.

    python benchmarks/sandbox.py [--workers 4] [--episodes 60] [--json]

Medians over the basic scenarios of the library with their default timeline; `cpu_s_per_episode` is everything the
workers and their children spent, user and system; `memory_mb` is the proportional set size (PSS) of the
largest worker with its datastores and services while it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from chaosgym.recording.pool import Pool, Worker
from chaosgym.recording.record import Summary, Task, plan_tasks, record
from chaosgym.scenarios import find_scenarios, load_app

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Result:
    warm_reset_s_p50: float
    warm_reset_s_p95: float
    cold_start_s_p50: float
    episodes_per_minute: float
    cpu_s_per_episode: float
    memory_mb: float
    unscorable: int
    invisible: int
    retried: int
    """Runs thrown away because the machine was too busy for a steady baseline; their CPU and time are counted."""
    episodes: int
    workers: int


def descendants(pid: int) -> list[int]:
    """`pid` and all below it, from /proc."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += [int(c) for c in Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
        except OSError:
            continue
    return found


def pss_mb(pid: int) -> float:
    """Proportional set size of a process tree in MB (10^6 bytes)."""
    total = 0
    for each in descendants(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def tree_cpu(pid: int) -> float:
    """CPU seconds of a tree with its ended children."""
    total = 0
    for each in descendants(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(f) for f in fields[11:15])
    return total / _TICK


def cold_starts(times: int) -> list[float]:
    """Seconds from nothing to a booted worker."""
    found: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        worker = Worker()
        worker.wait_ready()
        found.append(time.perf_counter() - begun)
        worker.stop()
    return found


def warm_resets(tasks: list[Task], times: int) -> list[float]:
    """Seconds from the claim of a warm sandbox to an application that serves."""
    found: list[float] = []
    with Pool(1) as pool, tempfile.TemporaryDirectory() as out:
        for task in tasks[:times]:
            marks: dict[str, float] = {}

            def mark(phase: str, detail: str, marks: dict[str, float] = marks) -> None:
                marks.setdefault(phase, time.perf_counter())

            pool.record(task.scenario, task.app, task.seed, Path(out), mark)
            if "serving" in marks:
                found.append(marks["serving"] - marks["start"])
    return found


def throughput(tasks: list[Task], workers: int) -> tuple[float, float, float, Summary]:
    """(seconds, CPU seconds, largest PSS in MB, summary) of recording `tasks`."""
    with Pool(workers) as pool, tempfile.TemporaryDirectory() as out:
        pids = [w.process.pid for w in pool.workers]
        largest = [0.0]
        done = threading.Event()

        def look() -> None:
            while not done.wait(1.0):
                largest[0] = max(largest[0], *(pss_mb(pid) for pid in pids))

        threading.Thread(target=look, daemon=True).start()
        cpu, begun = sum(map(tree_cpu, pids)), time.perf_counter()
        summary = record(tasks, pool, Path(out), lambda task, outcome: None)
        seconds, spent = time.perf_counter() - begun, sum(map(tree_cpu, pids)) - cpu
        done.set()
    return seconds, spent, largest[0], summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--scenarios", default="tag:basics")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    scenarios = find_scenarios(args.scenarios)
    apps = {s.spec.app: load_app(s.spec.app) for s in scenarios}
    tasks = plan_tasks(scenarios, apps, args.episodes, seed=1, split=None)
    cold = cold_starts(3)
    resets = warm_resets(tasks, 10)
    seconds, cpu, memory, summary = throughput(tasks, args.workers)
    result = Result(
        round(statistics.median(resets), 3), round(statistics.quantiles(resets, n=20)[-1], 3), round(statistics.median(cold), 3),
        round(60 * len(tasks) / seconds, 1), round(cpu / len(tasks), 3), round(memory, 1), summary.unscorable, summary.invisible,
        summary.retried, len(tasks), args.workers,
    )
    if args.json:
        print(json.dumps(result.__dict__))
        return
    for name, value in result.__dict__.items():
        print(f"{name:22s} {value}")


if __name__ == "__main__":
    main()
