"""`chaosgym doctor`: what this machine can do, and the exact fix for what it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.doctor import Check

__all__ = ["EXAMPLE", "doctor"]

EXAMPLE = "Example: chaosgym doctor --json"


def doctor(
    sandbox: Annotated[
        str, typer.Option(help="Check what this one needs: local (live episodes), docker, kubernetes, or replay (recorded ones).")
    ] = "local",
    context: Annotated[str | None, typer.Option(help="With --sandbox kubernetes: the context of your kubeconfig, or `in-cluster`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check Python, packages, servers or engine, CPU, memory and disk; exit 3 when something needed is missing."""
    from dataclasses import asdict

    checks = _examine(sandbox, context)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_rows([asdict(check) for check in checks], ("status", "name", "found"))
        for check in checks:
            if check.fix:
                talk(f"{check.status} {check.name}: {check.fix}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(3)


def _examine(sandbox: str, context: str | None) -> list[Check]:
    from chaosgym.doctor import examine
    from chaosgym.errors import InputError

    if (sandbox == "kubernetes") != bool(context):
        hint = "name the cluster: --context NAME (kubectl config get-contexts lists them)"
        raise InputError(hint if sandbox == "kubernetes" else f"--context is for --sandbox kubernetes, not for {sandbox}")
    checks = examine(sandbox)
    if sandbox == "docker":
        from chaosgym.doctor_engines import examine_docker

        return [*checks, *examine_docker()]
    if sandbox == "kubernetes":
        from chaosgym.doctor_engines import examine_kubernetes

        return [*checks, *examine_kubernetes(context or "")]
    return checks
