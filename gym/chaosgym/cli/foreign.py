"""`chaosgym foreign`: faults in an application that runs already and is not chaosgym's own."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.foreign.load import LoadedApp
    from chaosgym.foreign.record import Watched
    from chaosgym.scenario import Scenario

__all__ = ["group"]

group = typer.Typer(help="Faults in an application of yours that runs already.", no_args_is_help=True, rich_markup_mode=None)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file of kind ForeignApp.")]


@group.command("check", epilog="Example: chaosgym foreign check shop.yaml")
def check(file: FileArgument, as_json: JsonOption = False) -> None:
    """Find everything that the file names, try its probes, and say what may be broken; nothing is changed.

    Exit 1 when a probe does not get what it expects.
    """
    from chaosgym.foreign.load import load_foreign_app
    from chaosgym.foreign.record import check as check_live

    loaded = load_foreign_app(file)
    checked, others, outcomes = asyncio.run(check_live(loaded))
    failed = {name: f"{outcome.error}: {outcome.message}" for name, outcome in outcomes.items() if outcome.error}
    rows: list[dict[str, Any]] = [
        {
            "component": each.found.role, "kind": loaded.app.spec.components[each.found.role].kind, "what": each.found.what,
            "allow": loaded.app.spec.components[each.found.role].allow, "faults": each.faults, "lacks": dict(each.lacks),
        }
        for each in checked
    ]  # fmt: skip
    if as_json:
        print_json({"components": rows, "untouched": others, "probes": {name: failed.get(name, "ok") for name in outcomes}})
    else:
        print_rows([{**row, "faults": len(row["faults"])} for row in rows], ("component", "kind", "what", "allow", "faults"))
        for row in rows:
            for need, why in row["lacks"].items():
                print(f"\n{row['component']}: {need} is allowed and cannot be done here: {why}")
        print(f"\nnot named, never touched: {', '.join(others) or 'nothing else runs there'}")
        for name in outcomes:
            print(f"probe {name}: {failed.get(name, 'ok')}")
    if failed:
        raise typer.Exit(1)


@group.command("faults", epilog="Example: chaosgym foreign faults shop.yaml database")
def faults(file: FileArgument, component: Annotated[str, typer.Argument(help="One of the file's.")], as_json: JsonOption = False) -> None:
    """List the faults that a component may have, and for all others the reason why not. Nothing is asked of the application."""
    from chaosgym.errors import InputError, did_you_mean
    from chaosgym.faults import all_faults
    from chaosgym.foreign.load import load_foreign_app
    from chaosgym.foreign.refusal import why_not

    known = load_foreign_app(file).app.spec.components
    if component not in known:
        raise InputError(f"there is no component '{component}'; there are {', '.join(known)}{did_you_mean(component, known)}")
    rows = [{"fault": label, "why_not": why_not(fault, component, known[component], {})} for label, fault in all_faults().items()]
    if as_json:
        print_json(rows)
    else:
        print_rows(sorted(rows, key=lambda row: row["why_not"] is not None), ("fault", "why_not"))


@group.command("run", epilog="Example: chaosgym foreign run shop.yaml --fault process.crash --target shop")
def run(
    file: FileArgument,
    fault: Annotated[str | None, typer.Option(help="What breaks, as `chaosgym faults list` names it; nothing by default.")] = None,
    target: Annotated[str, typer.Option(help="The component that it breaks.")] = "",
    parameters: Annotated[list[str] | None, typer.Option("--parameters", metavar="NAME=VALUE", help="Of the fault; repeatable.")] = None,
    scenario: Annotated[Path | None, typer.Option(help="A YAML file of kind Scenario, in place of --fault.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the users' requests, and what a scenario leaves to chance.")] = 0,
    agent: Annotated[str, typer.Option(help="Who diagnoses it at the end: rules, most-errors, slm:MODEL, ...")] = "rules",
    out: Annotated[Path | None, typer.Option(help="Keep the episode in this folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done to what, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Break one thing, watch, heal it, watch the recovery; then print the report, what an agent says to it, and the truth.

    Everything is undone on every way out, Ctrl-C and `kill -9` among them. Exit 1 when users were not served well again.
    """
    from chaosgym.agents import make_agent
    from chaosgym.cli.run import print_result, tell
    from chaosgym.foreign.load import load_foreign_app
    from chaosgym.foreign.record import record
    from chaosgym.foreign.refusal import refuse

    loaded, judge = load_foreign_app(file), make_agent(agent)
    chosen = _scenario(loaded, fault, target, parameters or [], scenario)
    refuse(loaded, chosen, {})
    _announce(loaded, chosen)
    if dry_run:
        return
    began = time.monotonic()

    def progress(phase: str, detail: str) -> None:
        talk(f"{time.monotonic() - began:5.2f} s  {phase:<9} {detail}")

    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaosgym-foreign-")))
        folder.mkdir(parents=True, exist_ok=True)
        watched = asyncio.run(record(loaded, chosen, seed, folder, progress))
        result: dict[str, Any] = {**tell(watched.recorded, judge, keep=out is not None), "recovered": watched.recovered}
    if as_json:
        print_json(result)
    elif watched.recorded.status == "ok":
        print_result(result)
    _end(watched)


