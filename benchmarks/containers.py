"""Speed and cost of live episodes in containers: cold start, claim, warm reset, episodes a minute, memory.

    python benchmarks/containers.py --sandbox docker [--workers 2] [--episodes 20] [--json]
    python benchmarks/containers.py --sandbox kubernetes --context NAME --namespace PREFIX

It needs an engine that answers, so `make bench` leaves it out. `cold_start_s` is from nothing to a sandbox of warm
containers, the image being loaded already; `warm_claim_s` from asking the pool for a sandbox to having it; `reset_s` from
there to an application that serves. `memory_mb` is what the containers of one sandbox use together while they run, by
their cgroups and without the page cache that the kernel would give back (the working set), the most seen;
`runner_memory_mb` is the proportional set size of its worker outside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox import pss_mb  # benchmarks/sandbox.py

from chaosgym.errors import ChaosgymError
from chaosgym.recording.pool import Pool, Worker
from chaosgym.recording.record import Summary, Task, plan_tasks, record
from chaosgym.sandbox.choice import SandboxChoice, read_choice
from chaosgym.sandbox.engine import RUN_LABEL
from chaosgym.scenarios import find_scenarios, load_app, runs_on

_LOOK_EVERY = 2.0


@dataclass(frozen=True)
class Result:
    sandbox: str
    cold_start_s_p50: float
    warm_claim_s_p50: float
    reset_s_p50: float
    reset_s_p95: float
    episodes_per_minute: float
    containers: int
    """Of one sandbox."""
    memory_mb: float
    """Of those of one sandbox."""
    runner_memory_mb: float
    """Of one worker."""
    unscorable: int
    invisible: int
    retried: int
    episodes: int
    workers: int


@dataclass(frozen=True)
class Usage:
    """The containers of one sandbox."""

    containers: int = 0
    memory_mb: float = 0.0


class DockerMeter:
    """Reads memory through the engine."""

    def __init__(self) -> None:
        from chaosgym.sandbox.docker import connect

        self._client = connect()

    def usage(self, run: str) -> Usage:
        """Of everything that carries the label of a run."""
        found = self._client.containers.list(filters={"label": f"{RUN_LABEL}={run}"}, ignore_removed=True)
        return Usage(len(found), sum(_working_set(each.stats(stream=False, one_shot=True)) for each in found) / 1e6)


def _working_set(stats: Any) -> int:
    """As `docker stats` counts: without inactive pages of files."""
    memory = stats.get("memory_stats", {})
    more = memory.get("stats", {})
    return max(0, memory.get("usage", 0) - more.get("total_inactive_file", more.get("inactive_file", 0)))


class KubernetesMeter:
    """Reads memory from the kubelet of every node."""

    def __init__(self, context: str) -> None:
        from kubernetes import client

        from chaosgym.sandbox.kubernetes_api import make_client

        self._core: Any = client.CoreV1Api(make_client(context))

    def usage(self, run: str) -> Usage:
        """Of every pod in the namespaces that carry the label of a run."""
        found: Any = self._core.list_namespace(label_selector=f"{RUN_LABEL}={run}")
        namespaces = {each.metadata.name for each in found.items}
        pods = [pod for node in self._nodes() for pod in self._summary(node) if pod["podRef"]["namespace"] in namespaces]
        return Usage(len(pods), sum(pod.get("memory", {}).get("workingSetBytes", 0) for pod in pods) / 1e6)

    def _nodes(self) -> list[str]:
        nodes: Any = self._core.list_node()
        return [node.metadata.name for node in nodes.items]

    def _summary(self, node: str) -> list[Any]:
        answer = self._core.connect_get_node_proxy_with_path(node, "stats/summary", _preload_content=False)
        return json.loads(answer.data)["pods"]


def cold_starts(choice: SandboxChoice, times: int) -> list[float]:
    """Seconds from nothing to a booted worker; one more comes first, which may have to load the image."""
    found: list[float] = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        worker = Worker(choice)
        try:
            worker.wait_ready()
            found.append(time.perf_counter() - begun)
        finally:
            worker.stop()
    return found[1:]


def resets(choice: SandboxChoice, tasks: list[Task]) -> tuple[list[float], list[float]]:
    """(seconds of claims, seconds from the claim of a warm sandbox to an application that serves)."""
    claims: list[float] = []
    found: list[float] = []
    with Pool(1, choice) as pool, tempfile.TemporaryDirectory() as out:
        for task in tasks:
            marks: dict[str, float] = {}

            def mark(phase: str, detail: str, marks: dict[str, float] = marks) -> None:
                marks.setdefault(phase, time.perf_counter())

            begun = time.perf_counter()
            with pool.claim():
                claims.append(time.perf_counter() - begun)
            pool.record(task.scenario, task.app, task.seed, Path(out), mark)
            if "serving" in marks:
                found.append(marks["serving"] - marks["start"])
    return claims, found


def throughput(choice: SandboxChoice, tasks: list[Task], workers: int) -> tuple[float, Usage, float, Summary]:
    """(seconds, the largest sandbox's containers, the largest worker in MB, summary) of recording `tasks`."""
    meter = DockerMeter() if choice.name == "docker" else KubernetesMeter(choice.context)
    with Pool(workers, choice) as pool, tempfile.TemporaryDirectory() as out:
        largest, runners = [Usage()], [0.0]
        done = threading.Event()

        def look() -> None:
            while not done.wait(_LOOK_EVERY):
                for worker in pool.workers:
                    try:
                        seen = meter.usage(_run_of(worker))
                    except Exception as error:  # noqa: BLE001 - a figure less is told, and the rest goes on
                        print(f"memory: {type(error).__name__}: {error}", file=sys.stderr)
                        continue
                    largest[0] = max(largest[0], seen, key=lambda usage: usage.memory_mb)
                    runners[0] = max(runners[0], pss_mb(worker.process.pid))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        begun = time.perf_counter()
        summary = record(tasks, pool, Path(out), lambda task, outcome: None)
        seconds = time.perf_counter() - begun
        done.set()
        watcher.join(30)
    return seconds, largest[0], runners[0], summary


def _run_of(worker: Worker) -> str:
    """What its containers are labelled with: the last argument of its process."""
    arguments: Any = worker.process.args
    return str(arguments[-1])


def measure(choice: SandboxChoice, episodes: int, workers: int, pattern: str) -> Result:
    scenarios = [scenario for scenario in find_scenarios(pattern) if choice.name in runs_on(scenario)]
    tasks = plan_tasks(scenarios, {s.spec.app: load_app(s.spec.app) for s in scenarios}, episodes, seed=1, split=None)
    cold = cold_starts(choice, 3)
    claims, found = resets(choice, tasks[:10])
    seconds, usage, runner, summary = throughput(choice, tasks, workers)
    if len(found) < 2:
        sys.exit("error: no application came up; `chaosgym run process-crash` with the same options says why")
    return Result(
        choice.name, round(statistics.median(cold), 3), round(statistics.median(claims), 6), round(statistics.median(found), 3),
        round(statistics.quantiles(found, n=20, method="inclusive")[-1], 3), round(60 * len(tasks) / seconds, 1), usage.containers,
        round(usage.memory_mb, 1), round(runner, 1), summary.unscorable, summary.invisible, summary.retried, len(tasks), workers,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sandbox", choices=("docker", "kubernetes"), required=True)
    parser.add_argument("--context")
    parser.add_argument("--namespace")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--scenarios", default="tag:basics")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        choice = read_choice(args.sandbox, context=args.context, namespace=args.namespace)
        result = measure(choice, args.episodes, args.workers, args.scenarios)
    except ChaosgymError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if args.json:
        print(json.dumps(asdict(result)))
        return
    for name, value in asdict(result).items():
        print(f"{name:22s} {value}")


if __name__ == "__main__":
    main()
