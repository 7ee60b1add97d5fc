"""`chaosgym doctor`: what this machine can do, and the exact fix for what it cannot."""

from __future__ import annotations

from typing import Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

__all__ = ["EXAMPLE", "doctor"]

EXAMPLE = "Example: chaosgym doctor --json"


def doctor(
    sandbox: Annotated[str, typer.Option(help="Check what this one needs: local (live episodes) or replay (recorded ones).")] = "local",
    as_json: JsonOption = False,
) -> None:
    """Check Python, packages, servers, namespaces, CPU, memory and disk; exit 3 when something needed is missing."""
    from dataclasses import asdict

    from chaosgym.doctor import examine

    checks = examine(sandbox)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_rows([asdict(check) for check in checks], ("status", "name", "found"))
        for check in checks:
            if check.fix:
                talk(f"{check.status} {check.name}: {check.fix}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(3)
