"""Every figure of docs/results.md: what each stage of training adds, over several seeds.

    python benchmarks/results.py [--out runs/results] [--seeds 3] [--jobs 2] [--backend docker] [--only STEP,...] [--tables]

    record ──> base ──┬──> sft ──┬──> +sft (as much again: the control)
                      │          ├──> +distill (the rules agent teaches)
                      │          ├──> +grpo, twice as long, without curriculum, with a sparse reward
                      │          └──> +ppo, twice as long
                      └──> sft without randomised names
    each ──> calibrate ──> eval on held-out ──> docs/results.json, docs/results.md

    record basics ──> sft ──> investigate (SFT on a careful engineer's questions) ──> +grpo, +ppo ──> eval

Every step is a command of chaosgym with a configuration under OUT/configs, each in a process of its own with an equal share of
the cores, and its log under OUT/logs. Run it again and it goes on where it was. `--tables` only writes the tables of what is there.
The base and the recordings are made once; a seed draws what is asked in which order, handles, and answers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from results_tables import write_tables

HEALTHY = "healthy-steady,healthy-ledger,healthy-media"
TRAIN, HELD_OUT = "episodes/train", "episodes/held-out"
RECORDINGS: dict[str, list[str]] = {
    "record-train": ["--scenarios", "split:train", "--episodes", "870", "--out", TRAIN],
    "record-train-healthy": ["--scenarios", HEALTHY, "--seed", "5000", "--episodes", "96", "--out", TRAIN],
    "record-apps": ["--scenarios", "split:apps", "--episodes", "180", "--out", HELD_OUT],
    "record-seeds": ["--scenarios", "split:train", "--split", "seeds", "--episodes", "174", "--out", HELD_OUT],
    "record-seeds-healthy": ["--scenarios", HEALTHY, "--split", "seeds", "--seed", "5000", "--episodes", "24", "--out", HELD_OUT],
    "record-faults": ["--scenarios", "split:faults", "--episodes", "120", "--out", HELD_OUT],
}
BACKEND = ["--scenarios", "split:train", "--split", "backend", "--seed", "7000", "--episodes", "87", "--workers", "2", "--out", HELD_OUT]
CORPUS = {"sources": [{"kind": "episodes", "path": TRAIN}], "out": "corpus"}
BASE = {"episodes": [TRAIN], "steps": 300, "corpus": "corpus", "mix": {"reports": 0.8, "corpus": 0.1, "skills": 0.1}}
SFT = {"episodes": [TRAIN], "steps": 60}
REINFORCED = {"episodes": [TRAIN], "batch_size": 256, "learning_rate": 3e-4, "steps": 60, "validate_every": 20}
STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft+sft": ("sft", {"episodes": [TRAIN], "steps": 120}),
    "sft+distill": ("distill", {"episodes": [TRAIN], "steps": 120, "teacher": "rules", "answers": 1}),
    "sft+grpo": ("grpo", REINFORCED),
    "sft+ppo": ("ppo", {**REINFORCED, "steps": 120, "validate_every": 40}),  # two updates a batch
}
"""What follows SFT, each from the same model, in the order in which it is run: (command, configuration)."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft+grpo-longer": ("grpo", {**REINFORCED, "steps": 120}),
    "sft+ppo-longer": ("ppo", {**REINFORCED, "steps": 240, "validate_every": 40}),
    "sft+grpo-evenly": ("grpo", {**REINFORCED, "evenly": 1.0, "oversample": 0.0}),
    "sft+grpo-sparse": ("grpo", {**REINFORCED, "reward": "sparse"}),
}
"""Likewise, once all seeds have gone through those."""
NAMED = "sft-named"
"""As `sft`, where a component goes by the same name in all reports."""
BESIDE = {"sft": None, **dict.fromkeys(STAGES, "sft"), "sft+grpo-longer": "sft", "sft+ppo-longer": "sft", NAMED: "sft",
          "sft+grpo-evenly": "sft+grpo", "sft+grpo-sparse": "sft+grpo"}  # fmt: skip
