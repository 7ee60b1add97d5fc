"""`chaosgym fleet`: one recording by many pods of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.fleet.cluster import Fleets, Status

__all__ = ["group"]

group = typer.Typer(help="One recording by many pods of a Kubernetes cluster.", no_args_is_help=True, rich_markup_mode=None)

_Context = Annotated[str, typer.Option(help="The context of your kubeconfig, or `in-cluster`; never guessed.")]
_Namespace = Annotated[str, typer.Option(help="Where its Jobs are; it must be there, as `kubectl apply -k deploy/fleet` makes it.")]
_Name = Annotated[str, typer.Argument(metavar="FLEET", help="Its name, as `chaosgym fleet status` lists it.")]
_COLUMNS = ("name", "state", "recorded", "episodes", "done", "shards", "pods", "out", "why")


@group.command(
    "record",
    epilog="Example: chaosgym fleet record --context prod --namespace chaosgym-fleet --shards 50 --episodes 10000 "
    "--out file:///episodes --volume claim:episodes:/episodes",
)
def record(
    context: _Context,
    namespace: _Namespace,
    shards: Annotated[int, typer.Option(min=1, help="Parts of the recording, each done by a pod.")],
    episodes: Annotated[int, typer.Option(min=1, help="How many, the scenarios in turn.")],
    out: Annotated[str, typer.Option(metavar="URL", help="The store, as pods see it: s3://bucket/episodes, file:///episodes.")],
    scenarios: Annotated[str, typer.Option(metavar="GLOB", help="Names of shipped scenarios.")] = "*",
    image: Annotated[str | None, typer.Option(metavar="REF", help="The runner; by default as `chaosgym image build` names it.")] = None,
    parallelism: Annotated[int | None, typer.Option(min=1, help="Pods at a time; by default all of them.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Sandboxes side by side in a pod.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode; each next one adds 1.")] = 0,
    split: Annotated[str | None, typer.Option(help="Mark the episodes as of this split; `seeds` draws seeds of its own.")] = None,
    sandbox: Annotated[str, typer.Option(metavar="local", help="Where the services run: inside the pods.")] = "local",
    volume: Annotated[
        list[str] | None, typer.Option(metavar="claim:NAME:/path", help="Mount a volume claim (or host:/folder:/path); may be repeated.")
    ] = None,
    secret: Annotated[str | None, typer.Option(metavar="NAME", help="A Secret whose keys the pods have as environment variables.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the manifests for kubectl apply, and make nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Record live episodes in many pods into one store.

    Running the same command again records only what is missing. A pod that dies is replaced and costs the episode that it was
    at. Ctrl-C leaves the fleet running.
    """
    import yaml

    from chaosgym.errors import InputError
    from chaosgym.fleet.cluster import Fleets
    from chaosgym.fleet.order import Order, read_volume
    from chaosgym.sandbox.image import image_reference

    _check(scenarios, sandbox)
    order = Order(
        image or image_reference("runner"), out, scenarios, episodes, shards, min(parallelism or shards, shards), workers, seed, split,
        tuple(map(read_volume, volume or ())), secret,
    )  # fmt: skip
    fleets = Fleets(context, namespace)
    name, jobs = fleets.plan(order)
    if dry_run:
        print(yaml.safe_dump_all([*fleets.accounts(), *jobs], sort_keys=False), end="")
        return
    first = jobs if fleets.indexed else jobs[: order.parallelism]
    if detach and len(first) < len(jobs):
        raise InputError("--detach with --parallelism needs Indexed Jobs (Kubernetes 1.22): here somebody must start the later shards")
    fleets.launch(first)
    talk(f"launched {name}: {shards} shards of {episodes} episodes into {out}")
    status = fleets.status(name) if detach else _follow(fleets, name, jobs[len(first) :], order.parallelism)
    _print([status], as_json)
    if status.state == "failed":
        talk(f"error: {name} has failed; chaosgym fleet logs {name} says more, and the same command again records what is missing")
        raise typer.Exit(3)


