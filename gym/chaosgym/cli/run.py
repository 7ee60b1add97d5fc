"""`chaosgym run`: one scenario live, with what happens as it happens and the report at the end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.dry_run import DryRunOption, announce, show_blast
from chaosgym.cli.output import JsonOption, print_json, talk
from chaosgym.cli.where import ContextOption, NamespaceOption, SandboxOption, choose

if TYPE_CHECKING:
    from chaosgym.recording.pool import Recorded

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "Example: chaosgym run process-crash --seed 7 --agent rules"


def run(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario or a YAML file.")],
    seed: Annotated[int, typer.Option(min=0, help="Draws names, target, parameters and decoys.")] = 0,
    agent: Annotated[str, typer.Option(help="Who diagnoses it at the end: rules, most-errors, slm:MODEL, ...")] = "rules",
    app: Annotated[str | None, typer.Option(help="A YAML file to stand in for the application that it names.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the episode in this folder.")] = None,
    sandbox: SandboxOption = "local",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    namespaces: Annotated[bool, typer.Option(help="local: use private namespaces where the system allows them.")] = True,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one scenario on real processes, then print the report, what an agent says to it and the truth."""
    from chaosgym.agents import make_agent
    from chaosgym.drawing import draw_plan
    from chaosgym.recording.pool import Pool
    from chaosgym.scenarios import load_app, load_scenario, refuse_impossible

    chosen, judge = load_scenario(scenario), make_agent(agent)
    application = load_app(app or chosen.spec.app)
    refuse_impossible(chosen, application)
    choice, _ = choose(sandbox, [chosen], namespaces=namespaces, context=context, namespace=namespace)
    if dry_run:
        show_blast(choice, [draw_plan(application, chosen, seed)], 1, as_json=as_json)
        return
    announce(choice)
    began = time.monotonic()

    def progress(phase: str, detail: str) -> None:
        talk(f"{time.monotonic() - began:5.2f} s  {phase:<9} {detail}")

    with _folder(out) as folder, Pool(1, choice) as pool:
        progress("ready", f"a {choice.name} sandbox with its own PostgreSQL and Redis")
        recorded = pool.record(chosen, application, seed, folder, progress)
        result = tell(recorded, judge, keep=out is not None)
    if as_json:
        print_json(result)
    elif recorded.status == "ok":
        print_result(result)
    if recorded.status != "ok":
        talk(f"error: unscorable: {recorded.reason}")
        raise typer.Exit(3)


@contextmanager
def _folder(out: Path | None) -> Generator[Path]:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="chaosgym-run-") as folder:
        yield Path(folder)


def tell(recorded: Recorded, agent: Any, *, keep: bool) -> dict[str, Any]:
    from chaosgym.episode import read_episode
    from chaosgym.incident import compile_incident
    from chaosgym.rewards import score
    from chaosgym.truth import read_truth

    result: dict[str, Any] = {"path": str(recorded.path) if keep else None, "status": recorded.status, "reason": recorded.reason}
    if recorded.status != "ok":
        return result
    incident, truth = compile_incident(read_episode(recorded.path)), read_truth(recorded.path)
    answer = agent.diagnose([incident])[0]
    scored = score(answer, truth, incident.components)
    return {
        **result,
        "visible": recorded.visible,
        "report": incident.readable,
        "agent": agent.name,
        "diagnosis": answer,
        "reward": scored.total,
        "terms": dict(scored.terms),
        "truth": truth.model_dump(mode="json"),
    }


def print_result(result: dict[str, Any]) -> None:
    truth, reward = result["truth"], result["reward"]
    causes = ", ".join(f"{c['fault']} on {c['component']}" for c in truth["causes"]) or "nothing was broken"
    print(result["report"].rstrip())
    print(f"\n{result['agent']} says  {result['diagnosis']}")
    print(f"the truth   {causes}" + ("" if result["visible"] is not False else " (left no visible trace: not scored)"))
    print(f"reward      {'not scored' if reward is None else f'{reward:.3f}'}")
    if result["path"]:
        print(f"episode     {result['path']}")
