"""A careful investigator: a fixed method that asks, follows what fails inwards, and says what the signatures say.

    topology, alerts, events ──> metrics of the entry ──> of whom it waits for or fails on ──> logs of who is in trouble ──> submit

It is no oracle: it answers from the findings that its own questions have shown (`chaosgym.incident.inquiry.learned`), with the
signatures of the rules agent. What it did is a list of chat messages with tool calls, fit to be imitated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chaosgym.agents.rules import RulesAgent
from chaosgym.diagnosis import Diagnosis
from chaosgym.incident.findings import Findings, Incident
from chaosgym.incident.inquiry import SUBMIT, TOOLS, Inquiry, learned, write_action
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.signals import CallSignals, ComponentSignals

__all__ = ["INVESTIGATION", "Message", "Transcript", "investigate"]

Message = dict[str, Any]
"""As chat templates take it: `role`, `content`, and `tool_calls` or the `name` of the tool that answers."""

INVESTIGATION = (
    "You are the engineer on call. Something may be broken: ask the tools, then call submit with the root cause, or with the verdict "
    "healthy when nothing is broken: a change alone is no fault. Name at most 3 causes, the likeliest first, with a probability "
    "each. Fault types:\n" + "\n".join(f"- {fault.name}: {fault.summary}" for fault in FAULT_TYPES.values())
)
"""What a model is told that investigates; the fault types come from the taxonomy."""

_TROUBLE = 0.05
"""Below this, a component is not looked into further."""
_CHANGES = {"exit": 1.0, "restart": 0.6, "deployment": 0.4, "config_change": 0.4}
"""How much an event in the incident window says for a look at its component."""
_EXPLAINED = 0.5
"""With a cause this probable, components that nothing points to are left alone."""


@dataclass(frozen=True)
class Transcript:
    """An investigation from first to last."""

    messages: tuple[Message, ...]
    diagnosis: Diagnosis
    calls: int
    """Before `submit`."""
    spent: int
    """What they cost."""


def investigate(inquiry: Inquiry) -> Transcript:
    """Ask until nothing points further and something explains it, or the budget is nearly used up, then submit; `inquiry` must be fresh."""
    messages: list[Message] = [
        {"role": "system", "content": INVESTIGATION},
        {"role": "user", "content": inquiry.opening()},
    ]
    for why, tool, arguments in _questions(inquiry):
        messages += _turn(inquiry, why, tool, arguments)
    diagnosis = _conclude(inquiry)
    messages += _turn(inquiry, _summary(diagnosis), SUBMIT, diagnosis.model_dump(mode="json"))
    return Transcript(tuple(messages), diagnosis, inquiry.calls, inquiry.spent)


def _turn(inquiry: Inquiry, why: str, tool: str, arguments: Mapping[str, Any]) -> list[Message]:
    call = {"type": "function", "function": {"name": tool, "arguments": dict(arguments)}}
    reply = inquiry.ask(write_action(tool, arguments))
    return [{"role": "assistant", "content": why, "tool_calls": [call]}, {"role": "tool", "name": tool, "content": reply.text}]


def _questions(inquiry: Inquiry) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Why, which tool, with what; each one is answered before the next is thought of."""
    first = (
        ("First, how the application hangs together.", "topology"),
        ("What do users see?", "alerts"),
        ("Did anything change or stop?", "events"),
    )
    for why, tool in first:
        if _affords(inquiry, tool):
            yield why, tool, {}
    measured: set[str] = set()
    read: set[str] = set()
    while True:
        seen = learned(inquiry.evidence, inquiry.asked)
        found = _next_to_read(seen, measured - read) or _next_to_measure(inquiry, seen, measured)
        if found is None or not _affords(inquiry, found[1]):
            return
        why, tool, component = found
        (measured if tool == "metrics" else read).add(component)
        yield why, tool, {"component": component}


def _affords(inquiry: Inquiry, tool: str) -> bool:
    budget = inquiry.budget
    return inquiry.calls < budget.calls and inquiry.spent + TOOLS[tool].cost <= budget.cost


