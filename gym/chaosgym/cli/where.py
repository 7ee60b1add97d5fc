"""The options that say in which sandbox a command runs; the same on every command that breaks something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaosgym.sandbox.choice import SandboxChoice
    from chaosgym.scenario import Scenario

__all__ = ["ContextOption", "NamespaceOption", "SandboxOption", "choose"]

SandboxOption = Annotated[str, typer.Option(metavar="local|docker|kubernetes", help="Where the services run.")]
ContextOption = Annotated[
    str | None, typer.Option(help="With --sandbox kubernetes: the context of your kubeconfig, or `in-cluster`; never guessed.")
]
NamespaceOption = Annotated[
    str | None, typer.Option(metavar="PREFIX", help="With --sandbox kubernetes: what the namespaces that it makes are called.")
]


def choose(
    sandbox: str, scenarios: Sequence[Scenario], *, namespaces: bool = True, context: str | None = None, namespace: str | None = None
) -> tuple[SandboxChoice, list[Scenario]]:
    """The sandbox that was asked for, and those of the scenarios that run on it; what is left out of many is told.

    Raises InputError when none runs on it.
    """
    from chaosgym.cli.output import talk
    from chaosgym.errors import InputError
    from chaosgym.sandbox.choice import read_choice
    from chaosgym.scenarios import runs_on

    choice = read_choice(sandbox, namespaces=namespaces, context=context, namespace=namespace)
    fitting = [scenario for scenario in scenarios if choice.name in runs_on(scenario)]
    others = [scenario.metadata.name for scenario in scenarios if scenario not in fitting]
    if others and not fitting:
        able = ", ".join(runs_on(scenarios[0])) or "no sandbox"
        raise InputError(f"scenario {others[0]!r} runs on {able}, not on {choice.name}; choose another")
    if others:
        talk(f"left out, because they do not run on {choice.name}: {', '.join(others)}")
    return choice, fitting
