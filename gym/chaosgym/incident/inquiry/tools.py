"""The tools of an investigation: what each one takes, tells and costs, and how an action is read.

    {"tool": "logs", "arguments": {"component": "checkout", "severity": "error"}}

An action that cannot be read becomes a `Refusal`, whose text says what is wrong and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from chaosgym.diagnosis import Diagnosis
from chaosgym.errors import did_you_mean
from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.logs import LogQuery, show_logs
from chaosgym.incident.inquiry.metrics import MetricQuery, show_metrics
from chaosgym.incident.inquiry.public import EventQuery, Query, show_alerts, show_events, show_topology
from chaosgym.incident.inquiry.traces import TraceQuery, show_traces

__all__ = ["REFUSED", "SUBMIT", "TOOLS", "Call", "Refusal", "Submission", "Tool", "manual", "read_action", "write_action"]

REFUSED = 1
"""What an action that cannot be read costs."""
SUBMIT = "submit"
_EXAMPLE = '{"tool": "logs", "arguments": {"component": "NAME", "severity": "warn"}}'
_DIAGNOSIS = (
    '{"tool": "submit", "arguments": {"verdict": "fault", "causes": [{"component": "NAME", "fault": "TYPE", "probability": 0.9}], '
    '"evidence": ["NAME ..."]}} or {"tool": "submit", "arguments": {"verdict": "healthy"}}'
)
_SHOWN = 60
"""Characters of what the agent wrote that an error repeats."""
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Tool:
    """A question that can be put to the telemetry."""

    name: str
    cost: int
    """In units of the budget of an episode."""
    summary: str
    arguments: type[Query]
    answer: Callable[[Evidence, Any], list[str]]
    """From evidence and arguments to lines of text; no lines where nothing matches."""
    narrower: str
    """How to ask for less."""


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool("topology", 1, "components, and who calls whom", Query, show_topology, "there is no more to ask"),
        Tool("alerts", 1, "what users see, route by route", Query, show_alerts, "the worst routes come first"),
        Tool("events", 1, "deploys, changes of configuration, restarts, exits", EventQuery, show_events, "name a component or a time"),
        Tool("metrics", 1, "figures before -> during the incident, of a component or of a metric", MetricQuery, show_metrics,
             "name a component and a metric"),
        Tool("logs", 2, "log lines, counted before -> during the incident", LogQuery, show_logs, "name a component, a severity or a text"),
        Tool("traces", 3, "requests that failed or were slowest, as trees of calls", TraceQuery, show_traces, "lower limit"),
    )
}


@dataclass(frozen=True)
class Call:
    """A question that can be answered."""

    tool: Tool
    query: Query


@dataclass(frozen=True)
class Submission:
    """The diagnosis that ends an investigation."""

    diagnosis: Diagnosis


@dataclass(frozen=True)
class Refusal:
    """An action that cannot be read."""

    text: str


def manual() -> str:
    """One line per tool with its arguments and cost, and how to answer."""
    takes = {name: ", ".join(f"{argument}?" for argument in tool.arguments.model_fields) for name, tool in TOOLS.items()}
    lines = [f"- {name}({takes[name]}) costs {tool.cost}: {tool.summary}" for name, tool in TOOLS.items()]
    return "\n".join([
        f"Write one JSON object: {_EXAMPLE}. Tools:", *lines,
        f"- submit ends it: {_DIAGNOSIS}",
        "Times (since, until) are seconds from the end of the baseline; negative is before the incident.",
    ])


def write_action(tool: str, arguments: Mapping[str, Any]) -> str:
    """The text of an action."""
    return json.dumps({"tool": tool, "arguments": dict(arguments)}, ensure_ascii=False)


def read_action(action: object, names: Collection[str]) -> Call | Submission | Refusal:
    """What an action asks for; `names` are the components that exist. Never raises."""
    if not isinstance(action, str):
        return Refusal(f"an action is a text, not {type(action).__name__}; write {_EXAMPLE}")
    try:
        found = json.loads(action)
    except (ValueError, RecursionError):
        return Refusal(f"not one JSON object: {action[:_SHOWN]!r}; write {_EXAMPLE}")
    if not isinstance(found, dict):
        return Refusal(f"an action is an object, not {type(found).__name__}; write {_EXAMPLE}")
    return _read_object(cast(dict[str, Any], found), names)


def _read_object(found: dict[str, Any], names: Collection[str]) -> Call | Submission | Refusal:
    strange = [key for key in found if key not in ("tool", "arguments")]
    if strange or not isinstance(found.get("tool"), str):
        return Refusal(f"an action has a tool and arguments, and nothing beside them (here: {_list(found)}); write {_EXAMPLE}")
    name, arguments = found["tool"], found.get("arguments", {})
    if name not in TOOLS and name != SUBMIT:
        known = (*TOOLS, SUBMIT)
        return Refusal(f"no tool {name[:_SHOWN]!r}{did_you_mean(name[:_SHOWN], known)}; tools: {', '.join(known)}")
    if not isinstance(arguments, dict):
        return Refusal(f"arguments of {name} are an object, not {type(arguments).__name__}; write {_EXAMPLE}")
    given = cast(dict[str, Any], arguments)
    return _read_submission(given, names) if name == SUBMIT else _read_call(TOOLS[name], given, names)


def _read_call(tool: Tool, arguments: dict[str, Any], names: Collection[str]) -> Call | Refusal:
    query = _validated(tool.arguments, arguments)
    if isinstance(query, str):
        return Refusal(f"{tool.name}: {query}; arguments: {', '.join(tool.arguments.model_fields) or 'none'}")
    component = getattr(query, "component", None)
    if component is not None and component not in names:
        return Refusal(_unknown(component, names))
    return Call(tool, query)


def _read_submission(arguments: dict[str, Any], names: Collection[str]) -> Submission | Refusal:
    diagnosis = _validated(Diagnosis, arguments)
    if isinstance(diagnosis, str):
        return Refusal(f"submit: {diagnosis}; write {_DIAGNOSIS}")
    unknown = next((cause.component for cause in diagnosis.causes if cause.component not in names), None)
    return Submission(diagnosis) if unknown is None else Refusal(_unknown(unknown, names))


def _validated(model: type[M], arguments: dict[str, Any]) -> M | str:
    """The model, or what is wrong with the arguments."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        told = (f"{'.'.join(map(str, e['loc']))[:_SHOWN] or 'arguments'}: {e['msg']}" for e in error.errors(include_url=False)[:3])
        return "; ".join(told)
    except RecursionError:
        return "nested too deeply"


def _unknown(component: str, names: Collection[str]) -> str:
    short = component[:_SHOWN]
    return f"no component {short!r}{did_you_mean(short, names)}; components: {', '.join(names)}"


def _list(found: Mapping[str, Any]) -> str:
    return ", ".join(key[:_SHOWN] for key in list(found)[:5]) or "nothing"
