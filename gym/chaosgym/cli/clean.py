"""`chaosgym clean`: remove what runs that were killed have left behind, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.sandbox.leftovers import Found

__all__ = ["EXAMPLE", "clean"]

EXAMPLE = "Example: chaosgym clean --dry-run"
_WHERE = ("all", "local", "docker", "kubernetes")


def clean(
    sandbox: Annotated[str, typer.Option(metavar="|".join(_WHERE), help="Where to look; all: wherever something answers.")] = "all",
    context: Annotated[str | None, typer.Option(help="For Kubernetes: the context of your kubeconfig; never guessed.")] = None,
    run: Annotated[str | None, typer.Option(metavar="ID", help="Only what this run has left: the label chaosgym.dev/run.")] = None,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Only what is older, as in 90s or 10m; 0 for any age.")] = "10m",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List, then remove, what runs that were killed have left: containers, networks, namespaces, state folders.

    Only what carries the labels of chaosgym is looked at, and nothing is removed whose run goes on, at any age.
    """
    from dataclasses import asdict

    from chaosgym.sandbox.leftovers import remove

    _check(sandbox, context)
    age = _read_age(older_than)
    found = [each for each in _find(sandbox, context) if run is None or each.run == run]
    chosen = [each for each in found if not each.alive and each.age >= age]
    if not as_json:
        _print(chosen)
    _tell_spared(found, chosen, older_than)
    left = [] if dry_run else remove(chosen, context=context or "")
    if as_json:
        print_json([asdict(each) | {"removed": not dry_run and each.name not in {one.name for one in left}} for each in chosen])
    if chosen:
        talk(f"{'would remove' if dry_run else 'removed'} {_count([each for each in chosen if each not in left])}")
    if left:
        talk(f"error: still there: {', '.join(f'{each.kind} {each.name}' for each in left)}; run it again, and see who holds it")
        raise typer.Exit(3)


def _check(sandbox: str, context: str | None) -> None:
    from chaosgym.errors import InputError, did_you_mean

    if sandbox not in _WHERE:
        raise InputError(f"unknown sandbox {sandbox!r}{did_you_mean(sandbox, _WHERE)}; known: {', '.join(_WHERE)}")
    if sandbox == "kubernetes" and not context:
        raise InputError("name the cluster to look into: --context NAME (kubectl config get-contexts lists them)")
    if context and sandbox not in ("kubernetes", "all"):
        raise InputError(f"--context is for --sandbox kubernetes, not for {sandbox}")


def _read_age(text: str) -> float:
    from chaosgym.errors import InputError
    from chaosgym.units import parse_duration

    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise InputError(f"--older-than: {error}") from error


def _find(sandbox: str, context: str | None) -> Iterator[Found]:
    from chaosgym.errors import PrerequisiteError
    from chaosgym.sandbox.leftovers import find_docker, find_folders, find_kubernetes

    yield from find_folders()  # the worker of every sandbox has one
    if sandbox in ("all", "docker"):
        try:
            yield from find_docker()
        except PrerequisiteError as error:
            if sandbox == "docker":
                raise
            talk(f"not looked into: {error}")
    if context:
        yield from find_kubernetes(context)
    elif sandbox == "all":
        talk("not looked into: Kubernetes; name the cluster with --context NAME")


def _print(chosen: Sequence[Found]) -> None:
    rows: list[dict[str, Any]] = [
        {"sandbox": each.sandbox, "kind": each.kind, "name": each.name, "run": each.run, "age": _minutes(each.age)} for each in chosen
    ]
    if rows:
        print_rows(rows, ("sandbox", "kind", "name", "run", "age"))
    else:
        talk("nothing is left behind")


def _tell_spared(found: Sequence[Found], chosen: Sequence[Found], older_than: str) -> None:
    alive = [each for each in found if each.alive]
    young = [each for each in found if not each.alive and each not in chosen]
    if alive:
        talk(f"spared, as their run goes on: {_count(alive)}")
    if young:
        talk(f"spared, as younger than {older_than}: {_count(young)} (--older-than 0 takes them too)")


def _count(found: Sequence[Found]) -> str:
    from collections import Counter

    return ", ".join(f"{number} {kind}{'s' * (number != 1)}" for kind, number in Counter(each.kind for each in found).items()) or "nothing"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
