"""`chaosgym scenario`: what to break and when; the shipped ones and your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.scenario import Scenario

__all__ = ["group"]

group = typer.Typer(help="What to break and when.", no_args_is_help=True, rich_markup_mode=None)

_NEW = """\
apiVersion: chaosgym.dev/v1
kind: Scenario
metadata:
  name: {name}
  title: The program behind {target} answers late
  difficulty: medium
  split: train
spec:
  app: {app}
  workload: {{rate: 35}}
  timeline: {{warmup: 300ms, baseline: 1.2s, incident: 1.8s}}
  parameters:
    delay: {{uniform: [80ms, 200ms]}}
  faults:
    - fault: network.latency
      target: {target}
      parameters: {{delay: "${{delay}}"}}
  decoys:
    - {{kind: deploy, probability: 0.5}}
    - {{kind: traffic, probability: 0.3}}
"""


def _row(scenario: Scenario) -> dict[str, Any]:
    meta, spec = scenario.metadata, scenario.spec
    return {
        "name": meta.name,
        "title": meta.title,
        "app": spec.app,
        "faults": [fault.fault for fault in spec.faults] or ["healthy"],
        "difficulty": meta.difficulty,
        "split": meta.split,
        "tags": list(meta.tags),
    }


@group.command("list", epilog="Example: chaosgym scenario list 'network-*' --json")
def list_scenarios(
    pattern: Annotated[str, typer.Argument(metavar="[GLOB]", help="Names of shipped scenarios or YAML files.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List scenarios: those shipped with chaosgym, or those that a pattern matches."""
    from chaosgym.scenarios import find_scenarios

    rows = [_row(scenario) for scenario in find_scenarios(pattern)]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ("name", "faults", "app", "difficulty", "split", "title"))


@group.command("show", epilog="Example: chaosgym scenario show process-crash")
def show_scenario(name: Annotated[str, typer.Argument(help="A shipped scenario or a YAML file.")], as_json: JsonOption = False) -> None:
    """Show a scenario's document, or its resolved form with --json."""
    from chaosgym.scenarios import load_scenario, scenario_path

    scenario = load_scenario(name)
    if as_json:
        print_json({**_row(scenario), "document": scenario.model_dump(mode="json", by_alias=True)})
    else:
        print(scenario_path(name).read_text(encoding="utf-8").rstrip())


@group.command("new", epilog="Example: chaosgym scenario new slow-orders.yaml --target orders")
def new_scenario(
    path: Annotated[Path, typer.Argument(help="The YAML file to write; its name becomes the scenario's.")],
    app: Annotated[str, typer.Option(help="A shipped application.")] = "shop",
    target: Annotated[str, typer.Option(help="The component that gets slow.")] = "orders",
) -> None:
    """Write a small valid scenario to start from; an existing file is never overwritten."""
    from chaosgym.errors import InputError, did_you_mean
    from chaosgym.scenarios import load_app

    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: a scenario's file ends in .yaml, as in {path.name or 'mine'}.yaml")
    components = load_app(app).spec.components
    if target not in components:
        raise InputError(f"app '{app}' has no component '{target}'{did_you_mean(target, components)}; it has {', '.join(components)}")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_NEW.format(name=_name(path), app=app, target=target))
    except FileExistsError as error:
        raise InputError(f"{path}: exists already; give another name or remove it first") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder and its permissions") from error
    talk(f"wrote {path}; check it with: chaosgym scenario check {path}")


def _name(path: Path) -> str:
    """A scenario name (`a-z0-9-`, a letter first, 40 characters) from a file's name."""
    word = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower()).strip("-")
    return (word if word[:1].isalpha() else f"scenario-{word}".rstrip("-"))[:40].rstrip("-")


@group.command("check", epilog="Example: chaosgym scenario check slow-orders.yaml 'process-*'")
def check_scenarios(
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[GLOB]...", help="Shipped scenarios or YAML files; all shipped ones by default.")
    ] = None,
    app: Annotated[str | None, typer.Option(help="A YAML file to stand in for the application that they name.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check scenarios without running them: the documents, faults, parameters, targets and sandboxes.

    Exit 1 when a scenario asks for the impossible, 2 when a document cannot be read.
    """
    from chaosgym.errors import InputError
    from chaosgym.scenarios import check_scenario, load_app

    stand_in = load_app(app) if app is not None else None
    rows: list[dict[str, Any]] = []
    code = 0
    for name in [name for pattern in patterns or ["*"] for name in _expand(pattern)]:
        try:
            problems = check_scenario(name, stand_in)
            code = max(code, int(bool(problems)))
        except InputError as error:
            problems, code = str(error).splitlines(), error.exit_code
        rows.append({"name": name, "ok": not problems, "problems": problems})
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print(f"ok    {row['name']}" if row["ok"] else "\n".join(f"fail  {problem}" for problem in row["problems"]))
    if code:
        raise typer.Exit(code)


def _expand(pattern: str) -> list[str]:
    """Names of shipped scenarios, or files, one by one, so that a broken file does not hide the others."""
    from glob import glob

    from chaosgym.scenarios import find_scenarios

    if pattern.endswith((".yaml", ".yml")):
        return sorted(glob(pattern, recursive=True)) or [pattern]
    return [scenario.metadata.name for scenario in find_scenarios(pattern)]
