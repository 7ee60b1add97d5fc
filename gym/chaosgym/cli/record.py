"""`chaosgym record`: many live episodes, side by side, resumable."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chaosgym.cli.dry_run import DryRunOption, announce, show_blast
from chaosgym.cli.output import JsonOption, print_json, print_rows, talk
from chaosgym.cli.where import ContextOption, NamespaceOption, SandboxOption, choose

if TYPE_CHECKING:
    from chaosgym.recording.pool import Recorded
    from chaosgym.recording.record import Task
    from chaosgym.recording.store import Store
    from chaosgym.sandbox.choice import SandboxChoice
    from chaosgym.scenario import Scenario, Split

__all__ = ["EXAMPLE", "record", "record_fresh", "recording_bar"]

EXAMPLE = "Example: chaosgym record --scenarios '*' --episodes 28 --workers 4 --out episodes"
_SPLITS = ("train", "seeds", "apps", "faults", "backend", "foreign")


def record(
    out: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="Where the episodes go, as s3://bucket/episodes; those that are there are kept.")
    ],
    scenarios: Annotated[str, typer.Option(metavar="GLOB", help="Names of shipped scenarios, tag:NAME, split:NAME, or YAML files.")] = "*",
    app: Annotated[str | None, typer.Option(help="A YAML file to stand in for the application that they name.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many, the scenarios in turn.")] = 28,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Sandboxes side by side.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; each next one adds 1.")] = 0,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only every N-th episode from number I (0 to N-1): N processes make one recording.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Mark the episodes as of this split; `seeds` draws seeds of its own.")] = None,
    sandbox: SandboxOption = "local",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    namespaces: Annotated[bool, typer.Option(help="local: use private namespaces where the system allows them.")] = True,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Record live episodes into a folder, or into a store that many machines share.

    Running the same command again records only what is missing. An episode that the machinery spoiled is
    recorded as unscorable with its reason; exit 3 when all of them were (a shard alone is no reason to say so).
    """
    from chaosgym.drawing import draw_plan
    from chaosgym.recording.pool import Pool
    from chaosgym.recording.record import plan_tasks, share
    from chaosgym.recording.record import record as record_tasks
    from chaosgym.scenarios import find_scenarios, load_app, refuse_impossible

    index, of = _read_shard(shard)
    found = find_scenarios(scenarios)
    apps = {name: load_app(app or name) for name in {scenario.spec.app for scenario in found}}
    for scenario in found:
        refuse_impossible(scenario, apps[scenario.spec.app])
    choice, found = choose(sandbox, found, namespaces=namespaces, context=context, namespace=namespace)
    tasks = share(plan_tasks(found, apps, episodes, seed, _read_split(split)), index, of)
    if dry_run:
        show_blast(choice, [draw_plan(t.app, t.scenario, t.seed) for t in tasks], min(workers, len(tasks)), as_json=as_json)
        return
    announce(choice)
    with _destination(out) as (folder, store), Pool(min(workers, len(tasks)), choice) as pool, recording_bar(len(tasks)) as on_done:
        summary = record_tasks(tasks, pool, folder, on_done, store=store)
    row = {"out": out, **asdict(summary)}
    if as_json:
        print_json(row)
    else:
        print_rows([row], tuple(row))
    if summary.unscorable == summary.recorded and shard is None:
        talk("error: every episode is unscorable; the reasons stand above, and `chaosgym doctor` may name the fix")
        raise typer.Exit(3)


def record_fresh(folder: Path, glob: str, episodes: int, workers: int, seed: int, choice: SandboxChoice, found: Sequence[Scenario]) -> None:
    """Record what is missing of `episodes` new episodes of the split `seeds` into `folder`. InfrastructureError when none can be scored."""
    from chaosgym.errors import InfrastructureError
    from chaosgym.recording.pool import Pool
    from chaosgym.recording.record import plan_tasks
    from chaosgym.recording.record import record as record_tasks
    from chaosgym.scenarios import load_app, refuse_impossible

    apps = {name: load_app(name) for name in {scenario.spec.app for scenario in found}}
    for scenario in found:
        refuse_impossible(scenario, apps[scenario.spec.app])
    tasks = plan_tasks(found, apps, episodes, seed, "seeds")
    announce(choice)
    with Pool(min(workers, len(tasks)), choice) as pool, recording_bar(len(tasks)) as on_done:
        summary = record_tasks(tasks, pool, folder, on_done)
    if summary.unscorable == summary.recorded:
        raise InfrastructureError(f"every episode of {glob!r} is unscorable; the reasons stand above")


def _read_shard(text: str | None) -> tuple[int, int]:
    from chaosgym.errors import InputError

    index, _, of = (text or "0/1").partition("/")
    if not (index.isdecimal() and of.isdecimal() and int(index) < int(of)):
        raise InputError(f"--shard {text}: expected I/N with I from 0 to N-1, as in 0/4, 1/4, 2/4 and 3/4 for four processes")
    return int(index), int(of)


@contextmanager
def _destination(out: str) -> Generator[tuple[Path, Store | None]]:
    """The folder to record into, and the store that episodes go to from there if `out` is the address of one."""
    from tempfile import TemporaryDirectory

    from chaosgym.recording.store import is_address, open_store

    if not is_address(out):
        yield Path(out), None
        return
    store = open_store(out)
    with TemporaryDirectory(prefix="chaosgym-episodes-") as folder:
        yield Path(folder), store


def _read_split(name: str | None) -> Split | None:
    from chaosgym.errors import InputError, did_you_mean

    if name is not None and name not in _SPLITS:
        raise InputError(f"unknown split {name!r}{did_you_mean(name, _SPLITS)}; known: {', '.join(_SPLITS)}")
    return name


@contextmanager
def recording_bar(total: int) -> Generator[Callable[[Task, Recorded], None]]:
    """A progress bar on stderr; where that is no terminal, a line for each tenth. Unscorable episodes say why."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        job = bar.add_task("recording", total=total)

        def on_done(task: Task, outcome: Recorded) -> None:
            nonlocal done
            done += 1
            bar.update(job, completed=done)
            if outcome.status != "ok":
                why = f"{outcome.path.name} ({task.scenario.metadata.name}, seed {task.seed}): {outcome.reason}"
                console.print(why, markup=False, highlight=False, soft_wrap=True)
            if not console.is_terminal and (done == total or done % max(total // 10, 1) == 0):
                talk(f"recorded {done} of {total}")

        yield on_done
