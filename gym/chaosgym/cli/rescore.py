"""`chaosgym rescore`: what the present reward makes of answers that were given in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows

if TYPE_CHECKING:
    from chaosgym.training.rescore import Rescored

__all__ = ["EXAMPLE", "rescore"]

EXAMPLE = "Example: chaosgym rescore runs/grpo --json"


def rescore(
    run: Annotated[Path, typer.Argument(help="Run directory of `train grpo` or `train ppo`.")],
    episodes: Annotated[
        list[Path] | None, typer.Option(help="Folder with the run's episodes, if they have moved; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score the stored answers of a training run again, with the reward as it is now.

    Shows the mean of each term then and now, and how many answers changed places among those to the same incident.
    Nothing in the run is modified.
    """
    from chaosgym.training.rescore import rescore as score_again

    found = score_again(run, episodes or ())
    if as_json:
        print_json(found.to_json())
        return
    rows = [{"term": c.term, "before": c.before, "now": c.now, "answers changed": c.changed} for c in found.changes]
    print_rows(rows, ("term", "before", "now", "answers changed"))
    print(f"\n{_said(found)}")


def _said(found: Rescored) -> str:
    """The numbers in words."""
    scored = found.answers - found.missing - found.unscorable
    left = [
        f"{found.missing} of episodes that are not there" if found.missing else "",
        f"{found.unscorable} that may not be scored" if found.unscorable else "",
    ]
    out = ", ".join(filter(None, left))
    return (
        f"{scored} answers of {found.steps} steps; {found.moved} changed rank, in {found.moved_groups} of {found.groups} groups"
        + (f"; left out: {out}" if out else "")
    )
