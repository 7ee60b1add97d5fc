"""`chaosgym episodes`: what was recorded, as an agent sees it; the truth only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows
from chaosgym.cli.place import PLACE, find_place

__all__ = ["group"]

group = typer.Typer(help="Recorded episodes.", no_args_is_help=True, rich_markup_mode=None)

_Episode = Annotated[Path, typer.Argument(parser=find_place, metavar=PLACE, help="An episode.")]


@group.command("list", epilog="Example: chaosgym episodes list episodes --json")
def list_recorded(
    directory: Annotated[Path, typer.Argument(parser=find_place, metavar=PLACE, help="Where they are, as s3://bucket/episodes.")],
    as_json: JsonOption = False,
) -> None:
    """List the episodes in a folder or a store with their status."""
    from chaosgym.episode import list_episodes, read_header

    rows: list[dict[str, Any]] = []
    for path in list_episodes(directory):
        header = read_header(path)
        rows.append({
            "name": header.id, "status": header.status, "reason": header.reason, "seed": header.seed, "sandbox": header.sandbox,
            "components": len(header.components), "path": str(path),
        })
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "status", "seed", "sandbox", "components", "reason"))


@group.command("show", epilog="Example: chaosgym episodes show episodes/e0123456789abcde --truth")
def show_episode(
    episode: _Episode,
    truth: Annotated[bool, typer.Option(help="Also tell what was broken.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate an episode and show its header, the size of its telemetry and, if asked, the truth."""
    from chaosgym.episode import validate_episode
    from chaosgym.truth import read_truth

    found = validate_episode(episode)
    result: dict[str, Any] = {"name": found.header.id, **found.header.model_dump(mode="json")}
    result["rows"] = {signal: table.num_rows for signal, table in found.tables.items()}
    if truth:
        result["truth"] = read_truth(episode).model_dump(mode="json")
    if as_json:
        print_json(result)
        return
    simple = {key: value for key, value in result.items() if isinstance(value, str | int | float)}
    print_rows([{"field": key, "value": value} for key, value in simple.items()], ("field", "value"))
    for title in ("components", "edges"):
        print(f"\n{title}")
        print_rows(result[title], tuple(result[title][0]) if result[title] else ("name",))
    print()
    print_rows([result["rows"]], tuple(result["rows"]))
    if truth:
        print()
        print_json(result["truth"])


@group.command("report", epilog="Example: chaosgym episodes report episodes/e0123456789abcde --compact --seed 3")
def report_episode(
    episode: _Episode,
    compact: Annotated[bool, typer.Option(help="The rendering for small models: closed words, components by handle.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Draws handles and the order of rows.")] = 0,
    budget: Annotated[int, typer.Option(min=100, help="Tokens that the compact report may take.")] = 700,
    as_json: JsonOption = False,
) -> None:
    """Print the incident report that an agent starts from."""
    from chaosgym.episode import read_episode
    from chaosgym.incident import compile_incident

    incident = compile_incident(read_episode(episode), seed, budget)
    if as_json:
        print_json({
            "name": episode.resolve().name, "alert": incident.alert, "readable": incident.readable, "compact": incident.compact,
            "handles": dict(incident.handles), "components": list(incident.components),
        })
    else:
        print(incident.compact if compact else incident.readable)
