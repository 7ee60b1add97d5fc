"""`--dry-run` on the commands that break something in a container engine: what they would make and do; and, of a real
run in a cluster, the line that says beforehand what it touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.plan import Plan
    from chaosgym.sandbox.choice import SandboxChoice
    from chaosgym.sandbox.dry_run import Blast

__all__ = ["DryRunOption", "announce", "show_blast"]

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="docker, kubernetes: only print what would be made and done (Kubernetes: as YAML).")
]
_SHOWN = ("kind", "name", "count", "memory", "cpus", "processes", "user", "read_only", "cap_drop", "internal", "published_ports")


def announce(choice: SandboxChoice) -> None:
    """Say what a run is about to touch, if that is a cluster."""
    from chaosgym.sandbox.dry_run import announcement

    if line := announcement(choice):
        talk(line)


def show_blast(choice: SandboxChoice, plans: Sequence[Plan], sandboxes: int, *, as_json: bool) -> None:
    """Print what would be made and done by `plans` on so many sandboxes side by side; no engine is asked for anything."""
    from dataclasses import asdict

    from chaosgym.sandbox.dry_run import blast_radius

    blast = blast_radius(choice, plans, sandboxes)
    if as_json:
        print_json(asdict(blast))
        return
    who = "the sandbox" if sandboxes == 1 else f"each of {sandboxes} sandboxes"
    talk(f"dry run: nothing is made. {blast.sandbox} at {blast.where}, image {blast.image}; {who} would make:")
    if blast.manifests:
        _print_manifests(blast)
    else:
        print_rows([_flat(each) for each in blast.objects], _SHOWN)
    for action in blast.actions:
        uses = f" using {', '.join(action.needs)}" if action.needs else ""
        parameters = "".join(f" {key}={value}" for key, value in action.parameters.items())
        episode = f"{action.scenario} seed {action.seed}"
        talk(f"{episode}: {action.at:5.2f} s  {action.action} on {action.component} ({action.name}){uses}{parameters}")


def _print_manifests(blast: Blast) -> None:
    import yaml

    print(yaml.safe_dump_all(blast.manifests, sort_keys=False, explicit_start=True), end="")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    if "mem_limit" not in row:
        return dict(row)
    return {**row, "memory": row["mem_limit"], "cpus": row["nano_cpus"] / 1e9, "processes": row["pids_limit"]}