def _check(scenarios: str, sandbox: str) -> None:
    from chaosgym.cli.where import choose
    from chaosgym.errors import InputError
    from chaosgym.scenarios import find_scenarios

    if sandbox != "local":
        raise InputError(f"--sandbox {sandbox}: a fleet's pods run the services inside themselves; for another one use `chaosgym record`")
    if scenarios.endswith((".yaml", ".yml")):
        raise InputError(f"--scenarios {scenarios}: pods have the shipped scenarios alone; for files of your own use `chaosgym record`")
    choose("local", find_scenarios(scenarios))


def _follow(fleets: Fleets, name: str, waiting: Sequence[dict[str, Any]], most: int) -> Status:
    try:
        with _bar() as on_status:
            return fleets.follow(name, on_status, waiting, most)
    except KeyboardInterrupt:
        left = f"; {len(waiting)} shards that were to follow may be missing: run the same again" if waiting else ""
        talk(f"{name} goes on{left}; see chaosgym fleet status, and chaosgym fleet delete {name}")
        raise


@contextmanager
def _bar() -> Generator[Callable[[Status], None]]:
    """Episodes on stderr as a bar, or as lines where that is no terminal; what pods wait for, once."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console, told = Console(stderr=True), set[str]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        job = bar.add_task("recording", total=None)

        def on_status(status: Status) -> None:
            bar.update(job, completed=status.recorded, total=status.episodes, description=f"{status.pods} pods")
            said = {status.why} if status.why else set[str]()
            if not console.is_terminal:
                said.add(f"recorded {status.recorded} of {status.episodes}, {status.done} of {status.shards} shards done")
            for line in sorted(said - told):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            told.update(said)

        yield on_status


def _print(found: Sequence[Status], as_json: bool) -> None:
    from dataclasses import asdict

    rows = [asdict(status) for status in found]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, _COLUMNS)


@group.command("status", epilog="Example: chaosgym fleet status --context prod --namespace chaosgym-fleet")
def show_status(
    context: _Context,
    namespace: _Namespace,
    fleet: Annotated[str | None, typer.Argument(metavar="[FLEET]", help="Its name; by default all of the namespace.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far fleets are."""
    from chaosgym.fleet.cluster import Fleets

    fleets = Fleets(context, namespace)
    _print([fleets.status(name) for name in ([fleet] if fleet else fleets.names())], as_json)


@group.command("logs", epilog="Example: chaosgym fleet logs fleet-0a1b2c3d --shard 3 --context prod --namespace chaosgym-fleet")
def show_logs(
    fleet: _Name,
    context: _Context,
    namespace: _Namespace,
    shard: Annotated[int | None, typer.Option(min=0, help="Only of this one.")] = None,
    lines: Annotated[int, typer.Option(min=1, help="Of each pod, the last ones.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what a fleet's pods have said last."""
    from chaosgym.fleet.cluster import Fleets

    found = Fleets(context, namespace).logs(fleet, shard, lines)
    if as_json:
        print_json([{"name": name, "log": text} for name, text in found.items()])
        return
    for name, text in found.items():
        for line in text.splitlines():
            print(f"{name}: {line}")


@group.command("delete", epilog="Example: chaosgym fleet delete fleet-0a1b2c3d --context prod --namespace chaosgym-fleet")
def delete(fleet: _Name, context: _Context, namespace: _Namespace, as_json: JsonOption = False) -> None:
    """Stop a fleet and remove its Jobs and pods; what is recorded stays."""
    from chaosgym.fleet.cluster import Fleets

    fleets = Fleets(context, namespace)
    fleets.status(fleet)
    removed = fleets.delete(fleet)
    if as_json:
        print_json({"name": fleet, "jobs": removed})
    else:
        talk(f"removed {fleet}: {removed} Jobs")
