"""`chaosgym faults`: what can be broken, how, and what becomes visible; and faults of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk, write_new

if TYPE_CHECKING:
    from chaosgym.faults.base import Fault

__all__ = ["describe", "group"]

group = typer.Typer(help="What can be broken.", no_args_is_help=True, rich_markup_mode=None)


def describe(fault: type[Fault]) -> dict[str, Any]:
    """Everything about a fault as plain data: name, family, summary, kinds, needs, parameters, symptoms, description."""
    from inspect import cleandoc

    from chaosgym.taxonomy import declared_type, find

    label = find(fault.label) or declared_type(fault)
    return {
        "name": label.name,
        "family": label.family,
        "summary": label.summary,
        "synonyms": list(label.synonyms),
        "kinds": sorted(fault.kinds),
        "needs": sorted(fault.needs),
        "parameters": [_parameter(name, field) for name, field in fault.Parameters.model_fields.items()],
        "symptoms": [{"where": s.where, "signal": s.signal, "direction": s.direction, "pattern": s.pattern} for s in fault.symptoms],
        "description": cleandoc(fault.__doc__ or ""),
        "documented": fault.documented,
        "differs": dict(fault.differs),
    }


def _parameter(name: str, field: Any) -> dict[str, Any]:
    default = None if field.is_required() else field.default
    return {"name": name, "required": field.is_required(), "default": default, "description": " ".join((field.description or "").split())}


@group.command("list", epilog="Example: chaosgym faults list --json")
def list_faults(as_json: JsonOption = False) -> None:
    """List every fault with the kinds of component it fits: those of chaosgym, and those of your own."""
    from chaosgym.faults import all_faults

    rows = [describe(fault) for fault in all_faults().values()]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "kinds", "summary"))


@group.command("show", epilog="Example: chaosgym faults show process.crash")
def show_fault(
    name: Annotated[str, typer.Argument(help="A fault, as `chaosgym faults list` names it, or what else it is called.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a fault does, its parameters and its symptoms."""
    from chaosgym.faults import fault_class
    from chaosgym.taxonomy import normalise

    row = describe(fault_class(normalise(name) or name))
    if as_json:
        print_json(row)
        return
    print(f"{row['name']}: {row['summary']}\n\n{row['description']}\n")
    if row["documented"]:
        print(f"see    {row['documented']}")
    print(f"fits   {', '.join(row['kinds'])}\nneeds  {', '.join(row['needs'])}")
    for sandbox, reason in row["differs"].items():
        print(f"on {sandbox}  {reason}")
    print()
    for title in ("parameters", "symptoms"):
        print(title)
        if row[title]:
            print_rows(row[title], tuple(row[title][0]))
        else:
            print("none")


@group.command("new", epilog="Example: chaosgym faults new dependency.slow_disk")
def new_fault(
    name: Annotated[str, typer.Argument(help="Its label, family.type; the families that there are, or one of your own.")],
    out: Annotated[Path | None, typer.Option(help="The Python file to write; named after the type by default.")] = None,
) -> None:
    """Write a small fault of your own that works, to be changed bit by bit; an existing file is never overwritten."""
    from chaosgym.errors import InputError
    from chaosgym.faults.template import fault_file, fault_template

    text = fault_template(name)
    path = out or Path(fault_file(name))
    if path.suffix != ".py":
        raise InputError(f"{path}: a fault's file ends in .py, as in {fault_file(name)}")
    write_new(path, text)
    scenario = path.with_suffix(".yaml").name.replace("_", "-")
    talk(f"wrote {path}; next:")
    talk(f"  chaosgym faults check {path}")
    talk(f"  chaosgym --faults {path} scenario new {scenario} --fault {name}")
    talk(f"  chaosgym --faults {path} run {scenario}")


@group.command("check", epilog="Example: chaosgym faults check slow_disk.py")
def check_faults(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.py...", help="Python files, each with one fault of your own.")],
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An example of a parameter that it cannot do without; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check faults of your own: what they declare, and that heal undoes whatever inject did, when any call of it fails.

    Nothing is broken for it. Exit 1 when a fault does not conform, 2 when a file cannot be read.
    """
    rows = [_check(path, parameter or ()) for path in files]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            said = [f"ok    {row['path']}  {row['name']}"] if row["ok"] else [f"fail  {row['path']}: {text}" for text in row["problems"]]
            print("\n".join(said))
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def _check(path: Path, parameters: Sequence[str]) -> dict[str, Any]:
    import asyncio

    from chaosgym.errors import InputError
    from chaosgym.faults.conformance import problems
    from chaosgym.faults.own import load_file, read_file

    fault = read_file(path)
    found = asyncio.run(problems(fault, dict(_assignment(text) for text in parameters)))
    if not found:
        try:
            load_file(path)
        except InputError as error:  # its label or a synonym is taken
            found = [str(error)]
    return {"name": getattr(fault, "label", fault.__name__), "path": str(path), "ok": not found, "problems": found}


def _assignment(text: str) -> tuple[str, Any]:
    """`table=orders`, the value as a scenario would have it."""
    import yaml

    from chaosgym.errors import InputError

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InputError(f"--parameter {text!r}: write it as NAME=VALUE, as in table=orders")
    return name, yaml.safe_load(value)
