"""`chaosgym faults`: what can be broken, how, and what becomes visible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows

if TYPE_CHECKING:
    from chaosgym.faults.base import Fault

__all__ = ["describe", "group"]

group = typer.Typer(help="What can be broken.", no_args_is_help=True, rich_markup_mode=None)


def describe(fault: type[Fault]) -> dict[str, Any]:
    """Everything about a fault as plain data: name, family, summary, kinds, needs, parameters, symptoms, description."""
    from inspect import cleandoc

    from chaosgym.taxonomy import FAULT_TYPES

    label = FAULT_TYPES[fault.label]
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
    }


def _parameter(name: str, field: Any) -> dict[str, Any]:
    default = None if field.is_required() else field.default
    return {"name": name, "required": field.is_required(), "default": default, "description": " ".join((field.description or "").split())}


@group.command("list", epilog="Example: chaosgym faults list --json")
def list_faults(as_json: JsonOption = False) -> None:
    """List every fault with its family and the kinds of component it fits."""
    from chaosgym.faults import FAULTS

    rows = [describe(fault) for fault in FAULTS.values()]
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
    print(f"fits   {', '.join(row['kinds'])}\nneeds  {', '.join(row['needs'])}\n")
    for title in ("parameters", "symptoms"):
        print(title)
        if row[title]:
            print_rows(row[title], tuple(row[title][0]))
        else:
            print("none")
