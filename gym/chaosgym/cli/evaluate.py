"""`chaosgym eval` and `chaosgym compare`: how good, with intervals, and better than what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, talk

__all__ = ["COMPARE_EXAMPLE", "EVAL_EXAMPLE", "compare", "evaluate"]

EVAL_EXAMPLE = "Example: chaosgym eval rules --episodes episodes --out runs/eval/rules"
COMPARE_EXAMPLE = "Example: chaosgym compare runs/eval/sft runs/eval/grpo"


def evaluate(
    agent: Annotated[str, typer.Argument(help="rules, a shortcut (as grep), null, random or slm:MODEL (a folder or a hub id).")],
    episodes: Annotated[Path, typer.Option(help="A folder of recorded episodes.")],
    out: Annotated[Path | None, typer.Option(help="Write result.json, episodes.jsonl, report.md and report.html into this folder.")] = None,
    train: Annotated[Path | None, typer.Option(help="Episodes that the rail `majority` learns from; by default those judged.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws handles, the order of rows and what random agents say.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Incidents that a model answers at a time.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an agent on recorded episodes, with the oracle, rules, majority, null and one-line shortcuts beside it."""
    from chaosgym.agents import make_agent
    from chaosgym.episode import list_episodes
    from chaosgym.evaluation import evaluate as evaluate_agent

    judged, fitted = list_episodes(episodes), list_episodes(train) if train is not None else ()
    result = evaluate_agent(make_agent(agent, seed=seed), judged, seed=seed, train=fitted, batch_size=batch_size)
    if out is not None:
        result.write(out)
        talk(f"wrote result.json, episodes.jsonl, report.md and report.html into {out}")
    if as_json:
        print_json(result.to_json())
    else:
        print(result.to_markdown())


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A result of `chaosgym eval --out`: the folder or its result.json.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one, on the same episodes.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two evaluations pair by pair: the difference B minus A, its interval and whether it may be luck."""
    from chaosgym.evaluation import compare as compare_results
    from chaosgym.evaluation import read_result

    comparison = compare_results(read_result(a), read_result(b))
    if as_json:
        print_json(comparison.to_json())
    else:
        print(comparison.to_markdown())