"""The rows of the tables, each with the one it is compared with."""
ASKED, ASKED_HELD_OUT = "episodes/basics", "episodes/basics-held-out"
ASKED_RECORDINGS: dict[str, list[str]] = {
    "record-basics": ["--seed", "9000", "--episodes", "210", "--out", ASKED],
    "record-basics-held-out": ["--split", "seeds", "--seed", "9500", "--episodes", "140", "--out", ASKED_HELD_OUT],
}
INVESTIGATE = "investigate"
INVESTIGATING: dict[str, Any] = {"task": "investigate", "episodes": [ASKED]}
INVESTIGATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "investigate+grpo": ("grpo", {**INVESTIGATING, "steps": 40, "learning_rate": 1e-4, "validate_every": 10}),
    "investigate+ppo": ("ppo", {**INVESTIGATING, "steps": 80, "learning_rate": 1e-4, "validate_every": 20}),
}
"""What follows SFT on investigations, from the same model."""


@dataclass(frozen=True)
class Step:
    """One command."""

    name: str
    command: list[str]
    done: Path
    """Exists when it has ended well."""
    needs: tuple[str, ...] = ()
    alone: bool = False
    """Uses all cores by itself."""
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    """Written to configs/NAME.yaml first."""
    program: tuple[str, ...] = ("-m", "chaosgym.cli")
    """What Python runs."""


def plan(out: Path, seeds: int, backend: str | None) -> Iterator[Step]:
    """All steps, in the order in which they are begun where they can be."""
    names = list(RECORDINGS)
    for number, (name, arguments) in enumerate(RECORDINGS.items()):
        command = ["record", *arguments, "--workers", str(2 * (os.cpu_count() or 1))]
        yield Step(name, command, out / f"logs/{name}.done", tuple(names[:number]), alone=True)
    if backend:
        names.append("record-backend")
        command = ["record", *BACKEND, "--sandbox", backend]
        yield Step("record-backend", command, out / "logs/record-backend.done", tuple(names[:-1]), alone=True)
    yield Step("corpus", ["corpus", "build"], out / "corpus/report.json", ("record-train-healthy",), config=CORPUS)
    yield trained(out, "base", "pretrain", BASE, "corpus")
    yield judged(out, "base", names)
    for seed in range(seeds):
        yield trained(out, f"sft-{seed}", "sft", {**SFT, "model": "base/model", "seed": seed}, "base")
        yield from _finished(out, f"sft-{seed}", names)
        yield from _after(out, STAGES, seed, names)
    for seed in range(seeds):
        named = trained(out, f"{NAMED}-{seed}", "sft", {**SFT, "model": "base/model", "seed": seed}, "base")
        yield replace(named, program=(str(Path(__file__).with_name("fixed_names.py").resolve()),))
        yield from _finished(out, named.name, names)
        yield from _after(out, VARIANTS, seed, names)
    yield from _investigations(out, seeds)
    yield trained(out, "rca", "grpo", {**REINFORCED, "model": "sft+sft-0/model"}, "sft+sft-0")  # to be shipped
    yield from _finished(out, "rca", names)


def _investigations(out: Path, seeds: int) -> Iterator[Step]:
    """Many turns, on the scenarios of the quickstart."""
    for name, arguments in ASKED_RECORDINGS.items():
        command = ["record", "--scenarios", "tag:basics", *arguments, "--workers", str(2 * (os.cpu_count() or 1))]
        yield Step(name, command, out / f"logs/{name}.done", alone=True)
    for seed in range(seeds):
        first = f"{INVESTIGATE}-{seed}"
        told = {**INVESTIGATING, "steps": 60, "model": f"sft-{seed}/model", "seed": seed}
        yield replace(trained(out, first, "sft", told, f"sft-{seed}"), needs=(f"sft-{seed}", "record-basics"))
        yield judged(out, first, ["record-basics-held-out"], ASKED_HELD_OUT, ASKED)
        for stage, (kind, config) in INVESTIGATIONS.items():
            yield trained(out, f"{stage}-{seed}", kind, {**config, "model": f"{first}/model", "seed": seed}, first)
            yield judged(out, f"{stage}-{seed}", ["record-basics-held-out"], ASKED_HELD_OUT, ASKED)


