"""`chaosgym apps`: the applications that scenarios break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows

if TYPE_CHECKING:
    from chaosgym.app import App

__all__ = ["group"]

group = typer.Typer(help="The applications that scenarios break.", no_args_is_help=True, rich_markup_mode=None)


def _row(app: App) -> dict[str, Any]:
    return {
        "name": app.metadata.name,
        "title": app.metadata.title,
        "components": len(app.spec.components),
        "journeys": list(app.spec.journeys),
    }


@group.command("list", epilog="Example: chaosgym apps list --json")
def list_apps(as_json: JsonOption = False) -> None:
    """List the applications shipped with chaosgym."""
    from chaosgym.scenarios import load_app, shipped_apps

    rows = [_row(load_app(name)) for name in shipped_apps()]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "components", "journeys", "title"))


@group.command("show", epilog="Example: chaosgym apps show shop")
def show_app(name: Annotated[str, typer.Argument(help="A shipped application or a YAML file.")], as_json: JsonOption = False) -> None:
    """Show an application's components and who talks to whom."""
    from chaosgym.graph import edges
    from chaosgym.scenarios import load_app

    app = load_app(name)
    links = [edge._asdict() for edge in edges(app.spec)]
    if as_json:
        print_json({**_row(app), "edges": links, "document": app.model_dump(mode="json", by_alias=True)})
        return
    print(f"{app.metadata.name}: {app.metadata.title}\n")
    rows = [{"component": role, "kind": c.kind, "endpoints": list(c.endpoints)} for role, c in app.spec.components.items()]
    print_rows(rows, ("component", "kind", "endpoints"))
    print()
    print_rows(links, ("source", "target", "protocol"))
