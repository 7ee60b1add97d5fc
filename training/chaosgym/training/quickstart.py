"""`chaosgym quickstart`: the whole line on this machine, from broken services to a model that got better.

    record train ──> sft ──┬──> grpo ──┐
    record seeds ─ evaluate┴─ evaluate ┴─> compare ──> summary.json, report.html

Live episodes and what is learnt from them are made here and now; the model starts as the shipped base, which reads reports and
has never seen a diagnosis (from nothing the same minutes teach less). Recording and training are bounded by time, so that a
slow machine learns less instead of taking longer. Run it again after an interruption and it goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosgym.agents.slm import SlmAgent
from chaosgym.episode import list_episodes
from chaosgym.errors import InputError
from chaosgym.evaluation import Comparison, EvaluationResult, compare, evaluate, read_curve, write_page
from chaosgym.evaluation.lineup import line_up
from chaosgym.evaluation.tables import headline_table
from chaosgym.recording.pool import Pool, Recorded
from chaosgym.recording.record import Summary, Task, plan_tasks, record
from chaosgym.scenarios import find_scenarios, load_app
from chaosgym.training.config import GrpoConfig, SftConfig
from chaosgym.training.grpo import grpo
from chaosgym.training.sft import sft

__all__ = ["FULL", "Quickstart", "Recipe", "quickstart"]

SCHEMA_VERSION = 1

Told = Callable[[Task, Recorded], None]
Bar = Callable[[int], AbstractContextManager[Told]]
"""Makes a progress bar for so many episodes; what it yields is called after each."""


@dataclass(frozen=True)
class Recipe:
    """How much of everything."""

    scenarios: str = "tag:basics"
    """The 14 that a small model learns within minutes; the library has many more."""
    workers: int = 5
    train_episodes: int = 196
    """Of the split `train`: 14 of each scenario."""
    seeds_episodes: int = 112
    """Unseen seeds: 8 of each scenario."""
    record_minutes: float = 5.0
    """For both; a machine that needs longer gets fewer episodes."""
    base: str = "chaosgym/nano"
    """The model to start from."""
    sft_minutes: float = 3.0
    """At most, for 30 steps: by then answers are well formed and often right, and there is still something left to try."""
    tuning_minutes: float = 6.0
    """For SFT and GRPO together, GRPO at least a third: reinforcement sharpens what is there, it cannot teach to answer."""


FULL = Recipe()


@dataclass(frozen=True)
class Quickstart:
    """What came of it."""

    summary: dict[str, Any]
    table: str
    """Markdown: the models and the rails."""
    sentence: str
    """What RL changed, in words."""
    page: Path


def quickstart(out: Path, say: Callable[[str], None], bar: Bar, *, seed: int = 0, recipe: Recipe = FULL) -> Quickstart:
    """Run all of it under `out`; `say` is told of each stage.

    Raises InputError when `out` was begun with another seed or recipe, and whatever the stages raise.
    """
    began = time.monotonic()
    before = _open(out, seed, recipe)
    train, seeds = record_episodes(out / "episodes", say, bar, seed, recipe)
    models = _train(out, say, seed, recipe)
    say("evaluating the models on episodes with unseen seeds")
    results = [_evaluate(model, name, out, seed) for name, model in models.items()]
    found = compare(results[-2], results[-1], seed=seed)
    seconds = round(before + time.monotonic() - began, 1)
    summary = _summary(results, found, train, seeds, seconds, seed)
    _write(out / "summary.json", summary)
    page = _page(out, results, found, summary)
    table = headline_table(line_up(results).everyone).to_markdown()
    return Quickstart(summary, table, found.sentence, page)


def _open(out: Path, seed: int, recipe: Recipe) -> float:
    """Note what is being made; return the seconds that an interrupted run of the same spent."""
    wanted = {"seed": seed, **recipe.__dict__}
    plan = out / "quickstart.json"
    if plan.is_file():
        begun = json.loads(plan.read_text(encoding="utf-8"))
        if begun["recipe"] != wanted:
            raise InputError(f"{out}: holds a quickstart with {begun['recipe']}, not {wanted}; name another --out or remove it")
        if (out / "summary.json").is_file():
            return float(json.loads((out / "summary.json").read_text(encoding="utf-8"))["seconds"])
        return max(0.0, time.time() - begun["began_unix"])
    out.mkdir(parents=True, exist_ok=True)
    _write(plan, {"recipe": wanted, "began_unix": time.time()})
    return 0.0


def record_episodes(episodes: Path, say: Callable[[str], None], bar: Bar, seed: int, recipe: Recipe) -> tuple[Summary, Summary]:
    """Record both splits under `episodes`, or read what is there once that has ended, in time or by time."""
    scenarios = find_scenarios(recipe.scenarios)
    apps = {name: load_app(name) for name in {s.spec.app for s in scenarios}}
    train = plan_tasks(scenarios, apps, recipe.train_episodes, seed * 10_000, "train")
    seeds = plan_tasks(scenarios, apps, recipe.seeds_episodes, seed * 10_000, "seeds")
    say(f"recording {len(train) + len(seeds)} live episodes of {len(scenarios)} scenarios, {recipe.workers} sandboxes side by side")
    ended = episodes / "ended"  # a stage that has begun on these episodes must find the same when it goes on
    share = 0.0 if ended.is_file() else recipe.record_minutes / (len(train) + len(seeds))
    with Pool(recipe.workers) as pool, bar(len(train) + len(seeds)) as on_done:
        first = record(train, pool, episodes / "train", on_done, share * len(train))
        second = record(seeds, pool, episodes / "seeds", on_done, share * len(seeds))
    ended.touch()
    return first, second


def _train(out: Path, say: Callable[[str], None], seed: int, recipe: Recipe) -> dict[str, Path]:
    """The models to compare, by name, in the order in which they were made."""
    episodes = (out / "episodes" / "train",)
    say(f"supervised fine-tuning of {recipe.base}, at most {recipe.sft_minutes:g} minutes")
    first = SftConfig(model=recipe.base, episodes=episodes, out=out / "sft", seed=seed, minutes=recipe.sft_minutes, steps=30)
    tuned = sft(first, resume=_begun(first.out))
    left = round(max(recipe.tuning_minutes - tuned["seconds"] / 60, recipe.tuning_minutes / 3), 1)
    say(f"reinforcement learning on the reward (GRPO), {left:g} minutes")
    second = GrpoConfig(
        model=tuned["model"], episodes=episodes, out=out / "grpo", seed=seed, minutes=left, steps=400, batch_size=256, learning_rate=3e-4,
    )
    reinforced = grpo(second, resume=_begun(second.out))
    return {"base": Path(first.model), "sft": Path(tuned["model"]), "grpo": Path(reinforced["model"])}


def _begun(run: Path) -> bool:
    return (run / "config.json").is_file()


def _evaluate(model: Path, name: str, out: Path, seed: int) -> EvaluationResult:
    episodes, train = list_episodes(out / "episodes" / "seeds"), list_episodes(out / "episodes" / "train")
    result = evaluate(SlmAgent(str(model)), episodes, seed=seed, train=train).named(name)
    result.write(out / f"eval-{name}")
    return result


def _summary(
    results: list[EvaluationResult], found: Comparison, train: Summary, seeds: Summary, seconds: float, seed: int
) -> dict[str, Any]:
    """What machines read; `accuracy` is component and fault both right at rank 1, or healthy rightly called so."""
    after = results[-1].to_json()["agents"]
    change = found.accuracy
    return {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "seconds": seconds,
        "episodes": {
            "recorded": train.recorded + seeds.recorded,
            "unscorable": train.unscorable + seeds.unscorable,
            "invisible": train.invisible + seeds.invisible,
            "retried": train.retried + seeds.retried,
            "evaluated": found.episodes,
        },
        "accuracy": {
            **{rail: after[rail]["accuracy"]["value"] for rail in ("oracle", "rules", "majority", "null")},
            "base": results[0].to_json()["agents"]["base"]["accuracy"]["value"],
            "sft": change.a,
            "grpo": change.b,
            "difference": change.difference,
            "ci95": list(change.interval) if change.interval else None,
            "p": change.p,
        },
    }


def _page(out: Path, results: list[EvaluationResult], found: Comparison, summary: dict[str, Any]) -> Path:
    episodes = summary["episodes"]
    facts = {
        "whole run": f"{summary['seconds'] / 60:.1f} min",
        "live episodes recorded": str(episodes["recorded"]),
        "unscorable": str(episodes["unscorable"]),
        "invisible": str(episodes["invisible"]),
    }
    curves = [read_curve(out / stage, stage) for stage in ("sft", "grpo")]
    return write_page(out / "report.html", results, found, curves, title="chaosgym quickstart", facts=facts)


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
