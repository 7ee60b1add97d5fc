"""`chaosgym apps`: the applications that scenarios break."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

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
def show_app(
    name: Annotated[str, typer.Argument(help="A shipped or generated application (shop, generated-7), or a YAML file.")],
    as_json: JsonOption = False,
) -> None:
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


@group.command("generate", epilog="Example: chaosgym apps generate --seed 7 --components 40 --out large.yaml")
def generate(
    seed: Annotated[int, typer.Option(help="What it is drawn from; the same seed is the same application everywhere.")],
    components: Annotated[int | None, typer.Option(help="How many, from 5 to 40; drawn by the seed if not given.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The YAML file to write; generated-SEED.yaml by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a generated application; an existing file is never overwritten.

    Wherever an application is named, `generated-SEED` and `generated-SEED-COMPONENTS` work without a file too.
    """
    from chaosgym.app import App
    from chaosgym.errors import InputError
    from chaosgym.generator import generate_document

    document = generate_document(seed, components)
    path = out or Path(f"{document['metadata']['name']}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: an application's file ends in .yaml, as in {path.name or 'mine'}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_written(document))
    except FileExistsError as error:
        raise InputError(f"{path}: exists already; give another name with --out or remove it first") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder and its permissions") from error
    if as_json:
        print_json({**_row(App.model_validate(document)), "file": str(path)})
    talk(f"wrote {path}; run it with: chaosgym run healthy-steady --app {path}")


def _written(document: dict[str, Any]) -> str:
    """As an author would write it: what fits a line in one line."""
    import yaml

    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=140, allow_unicode=True)
