"""A careful investigator: a fixed method that asks, follows what fails inwards, and says what the signatures say.

    topology, alerts, events ──> one request that fails ──> metrics of the entry and of whom the trouble leads to,
    with the log of each that is not as it was ──> submit, once something explains it and nothing points elsewhere

It is no oracle: it answers from the findings that its own questions have shown (`chaosgym.incident.inquiry.learned`), with the
signatures of the rules agent. What it did is a list of chat messages with tool calls, fit to be imitated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaosgym.agents.agent import Investigation
from chaosgym.agents.rules import RulesAgent
from chaosgym.diagnosis import Diagnosis
from chaosgym.errors import InputError
from chaosgym.incident.findings import Findings, Incident
from chaosgym.incident.inquiry import SUBMIT, TOOLS, Evidence, Inquiry, learned, write_action
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.signals import CallSignals, ComponentSignals

__all__ = ["INVESTIGATION", "Message", "ScriptedInvestigator", "Transcript", "investigate"]

Message = dict[str, Any]
"""As chat templates take it: `role`, `content`, and `tool_calls` or the `name` of the tool that answers."""

INVESTIGATION = (
    "You are the engineer on call. Something may be broken: ask the tools, then call submit with the root cause, or with the verdict "
    "healthy when nothing is broken: a change alone is no fault. Name at most 3 causes, the likeliest first, with a probability "
    "each. Fault types:\n" + "\n".join(f"- {fault.name}: {fault.summary}" for fault in FAULT_TYPES.values())
)
"""What a model is told that investigates; the fault types come from the taxonomy."""

_ROW = re.compile(r"(?P<indent> +)\S+ -> (?P<to>\S+) .*?(?P<ms>\d+) ms(?P<failed>.* FAILED .*)?")
"""A call within a trace, as the tool `traces` writes it."""
_TROUBLE = 0.05
"""Below this, a component is not looked into further."""
_CHANGES = {"exit": 1.0, "restart": 0.6, "deployment": 0.4, "config_change": 0.4}
"""How much an event in the incident window says for a look at its component."""
_OFTEN = 4.0
"""Requests a second from which on a change of their rate says something."""
_EXPLAINED = 0.5
"""A cause this probable explains what those suffer who depend on it."""


@dataclass(frozen=True)
class Transcript:
    """An investigation from first to last."""

    messages: tuple[Message, ...]
    diagnosis: Diagnosis
    calls: int
    """Before `submit`."""
    spent: int
    """What they cost."""


@dataclass
class _Notes:
    """What the investigator keeps as it goes."""

    inquiry: Inquiry
    messages: list[Message]
    measured: set[str] = field(default_factory=set[str])
    """Whose metrics it has seen."""
    read: set[str] = field(default_factory=set[str])
    """Whose log it has read."""
    lead: str = ""
    """Where the requests that it looked at got stuck."""

    def ask(self, why: str, tool: str, arguments: Mapping[str, Any]) -> str:
        """Say why, ask, and keep the answer; nothing is asked beyond the budget."""
        budget, cost = self.inquiry.budget, TOOLS[tool].cost if tool in TOOLS else 0
        if tool in TOOLS and (self.inquiry.calls >= budget.calls or self.inquiry.spent + cost > budget.cost):
            return ""
        call = {"type": "function", "function": {"name": tool, "arguments": dict(arguments)}}
        text = self.inquiry.ask(write_action(tool, arguments)).text
        told = {"role": "tool", "name": tool, "content": text}
        self.messages += [{"role": "assistant", "content": why, "tool_calls": [call]}, told]
        return text

    def seen(self) -> Findings:
        """The findings that the answers so far contain."""
        return learned(self.inquiry.evidence, self.inquiry.answered)


def investigate(inquiry: Inquiry) -> Transcript:
    """Ask until nothing points further and something explains it, or the budget is nearly used up, then submit.

    `inquiry` must be fresh.
    """
    opening = [{"role": "system", "content": INVESTIGATION}, {"role": "user", "content": inquiry.opening()}]
    notes = _Notes(inquiry, opening)
    notes.ask("First, how the application hangs together.", "topology", {})
    notes.ask("What do users see?", "alerts", {})
    notes.ask("Did anything change or stop?", "events", {})
    _follow_a_request(notes)
    while (step := _next(notes)) is not None:
        why, tool, component = step
        if not notes.ask(why, tool, {"component": component}):
            break
        (notes.measured if tool == "metrics" else notes.read).add(component)
    diagnosis = _conclude(notes)
    notes.ask(_summary(diagnosis), SUBMIT, diagnosis.model_dump(mode="json"))
    return Transcript(tuple(notes.messages), diagnosis, inquiry.calls, inquiry.spent)


class ScriptedInvestigator:
    """The method as an agent."""

    name = "investigator"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """Raises InputError: a report holds nothing that could be asked."""
        raise InputError("investigator asks for what it wants to see and reads no reports; judge it with `chaosgym eval`")

    def investigate(self, evidence: Sequence[Evidence]) -> list[Investigation]:
        """Ask about each incident within the usual budget."""
        found = [investigate(Inquiry(one)) for one in evidence]
        return [Investigation(one.diagnosis.to_json(), one.calls, one.spent) for one in found]


def _follow_a_request(notes: _Notes) -> None:
    """Where users suffer, see how far one of their requests gets."""
    calls = notes.seen().alert.calls
    fails = calls.errors.growth > 0.02
    if fails or calls.p95.ratio(0.01) > 1.5:
        order, what = ("failing", "fail") if fails else ("slow", "take longer")
        text = notes.ask(f"Requests {what}. How far does one of them get?", "traces", {"order": order, "limit": 1})
        notes.lead = _deepest(text, fails)


def _deepest(trace: str, fails: bool) -> str:
    """Whom the innermost call went to that failed, or that took most of the request; empty when there is none."""
    rows = [found for line in trace.splitlines() if (found := _ROW.match(line))]
    longest = max((int(row["ms"]) for row in rows), default=0)
    stuck = [row for row in rows if (row["failed"] if fails else 2 * int(row["ms"]) >= longest)]
    return max(stuck, key=lambda row: len(row["indent"]))["to"] if stuck else ""


def _next(notes: _Notes) -> tuple[str, str, str] | None:
    """Why, which tool, of whom: the log of whoever was measured and is in trouble, else the metrics of who is pointed to."""
    seen = notes.seen()
    covered = _covered(notes, seen)
    return _next_to_read(notes, seen, covered) or _next_to_measure(notes, seen, covered)


def _next_to_read(notes: _Notes, seen: Findings, covered: set[str]) -> tuple[str, str, str] | None:
    candidates = notes.measured - notes.read - covered
    troubled = [(trouble, name) for name in candidates if (trouble := _trouble(notes, seen, name)) >= _TROUBLE]
    if not troubled:
        return None
    _, name = max(troubled)
    return f"{name} is not as it was. What does it say itself?", "logs", name


def _next_to_measure(notes: _Notes, seen: Findings, covered: set[str]) -> tuple[str, str, str] | None:
    """The entry first, then by how much points to a component.

    While nothing explains what was seen, the rest as well, where the budget allows: some trouble never reaches the edge.
    """
    header = notes.inquiry.evidence.header
    if header.entry not in notes.measured:
        return f"Users come in at {header.entry}: is it the one, or one of those it calls?", "metrics", header.entry
    left = [(name, _pointed(notes, seen, name)) for name in notes.inquiry.evidence.names if name not in notes.measured | covered]
    name, most = max(left, key=lambda item: item[1], default=("", 0.0))
    if most >= _TROUBLE:
        return f"Requests get stuck at {name}." if name == notes.lead else f"Calls, lines or events point to {name}.", "metrics", name
    if not left or covered:
        return None
    return f"Nothing points to {name}, but nothing explains it all yet either.", "metrics", name


def _covered(notes: _Notes, seen: Findings) -> set[str]:
    """Whose trouble a convincing cause explains: its own, and that of all who depend on it, unless they changed themselves.

    Convincing is a cause that is probable enough and whose log was read.
    """
    diagnosis = _conclude(notes)
    if not diagnosis.causes or diagnosis.ranked()[0].probability < _EXPLAINED or diagnosis.ranked()[0].component not in notes.read:
        return set()
    cause = diagnosis.ranked()[0].component
    found = {cause}
    edges = notes.inquiry.evidence.header.edges
    while more := {edge.source for edge in edges if edge.target in found} - found:
        found |= more
    return found - {event.component for event in seen.events if event.seconds >= 0} | {cause}


def _pointed(notes: _Notes, seen: Findings, name: str) -> float:
    """How much of what is known, beside its own figures, speaks for a look at a component."""
    calls = (edge.calls for (_, target), edge in seen.signals.edges.items() if target == name)
    changed = (_CHANGES.get(event.name, 0.0) for event in seen.events if event.component == name and event.seconds >= 0)
    told = (0.5 for log in seen.logs if log.peer == name and log.severity in ("warn", "error", "fatal"))
    return max([2.0 * (name == notes.lead), *map(_worse, calls), *changed, *told])  # a lead before all else


def _trouble(notes: _Notes, seen: Findings, name: str) -> float:
    """How far a measured component is from what it was: 0 is not at all, about 1 is a lot."""
    component = seen.signals.components.get(name)
    own = (_worse(component.served), _strained(component)) if component is not None else ()  # its figures may have been cut off
    return max((_pointed(notes, seen, name), *own))


def _worse(calls: CallSignals) -> float:
    """0 to 1: how much more of a flow fails, or how much longer it takes, or how much of it is gone."""
    errors = calls.errors.growth
    slower = calls.p95.ratio(0.01)
    rate = calls.rate.ratio(1.0)
    often = max(calls.rate) >= _OFTEN
    return max(
        min(1.0, 2 * errors) if errors > 0.01 else 0.0,
        min(0.8, 0.15 * (slower - 1.5)) if slower > 1.5 else 0.0,
        0.3 if often and (rate < 0.25 or rate > 3.0) else 0.0,
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


def _conclude(notes: _Notes) -> Diagnosis:
    """What the signatures make of everything that was learned."""
    names = notes.inquiry.evidence.names
    known = Incident(compact="", readable="", handles={}, components=names, alert="", findings=notes.seen())
    return Diagnosis.model_validate_json(RulesAgent().diagnose([known])[0])


def _summary(diagnosis: Diagnosis) -> str:
    if diagnosis.verdict == "healthy":
        return "Nothing that was seen adds up to a fault."
    cause = diagnosis.ranked()[0]
    fault = FAULT_TYPES.get(cause.fault)
    return f"What was seen fits {cause.fault} on {cause.component} best{f': {fault.summary}' if fault else ''}"