def _after(out: Path, stages: Mapping[str, tuple[str, dict[str, Any]]], seed: int, recordings: Sequence[str]) -> Iterator[Step]:
    for stage, (kind, config) in stages.items():
        yield trained(out, f"{stage}-{seed}", kind, {**config, "model": f"sft-{seed}/model", "seed": seed}, f"sft-{seed}")
        yield from _finished(out, f"{stage}-{seed}", recordings)


def _finished(out: Path, name: str, recordings: Sequence[str]) -> Iterator[Step]:
    """What is done with a model: let it state how sure it may be, and judge it."""
    command = ["train", "calibrate", f"{name}/model", "--episodes", TRAIN]
    yield Step(f"calibrate-{name}", command, out / f"logs/calibrate-{name}.done", (name,))
    judge = judged(out, name, recordings)
    yield replace(judge, needs=(f"calibrate-{name}", *judge.needs))


def trained(out: Path, name: str, kind: str, config: dict[str, Any], after: str) -> Step:
    """A command of `chaosgym train`."""
    return Step(name, ["train", kind], out / name / "summary.json", (after,), config={**config, "out": name})


def judged(out: Path, name: str, recordings: Sequence[str], held_out: str = HELD_OUT, train: str = TRAIN) -> Step:
    """All that is held out, in one evaluation."""
    command = ["eval", f"slm:{name}/model", "--episodes", held_out, "--train", train, "--out", f"eval/{name}"]
    return Step(f"eval-{name}", command, out / "eval" / name / "result.json", (name, *recordings))


def run_all(out: Path, steps: Sequence[Step], jobs: int) -> list[str]:
    """Run what is missing, `jobs` at a time; return the names of steps that failed."""
    ended = {step.name for step in steps if step.done.exists()}
    waiting = [step for step in steps if step.name not in ended]
    failed: list[str] = []
    running: dict[Future[int], Step] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [step for step in waiting if set(step.needs) <= ended]
            for step in ready:
                if len(running) >= jobs or any(r.alone for r in running.values()) or (step.alone and running):
                    break
                waiting.remove(step)
                running[pool.submit(run_step, out, step, 1 if step.alone else jobs)] = step
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                (failed.append if future.result() else ended.add)(step.name)
    return failed + [f"{step.name} (not begun)" for step in waiting]


def run_step(out: Path, step: Step, jobs: int) -> int:
    """Run one command in `out`; its exit status."""
    for folder in ("configs", "logs", "eval"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *step.program, *step.command]
    if step.config:
        path = out / "configs" / f"{step.name}.yaml"
        path.write_text(json.dumps(step.config, indent=1) + "\n", encoding="utf-8")  # JSON is YAML
        command += ["--config", f"configs/{path.name}"]
        command += ["--resume"] if (out / step.name / "config.json").is_file() else []
    began = time.monotonic()
    print(f"{step.name}: chaosgym {' '.join(command[1 + len(step.program) :])}", flush=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with (out / "logs" / f"{step.name}.log").open("a", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=out, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": threads}).returncode
    print(f"{step.name}: {'done' if not code else f'failed with {code}'} in {time.monotonic() - began:.0f} s", flush=True)
    if not code and step.done.suffix == ".done":
        step.done.touch()
    return code


def main() -> None:
    """Read the command line, run, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", choices=("docker", "kubernetes"), help="record a split of it too")
    parser.add_argument("--only", default="", help="steps, comma-separated; all when not given")
    parser.add_argument("--tables", action="store_true", help="run nothing")
    args = parser.parse_args()
    root = Path(__file__).parents[1]
    args.out.mkdir(parents=True, exist_ok=True)
    steps = list(plan(args.out, args.seeds, args.backend))
    failed: list[str] = []
    if not args.tables:
        wanted = set(filter(None, args.only.split(",")))
        failed = run_all(args.out, [s for s in steps if not wanted or s.name in wanted or s.done.exists()], args.jobs)
    asking = {INVESTIGATE: None, **dict.fromkeys(INVESTIGATIONS, INVESTIGATE)}
    write_tables(args.out, BESIDE, args.seeds, root / "docs", asking)
    if failed:
        sys.exit(f"error: {', '.join(failed)}; the logs are in {args.out / 'logs'}")


if __name__ == "__main__":
    main()
