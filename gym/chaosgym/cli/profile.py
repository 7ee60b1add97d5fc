"""`chaosgym scenario profile`: how difficult scenarios are, measured on recorded episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, talk
from chaosgym.cli.place import PLACE, find_place

__all__ = ["PROFILE_EXAMPLE", "profile"]

PROFILE_EXAMPLE = "Example: chaosgym scenario profile --episodes episodes --agent slm:runs/sft/latest"


def profile(
    episodes: Annotated[Path, typer.Option(parser=find_place, metavar=PLACE, help="Where recorded episodes are.")],
    pattern: Annotated[str, typer.Argument(metavar="[GLOB]", help="Names of scenarios in it; all of them by default.")] = "*",
    agent: Annotated[
        list[str] | None, typer.Option(help="An agent to measure beside the rails, as `chaosgym eval` takes it; may be repeated.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, help="How many tries pass@k has.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Draws handles, the order of rows and what random agents say.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables into this file as well.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Profile scenarios: pass@1 and pass@k of the rails and of agents, what is taken for what, and the best one-feature rule."""
    from chaosgym.agents import make_agent
    from chaosgym.episode import list_episodes
    from chaosgym.errors import InfrastructureError
    from chaosgym.evaluation import make_profile

    agents = [make_agent(name, seed=seed) for name in agent or ()]
    found = make_profile(list_episodes(episodes), agents, pattern=pattern, k=k, seed=seed)
    text = found.to_markdown(confusion=[*(each.name for each in agents), "rules"])
    if markdown is not None:
        try:
            markdown.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InfrastructureError(f"{markdown}: cannot be written ({error.strerror or error}); check space and permissions") from error
        talk(f"wrote {markdown}")
    if as_json:
        print_json(found.to_json())
    else:
        print(text)
