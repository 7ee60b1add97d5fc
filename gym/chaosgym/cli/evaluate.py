"""`chaosgym eval` and `chaosgym compare`: how good, with intervals, and better than what."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, talk
from chaosgym.cli.place import PLACE, find_place
from chaosgym.cli.record import record_fresh
from chaosgym.cli.where import ContextOption, NamespaceOption, SandboxOption, choose

__all__ = ["COMPARE_EXAMPLE", "EVAL_EXAMPLE", "compare", "evaluate"]

EVAL_EXAMPLE = "Example: chaosgym eval rules --episodes episodes --out runs/eval/rules"
COMPARE_EXAMPLE = "Example: chaosgym compare runs/eval/sft runs/eval/grpo"


def evaluate(
    agent: Annotated[
        str,
        typer.Argument(help="rules, a shortcut (as grep), null, random, slm (a shipped model), slm:FOLDER or HUB-ID, endpoint:MODEL@URL."),
    ],
    episodes: Annotated[
        Path | None, typer.Option(parser=find_place, metavar=PLACE, help="Where recorded episodes are, as s3://bucket/episodes.")
    ] = None,
    scenarios: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Instead of --episodes: run these scenarios now, on unseen seeds, and judge that.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="With --scenarios: how many episodes, the scenarios in turn.")] = 28,
    workers: Annotated[int, typer.Option(min=1, max=64, help="With --scenarios: sandboxes side by side.")] = 2,
    sandbox: SandboxOption = "local",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    out: Annotated[Path | None, typer.Option(help="Write result.json, episodes.jsonl, report.md and report.html into this folder.")] = None,
    train: Annotated[
        Path | None,
        typer.Option(parser=find_place, metavar=PLACE, help="Episodes that the rail `majority` learns from; by default those judged."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws handles, the order of rows and what random agents say.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Incidents that a model answers at a time.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an agent, with the oracle, rules, majority, null and one-line shortcuts beside it.

    On recorded episodes, or on new ones: those stay under OUT/episodes, and the same command goes on where it stopped.
    """
    from chaosgym.agents import make_agent
    from chaosgym.episode import list_episodes
    from chaosgym.errors import InputError
    from chaosgym.evaluation import evaluate as evaluate_agent
    from chaosgym.scenarios import find_scenarios

    if (episodes is None) == (scenarios is None):
        raise InputError("name what to judge on: --episodes FOLDER for recorded ones, or --scenarios GLOB to run them now")
    judge = make_agent(agent, seed=seed)
    with _place(out) as folder:
        if scenarios is not None:
            choice, found = choose(sandbox, find_scenarios(scenarios), context=context, namespace=namespace)
            record_fresh(folder, scenarios, count, workers, seed, choice, found)
        judged, fitted = list_episodes(episodes or folder), list_episodes(train) if train is not None else ()
        result = evaluate_agent(judge, judged, seed=seed, train=fitted, batch_size=batch_size)
    if out is not None:
        result.write(out)
        talk(f"wrote result.json, episodes.jsonl, report.md and report.html into {out}")
    if as_json:
        print_json(result.to_json())
    else:
        print(result.to_markdown())


@contextmanager
def _place(out: Path | None) -> Generator[Path]:
    """Where new episodes go: below what was asked for, or nowhere for long."""
    if out is not None:
        yield out / "episodes"
        return
    with tempfile.TemporaryDirectory(prefix="chaosgym-eval-") as folder:
        yield Path(folder)


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
