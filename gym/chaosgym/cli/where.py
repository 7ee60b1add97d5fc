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
) -> SandboxChoice:
    """The sandbox that was asked for. Raises InputError when a scenario is not meant for it."""
    from chaosgym.errors import InputError
    from chaosgym.sandbox.choice import read_choice
    from chaosgym.scenarios import runs_on

    choice = read_choice(sandbox, namespaces=namespaces, context=context, namespace=namespace)
    for scenario in scenarios:
        if choice.name not in (able := runs_on(scenario)):
            raise InputError(f"scenario {scenario.metadata.name!r} runs on {', '.join(able)}, not on {choice.name}; choose another")
    return choice
