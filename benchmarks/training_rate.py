"""How fast a nano model is trained on this machine, and how much of that the environment takes.

    python benchmarks/training_rate.py [--episodes DIR] [--steps 3] [--turns 1] [--json]

What `chaosgym train` runs takes some steps, in turns with products of float32 matrices on as many threads. `share` is the
rate of its model FLOPs over theirs, in seconds of the processors, which a busy machine disturbs less, and `tokens_per_s` by
the clock; both are medians. Model FLOPs are 6 per parameter and token, where those of the vocabulary count only in
pretraining, which learns every token, and 6 per layer, width and token that a token sees. `padding` is the share of tokens
that only fill batches up, `environment_share` that of the steps of GRPO in which incidents are drawn, rendered and scored.
`pretrain_5m` is `size: nano`. Without `--episodes` two live ones are recorded first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replay import record_some  # benchmarks/replay.py

from chaosgym.errors import InputError
from chaosgym.training.config import GrpoConfig, PretrainConfig, SftConfig
from chaosgym.training.run import Run, open_run
from chaosgym.training.tasks import Source, read_sources

_PRODUCT = 1536
_STAGES = ("pretrain", "pretrain_5m", "sft")


@dataclass(frozen=True)
class Watched(Run):
    """A run that remembers when each line of metrics.jsonl came: by the clock, of the processors, tokens so far."""

    seen: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])

    def log(self, record: dict[str, Any]) -> None:
        """As in Run."""
        super().log(record)
        if "loss" in record:
            self.seen.append((time.perf_counter(), time.process_time(), record.get("num_tokens", 0.0)))

    def steps(self) -> list[tuple[float, float, float]]:
        """The same of each step but the first."""
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return [(after[0] - before[0], after[1] - before[1], after[2] - before[2]) for before, after in pairs]


def product_rate(seconds: float = 1.0) -> float:
    """FLOP of float32 matrix products per second of a processor, times the processors that took part."""
    import torch

    a, b = torch.randn(_PRODUCT, _PRODUCT), torch.randn(_PRODUCT, _PRODUCT)
    torch.mm(a, b)
    count, begun, worked = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        torch.mm(a, b)
        count += 1
    return 2 * _PRODUCT**3 * count / (time.process_time() - worked)


def flops(model: Path, tokens: float, length: float, everywhere: bool) -> float:
    """Of the model, forward and backward, for so many tokens in sequences of such a length."""
    from safetensors import safe_open

    shape = json.loads((model / "config.json").read_text(encoding="utf-8"))
    with safe_open(model / "model.safetensors", "pt") as file:
        sizes = {name: _count(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    parameters = sum(size for name, size in sizes.items() if everywhere or "embed" not in name)
    return tokens * (6 * parameters + 6 * shape["num_hidden_layers"] * shape["hidden_size"] * length)


def _count(shape: Sequence[int]) -> int:
    return shape[0] * (_count(shape[1:]) if len(shape) > 1 else 1)


def train(stage: str, sources: Sequence[Source], common: dict[str, Any]) -> tuple[Watched, dict[str, Any]]:
    """One run of a stage, and its summary."""
    from chaosgym.training.pretrain import make_pretrained
    from chaosgym.training.sft import make_tuned

    if stage == "sft":
        config = SftConfig(**common, validation=0)
        return (run := _watched(config)), make_tuned(config, run, sources)
    config = PretrainConfig(**common, size="nano" if stage == "pretrain_5m" else None)
    return (run := _watched(config)), make_pretrained(config, run, sources)


def _watched(config: Any) -> Watched:
    run = open_run(config, "benchmark", resume=False)
    return Watched(run.path, run.command)


def environment_share(sources: Sequence[Source], common: dict[str, Any], model: Path) -> float:
    """Share of the seconds of GRPO's steps that incidents take."""
    from chaosgym.training import grpo
    from chaosgym.training.asking import AskingGRPOTrainer
    from chaosgym.training.reinforcement import reinforce
    from chaosgym.training.reward import Judge

    spent: list[tuple[float, float]] = []

    def clocked(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent.append((time.perf_counter(), time.process_time() - begun))

        return call

    for owner, name in ((AskingGRPOTrainer, "_draw"), (AskingGRPOTrainer, "_learn"), (Judge, "__call__")):
        setattr(owner, name, clocked(getattr(owner, name)))
    config = GrpoConfig(**common, model=str(model), validation=0, pool=0, oversample=0)
    run = _watched(config)
    reinforce(config, run, sources, grpo.method(config))
    inside = sum(seconds for at, seconds in spent if run.seen[0][0] < at < run.seen[-1][0])
    return inside / sum(worked for _, worked, _ in run.steps())


def measure(episodes: Path, steps: int, turns: int, place: Path) -> dict[str, float]:
    """All figures."""
    sources = read_sources([episodes])
    rates: dict[str, list[float]] = {stage: [] for stage in _STAGES}
    shares: dict[str, list[float]] = {stage: [] for stage in _STAGES}
    padding: dict[str, float] = {}
    products, model = [product_rate()], Path()
    for turn in range(turns):
        for stage in _STAGES:
            common: dict[str, Any] = {"episodes": (episodes,), "out": place / f"{stage}{turn}", "steps": 1 + steps, "log_every": 1}
            run, summary = train(stage, sources, common)
            products.append(product_rate())
            beside = statistics.mean(products[-2:])
            batch = PretrainConfig.model_fields["batch_size"].default
            for clock, worked, tokens in run.steps():
                rates[stage].append(tokens / clock)
                shares[stage].append(flops(run.model, tokens, tokens / batch, stage != "sft") / worked / beside)
            padding[stage], model = summary["padding"], run.model
    common = {"episodes": (episodes,), "out": place / "grpo", "steps": 1 + steps, "log_every": 1}
    figures = {"product_gflops_per_core": round(statistics.median(products) / 1e9, 1)}
    for stage in _STAGES:
        figures |= {
            f"{stage}_tokens_per_s": round(statistics.median(rates[stage])),
            f"{stage}_share": round(statistics.median(shares[stage]), 3),
            f"{stage}_share_min": round(min(shares[stage]), 3),
            f"{stage}_share_max": round(max(shares[stage]), 3),
            f"{stage}_padding": padding[stage],
        }
    return figures | {"environment_share": round(environment_share(sources, common, model), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=Path)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        episodes = args.episodes or Path(folder) / "episodes"
        try:
            if args.episodes is None:
                record_some(episodes, "process-crash,healthy-steady")
            figures = measure(episodes, args.steps, args.turns, Path(folder))
        except InputError as error:
            sys.exit(f"error: {error}")
    if args.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:26s} {value}")


if __name__ == "__main__":
    main()