def _next_to_read(seen: Findings, candidates: set[str]) -> tuple[str, str, str] | None:
    """Whoever of those already measured is in most trouble, to have its log read."""
    troubled = [(trouble, name) for name in candidates if (trouble := _trouble(seen, name)) >= _TROUBLE]
    if not troubled:
        return None
    _, name = max(troubled)
    return f"{name} is not as it was. What does it say itself?", "logs", name


def _next_to_measure(inquiry: Inquiry, seen: Findings, measured: set[str]) -> tuple[str, str, str] | None:
    """Whoever has not been measured and has most pointing to it; the entry first.

    While nothing explains what was seen, the rest as well, where the budget allows: some trouble never reaches the edge.
    """
    header = inquiry.evidence.header
    if header.entry not in measured:
        return f"Users come in at {header.entry}: is it the one, or one of those it calls?", "metrics", header.entry
    left = [(name, _pointed(seen, name)) for name in inquiry.evidence.names if name not in measured]
    name, most = max(left, key=lambda item: item[1], default=("", 0.0))
    if most >= _TROUBLE:
        return f"Calls, lines or events point to {name}.", "metrics", name
    if not left or _is_explained(_conclude(inquiry)):
        return None
    return f"Nothing points to {name}, but nothing explains it all yet either.", "metrics", name


def _is_explained(diagnosis: Diagnosis) -> bool:
    return bool(diagnosis.causes) and diagnosis.ranked()[0].probability >= _EXPLAINED


def _pointed(seen: Findings, name: str) -> float:
    """How much of what is known speaks for a look at a component that was not measured."""
    calls = (edge.calls for (_, target), edge in seen.signals.edges.items() if target == name)
    changed = (_CHANGES.get(event.name, 0.0) for event in seen.events if event.component == name and event.seconds >= 0)
    told = (0.5 for log in seen.logs if log.peer == name and log.severity in ("warn", "error", "fatal"))
    return max([*map(_worse, calls), *changed, *told], default=0.0)


def _trouble(seen: Findings, name: str) -> float:
    """How far a measured component is from what it was: 0 is not at all, about 1 is a lot."""
    component = seen.signals.components[name]
    return max(_pointed(seen, name), _worse(component.served), _strained(component))


def _worse(calls: CallSignals) -> float:
    """0 to 1: how much more of a flow fails, or how much longer it takes, or how much of it is gone."""
    errors = calls.errors.growth
    slower = calls.p95.ratio(0.01)
    rate = calls.rate.ratio(1.0)
    return max(
        min(1.0, 2 * errors) if errors > 0.01 else 0.0,
        min(0.8, 0.15 * (slower - 1.5)) if slower > 1.5 else 0.0,
        0.5 if rate < 0.4 or rate > 2.5 else 0.0,
    )


def _strained(component: ComponentSignals) -> float:
    """0 to 1: silent, or short of something."""
    silent = max((quiet for quiet in (component.process_quiet, component.quiet) if not math.isnan(quiet)), default=0.0)
    shares = (component.files_share, component.slots, component.full)
    short = (
        silent > 0.5,
        component.cpu.growth > 0.08,
        component.memory.ratio(16 * 2**20) > 1.3,
        component.threads.ratio(8.0) > 1.5,
        component.files.ratio(16.0) > 1.5,
        component.locks.growth > 0,
        component.evicted.growth > 0 or component.refused.growth > 0,
        any(share.after > 0.7 and share.growth > 0.1 for share in shares),
    )
    return 0.6 * any(short)


def _conclude(inquiry: Inquiry) -> Diagnosis:
    """What the signatures make of everything that was learned."""
    seen = learned(inquiry.evidence, inquiry.asked)
    known = Incident(compact="", readable="", handles={}, components=inquiry.evidence.names, alert="", findings=seen)
    return Diagnosis.model_validate(json.loads(RulesAgent().diagnose([known])[0]))


def _summary(diagnosis: Diagnosis) -> str:
    if diagnosis.verdict == "healthy":
        return "Nothing that was seen adds up to a fault."
    cause = diagnosis.ranked()[0]
    fault = FAULT_TYPES.get(cause.fault)
    return f"What was seen fits {cause.fault} on {cause.component} best{f': {fault.summary}' if fault else ''}"
