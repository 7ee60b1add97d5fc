"""`chaosgym investigate`: how a careful engineer would go about one recorded episode, question by question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaosgym.cli.output import JsonOption, print_json
from chaosgym.cli.place import PLACE, find_place

if TYPE_CHECKING:
    from chaosgym.agents.investigator import Transcript

__all__ = ["EXAMPLE", "investigate"]

EXAMPLE = "Example: chaosgym investigate episodes/e0123456789abcde --truth"


def investigate(
    episode: Annotated[Path, typer.Argument(parser=find_place, metavar=PLACE, help="An episode.")],
    calls: Annotated[int, typer.Option(min=1, help="Questions that may be asked.")] = 20,
    cost: Annotated[int, typer.Option(min=1, help="What they may cost together.")] = 30,
    tokens: Annotated[int, typer.Option(min=100, help="Tokens of one answer.")] = 600,
    truth: Annotated[bool, typer.Option(help="Also tell what was broken, and the reward.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the tools of a recorded episode as a scripted investigator does, and print the transcript."""
    from chaosgym.agents.investigator import investigate as run_investigation
    from chaosgym.episode import read_episode
    from chaosgym.incident.inquiry import Budget, Inquiry, gather

    opened = read_episode(episode)
    inquiry = Inquiry(gather(opened), Budget(calls, cost, tokens))
    transcript = run_investigation(inquiry)
    result: dict[str, Any] = {"name": opened.header.id, "calls": transcript.calls, "spent": transcript.spent}
    result |= {"messages": list(transcript.messages), "diagnosis": transcript.diagnosis.model_dump(mode="json")}
    if truth:
        result |= _judge(episode, inquiry)
    if as_json:
        print_json(result)
    else:
        _print(transcript, result)


def _judge(episode: Path, inquiry: Any) -> dict[str, Any]:
    from chaosgym.envs.investigate import investigation_reward
    from chaosgym.rewards import score
    from chaosgym.truth import read_truth

    told = read_truth(episode)
    scored = score(inquiry.diagnosis, told, inquiry.evidence.names)
    reward = None if scored.total is None else investigation_reward(scored, inquiry.share)
    return {"reward": reward, "terms": {**scored.terms, "spending": inquiry.share}, "truth": told.model_dump(mode="json")}


def _print(transcript: Transcript, result: dict[str, Any]) -> None:
    """What a model would be told of fault types is left out: people have `chaosgym faults`."""
    for message in transcript.messages[1:]:
        for call in message.get("tool_calls", ()):
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            print(f"\n# {message['content']}\n> {call['function']['name']} {arguments}")
        if "tool_calls" not in message:
            print(message["content"])
    if "truth" in result:
        causes = ", ".join(f"{c['fault']} on {c['component']}" for c in result["truth"]["causes"]) or "nothing was broken"
        print(f"\nthe truth   {causes}\nreward      {'not scored' if result['reward'] is None else format(result['reward'], '.4f')}")
