"""`chaosgym sandbox`: where services run, and whether it makes a difference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, talk
from chaosgym.cli.where import ContextOption, NamespaceOption

if TYPE_CHECKING:
    from chaosgym.sandbox.choice import SandboxChoice

__all__ = ["group"]

group = typer.Typer(help="Where services run, and whether it makes a difference.", no_args_is_help=True, rich_markup_mode=None)


@group.callback()
def _keep_a_group() -> None:
    """Where services run, and whether it makes a difference."""


@group.command("compare", epilog="Example: chaosgym sandbox compare tag:basics --sandboxes local,docker --seeds 3")
def compare(
    scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO...", help="Names, globs or tags of scenarios, or YAML files.")],
    sandboxes: Annotated[
        str, typer.Option(metavar="NAME,NAME...", help="Two or more of local, docker, kubernetes; the others are held against the first.")
    ] = "local,docker",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each scenario is run on each; on the first one twice as often.")] = 3,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Sandboxes side by side.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for the episodes, one for each sandbox in it; what is there already is kept.")] = Path(
        "runs/compare"
    ),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the tables into this page, between its markers, or into a new one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare sandboxes: run the same plans on each, and say how far what happened is apart.

    How far two runs of one plan on the first sandbox are apart stands beside it, so that a difference means something.
    Exit 3 when every episode on one of them is unscorable.
    """
    from datetime import UTC, datetime

    from chaosgym.cli.record import recording_bar
    from chaosgym.evaluation.equivalence import plan_exercise, run_exercise
    from chaosgym.evaluation.equivalence_page import equivalence_json, equivalence_markdown, write_between
    from chaosgym.scenarios import find_scenarios, load_app, refuse_impossible

    found = find_scenarios(scenarios)
    apps = {name: load_app(name) for name in {scenario.spec.app for scenario in found}}
    for scenario in found:
        refuse_impossible(scenario, apps[scenario.spec.app])
    exercise = plan_exercise(found, apps, _choices(sandboxes, context, namespace), seeds)
    with recording_bar(exercise.episodes) as on_done:
        equivalence = run_exercise(exercise, out, workers, on_done)
    text = equivalence_markdown(equivalence, datetime.now(UTC).date())
    if report is not None:
        write_between(report, text)
        talk(f"wrote {report}")
    if as_json:
        print_json(equivalence_json(equivalence))
    else:
        print(text)
    if spoiled := [series.name for series in equivalence.series if not series.scorable]:
        talk(f"error: every episode on {', '.join(spoiled)} is unscorable; the reasons stand above")
        raise typer.Exit(3)


def _choices(names: str, context: str | None, namespace: str | None) -> list[SandboxChoice]:
    """One for each name. Raises InputError when one is unknown, or a cluster is named that nobody asked for."""
    from chaosgym.errors import InputError
    from chaosgym.sandbox.choice import read_choice

    chosen = [name.strip() for name in names.split(",") if name.strip()]
    if (context or namespace) and "kubernetes" not in chosen:
        raise InputError(f"--context and --namespace are for the sandbox kubernetes, which is not among {names}")
    return [read_choice(name, context=context, namespace=namespace) if name == "kubernetes" else read_choice(name) for name in chosen]
