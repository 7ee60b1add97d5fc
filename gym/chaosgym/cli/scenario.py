"""`chaosgym scenario`: what to break and when; the shipped ones and your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.gates import Verdict
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


@group.command("check", epilog="Example: chaosgym scenario check --live slow-orders.yaml")
def check_scenarios(
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[GLOB]...", help="Shipped scenarios or YAML files; all shipped ones by default.")
    ] = None,
    app: Annotated[str | None, typer.Option(help="A YAML file to stand in for the application that they name.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Then run them, and put the gates of docs/gates.md to what happened.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="With --live: how often each is run, broken and whole.")] = 5,
    workers: Annotated[int, typer.Option(min=1, max=64, help="With --live: sandboxes side by side.")] = 4,
    out: Annotated[Path, typer.Option(help="With --live: folder for the episodes; what is there already is kept.")] = Path("runs/gates"),
    as_json: JsonOption = False,
) -> None:
    """Check scenarios: the documents, faults, parameters, targets and sandboxes; with --live also what really happens.

    Exit 1 when a scenario asks for the impossible or fails a gate, 2 when a document cannot be read.
    """
    names = [name for pattern in patterns or ["*"] for name in _expand(pattern)]
    rows, code = _static_rows(names, app)
    if live and not code:
        _check_live(names, app, seeds, workers, out, as_json=as_json)
        return
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print(f"ok    {row['name']}" if row["ok"] else "\n".join(f"fail  {problem}" for problem in row["problems"]))
    if code:
        raise typer.Exit(code)


def _static_rows(names: Sequence[str], app: str | None) -> tuple[list[dict[str, Any]], int]:
    """One row a scenario, and the exit code."""
    from chaosgym.errors import InputError
    from chaosgym.scenarios import check_scenario, load_app

    stand_in = load_app(app) if app is not None else None
    rows: list[dict[str, Any]] = []
    code = 0
    for name in names:
        try:
            problems = check_scenario(name, stand_in)
            code = max(code, int(bool(problems)))
        except InputError as error:
            problems, code = str(error).splitlines(), error.exit_code
        rows.append({"name": name, "ok": not problems, "problems": problems})
    return rows, code


def _check_live(names: Sequence[str], app: str | None, seeds: int, workers: int, out: Path, *, as_json: bool) -> None:
    from dataclasses import asdict

    from chaosgym.cli.record import recording_bar
    from chaosgym.gates import count_episodes, plan_exams, run_gates
    from chaosgym.recording.pool import LocalPool
    from chaosgym.scenarios import load_app, load_scenario

    scenarios = [load_scenario(name) for name in names]
    exams = plan_exams(scenarios, {name: load_app(app or name) for name in {s.spec.app for s in scenarios}}, seeds)
    with LocalPool(workers) as pool, recording_bar(count_episodes(exams)) as on_done:
        verdicts = run_gates(exams, pool, out, on_done)
    if as_json:
        print_json([{"name": f"{v.scenario}/{v.gate}", **asdict(v)} for v in verdicts])
    else:
        _print_verdicts(verdicts)
    if any(verdict.passed is False for verdict in verdicts):
        raise typer.Exit(1)


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A table of all, then what failed and why."""
    words = {True: "pass", False: "FAIL", None: "-"}
    rows: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        rows.setdefault(verdict.scenario, {"scenario": verdict.scenario})[verdict.gate] = words[verdict.passed]
    print_rows(list(rows.values()), ("scenario", *dict.fromkeys(verdict.gate for verdict in verdicts)))
    for verdict in verdicts:
        if verdict.passed is False:
            print(f"\n{verdict.scenario} fails {verdict.gate}: {verdict.evidence}\n  {verdict.advice}")


def _expand(pattern: str) -> list[str]:
    """Names of shipped scenarios, or files, one by one, so that a broken file does not hide the others."""
    from glob import glob

    from chaosgym.scenarios import find_scenarios

    if pattern.endswith((".yaml", ".yml")):
        return sorted(glob(pattern, recursive=True)) or [pattern]
    return [scenario.metadata.name for scenario in find_scenarios(pattern)]