def _scenario(loaded: LoadedApp, fault: str | None, target: str, parameters: Sequence[str], path: Path | None) -> Scenario:
    from chaosgym.document import read_document
    from chaosgym.errors import InputError
    from chaosgym.faults import make_fault
    from chaosgym.foreign.plan import make_scenario
    from chaosgym.scenario import Scenario

    if path is not None:
        if fault or target or parameters:
            raise InputError("--scenario says what breaks; leave --fault, --target and --parameters out")
        return read_document(path, Scenario)
    if fault and not target:
        raise InputError(f"--fault {fault} needs --target, one of {', '.join(loaded.app.spec.components)}")
    pairs = [text.partition("=") for text in parameters]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise InputError(f"--parameters {wrong}: write NAME=VALUE, as in table=orders")
    values = {name: _value(value) for name, _, value in pairs}
    if fault:
        make_fault(fault, target, values)  # its name, and what its parameters may be
    return make_scenario(loaded.app, fault, target, values)


def _value(text: str) -> Any:
    """A number where it is one."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _announce(loaded: LoadedApp, scenario: Scenario) -> None:
    """The blast radius, before anything happens."""
    spec = loaded.app.spec
    where = f"Compose project {spec.compose.project}" if spec.compose else ""
    where = f"namespace {spec.kubernetes.namespace} of {spec.kubernetes.context}" if spec.kubernetes else where
    breaks = ", ".join(f"{each.fault} on {each.target}" for each in scenario.spec.faults) or "nothing is broken"
    line = scenario.spec.timeline
    talk(f"in {where}: {breaks}; {line.incident:g} s, after {line.warmup + line.baseline:g} s of watching {spec.url}")
    allowed = [f"{role} ({', '.join(component.allow)})" for role, component in spec.components.items() if component.allow]
    talk(f"allowed at all: {'; '.join(allowed) or 'nothing'}")


def _end(watched: Watched) -> None:
    if watched.recorded.status != "ok":
        talk(f"error: unscorable: {watched.recorded.reason}")
        raise typer.Exit(3)
    if watched.recovered is False:
        talk("error: healed, but users are not served as the SLO asks; look at the application")
        raise typer.Exit(1)
    if watched.recovered:
        talk("everything is undone, and users are served well again")


@group.command("heal", epilog="Example: chaosgym foreign heal shop.yaml")
def heal(file: FileArgument, as_json: JsonOption = False) -> None:
    """Undo what runs that were cut off have left behind; does nothing where there is nothing."""
    from chaosgym.foreign.load import load_foreign_app
    from chaosgym.foreign.record import heal as heal_live

    done = asyncio.run(heal_live(load_foreign_app(file)))
    if as_json:
        print_json(done)
    else:
        print("\n".join(f"undone: {each}" for each in done) or "nothing was left behind")
