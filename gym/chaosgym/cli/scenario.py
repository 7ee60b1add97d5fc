"""`chaosgym scenario`: what to break and when; the shipped ones and your own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.live import check_live
from chaosgym.cli.output import JsonOption, print_json, print_rows, talk, write_new
from chaosgym.cli.profile import PROFILE_EXAMPLE, profile
from chaosgym.cli.where import ContextOption, NamespaceOption, SandboxOption, choose

if TYPE_CHECKING:
    from chaosgym.scenario import Scenario

__all__ = ["group"]

group = typer.Typer(help="What to break and when.", no_args_is_help=True, rich_markup_mode=None)

_DIFFICULTIES = ("easy", "medium", "hard")


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


@group.command("show", epilog="Example: chaosgym scenario show --explain process-crash")
def show_scenario(
    name: Annotated[str, typer.Argument(help="A shipped scenario or a YAML file.")],
    explained: Annotated[bool, typer.Option("--explain", help="Say in plain words what will happen and what counts as right.")] = False,
    app: Annotated[str | None, typer.Option(help="With --explain: a YAML file to stand in for the application that it names.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a scenario's document, its resolved form with --json, or what will happen with --explain."""
    from chaosgym.scenarios import load_app, load_scenario, refuse_impossible, scenario_path
    from chaosgym.scenarios.explain import explain

    scenario = load_scenario(name)
    text = scenario_path(name).read_text(encoding="utf-8").rstrip()
    if explained:
        application = load_app(app or scenario.spec.app)
        refuse_impossible(scenario, application)
        text = explain(scenario, application)
    if as_json:
        row = {**_row(scenario), "document": scenario.model_dump(mode="json", by_alias=True)}
        print_json({**row, "explanation": text} if explained else row)
    else:
        print(text)


@group.command("new", epilog="Example: chaosgym scenario new slow-orders.yaml --fault network.latency --target orders")
def new_scenario(
    path: Annotated[Path, typer.Argument(help="The YAML file to write; its name becomes the scenario's.")],
    app: Annotated[str | None, typer.Option(help="A shipped application or a YAML file; shop by default.")] = None,
    fault: Annotated[str | None, typer.Option(help="What breaks, of `chaosgym faults list`; network.latency by default.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="A component that breaks, one of a kind that the fault fits; of several one is drawn.")
    ] = None,
    difficulty: Annotated[str | None, typer.Option(metavar="easy|medium|hard", help="As you see it; medium by default.")] = None,
) -> None:
    """Write a small valid scenario to start from; an existing file is never overwritten.

    On a terminal it asks for what no option says. Numeric parameters of the fault get a range around their defaults.
    """
    from chaosgym.errors import InputError
    from chaosgym.faults import fault_class
    from chaosgym.scenarios import load_app
    from chaosgym.scenarios.draft import Draft, default_targets, draft_scenario, fitting_targets
    from chaosgym.taxonomy import normalise

    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: a scenario's file ends in .yaml, as in {path.name or 'mine'}.yaml")
    if path.exists():  # before anything is asked
        raise InputError(f"{path}: exists already; give another name or remove it first")
    chosen = load_app(app or _ask("Application", "shop", load_app))
    word = fault or _ask("Fault (`chaosgym faults list` names them)", "network.latency", lambda word: fault_class(normalise(word) or word))
    kind = fault_class(normalise(word) or word)
    draft = Draft(_name(path), chosen, kind, tuple(target or ()), "medium")
    if not target:
        fitting = fitting_targets(chosen, kind)
        first = default_targets(draft)[0]
        draft = replace(draft, targets=(_ask(f"Component, of {', '.join(fitting)}", first, partial(_one_of, "component", fitting)),))
    word = difficulty or _ask("Difficulty, easy, medium or hard", "medium", partial(_one_of, "difficulty", _DIFFICULTIES))
    draft = replace(draft, difficulty=_one_of("difficulty", _DIFFICULTIES, word))
    write_new(path, draft_scenario(draft))
    _tell_next(path, app)


def _one_of(what: str, known: Sequence[str], word: str) -> str:
    from chaosgym.errors import InputError, did_you_mean

    if word not in known:
        raise InputError(f"there is no {what} '{word}'{did_you_mean(word, known)}; one of {', '.join(known)}")
    return word


def _asks() -> bool:
    """Whether somebody sits there who can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str, default: str, check: Callable[[str], object]) -> str:
    """Ask until the answer passes `check`; the default where nobody can be asked."""
    from chaosgym.errors import InputError

    if not _asks():
        return default

    def read(word: str) -> str:
        try:
            check(word)
        except InputError as error:
            raise typer.BadParameter(str(error)) from error
        return word

    return str(typer.prompt(question, default=default, value_proc=read, err=True))


def _tell_next(path: Path, app: str | None) -> None:
    from chaosgym.faults.own import loaded_files

    program = " ".join(("chaosgym", *(f"--faults {relpath(file)}" for file in loaded_files())))
    stand_in = f" --app {app}" if app is not None and app.endswith((".yaml", ".yml")) else ""
    talk(f"wrote {path}; next:")
    talk(f"  {program} scenario check {path}{stand_in}")
    talk(f"  {program} scenario check --live {path}{stand_in}")
    talk(f"  {program} run {path}{stand_in}")


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
    report: Annotated[Path | None, typer.Option(help="With --live: write all verdicts and figures into this Markdown file.")] = None,
    sandbox: SandboxOption = "local",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check scenarios: the documents, faults, parameters, targets and sandboxes; with --live also what really happens.

    Exit 1 when a scenario asks for the impossible or fails a gate, 2 when a document cannot be read.
    """
    from chaosgym.errors import InputError
    from chaosgym.scenarios import load_scenario

    if report is not None and not live:
        raise InputError(f"--report {report}: only what was run can be reported; add --live")
    names = [name for pattern in patterns or ["*"] for name in _expand(pattern)]
    rows, code = _static_rows(names, app)
    if live and not code:
        scenarios = [load_scenario(name) for name in dict.fromkeys(names)]
        choice, scenarios = choose(sandbox, scenarios, context=context, namespace=namespace)
        check_live(scenarios, app, choice, seeds, workers, out, report, as_json=as_json)
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


def _expand(pattern: str) -> list[str]:
    """Names of shipped scenarios, or files, one by one, so that a broken file does not hide the others."""
    from glob import glob

    from chaosgym.scenarios import find_scenarios

    if pattern.endswith((".yaml", ".yml")):
        return sorted(glob(pattern, recursive=True)) or [pattern]
    return [scenario.metadata.name for scenario in find_scenarios(pattern)]


group.command("profile", epilog=PROFILE_EXAMPLE)(profile)
