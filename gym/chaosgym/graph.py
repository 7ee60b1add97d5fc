"""The graph of an app: who calls whom, and what must hold between components.

`app_problems` finds every reference to something that is not there, every request or message that would
come back to itself, every component that nothing uses and every request that fans out beyond reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

from chaosgym.document import Problem
from chaosgym.errors import did_you_mean
from chaosgym.source import Loc
from chaosgym.steps import CacheStep, CallStep, PublishStep, QueryStep, Step, StepAt, walk_steps

if TYPE_CHECKING:
    from chaosgym.app import AppSpec, Component

__all__ = ["Edge", "app_problems", "edges", "reachable"]

MAX_CALLS = 200
_SERVING = ("gateway", "service")
_OF_KIND = {"endpoints": _SERVING, "consumes": ("worker",), "tables": ("postgres",)}


_Node = tuple[str, ...]
"""What does work: (role, endpoint), or (role,) of a worker."""


class Edge(NamedTuple):
    """`source` talks to `target`: `http`, `postgresql` or `redis` (a worker is the source towards its stream)."""

    source: str
    target: str
    protocol: str


def component_steps(component: Component) -> Iterator[StepAt]:
    """Every step of a component, located from the component."""
    for name, endpoint in component.endpoints.items():
        yield from walk_steps(endpoint.steps, ("endpoints", name, "steps"))
    if component.consumes is not None:
        yield from walk_steps(component.consumes.steps, ("consumes", "steps"))


def _peer(step: Step) -> tuple[str, str] | None:
    """(component, protocol) that a step talks to."""
    if isinstance(step, CallStep):
        return step.call, "http"
    if isinstance(step, QueryStep):
        return step.query, "postgresql"
    if isinstance(step, CacheStep):
        return step.cache, "redis"
    return (step.publish, "redis") if isinstance(step, PublishStep) else None


def edges(spec: AppSpec) -> tuple[Edge, ...]:
    """Who talks to whom, by role, sorted, each pair once."""
    found: set[Edge] = set()
    for role, component in spec.components.items():
        found.update(Edge(role, *peer) for at in component_steps(component) if (peer := _peer(at.step)) is not None)
        if component.consumes is not None:
            found.add(Edge(role, component.consumes.redis, "redis"))
    return tuple(sorted(found))


def reachable(spec: AppSpec, start: str) -> frozenset[str]:
    """Roles that a request to `start` can touch: what is called, and the workers of streams that are written."""
    neighbours: dict[str, set[str]] = {role: set() for role in spec.components}
    for edge in edges(spec):
        neighbours.setdefault(edge.source, set()).add(edge.target)
    for stream, publishers in _publishers(spec).items():
        for role, component in spec.components.items():
            if component.consumes is not None and (component.consumes.redis, component.consumes.stream) == stream:
                for publisher in publishers:
                    neighbours[publisher].add(role)
    seen, waiting = set[str](), [start]
    while waiting:
        role = waiting.pop()
        if role not in seen:
            seen.add(role)
            waiting.extend(neighbours.get(role, ()))
    return frozenset(seen)


def _publishers(spec: AppSpec) -> dict[tuple[str, str], list[str]]:
    """(redis, stream) -> roles that publish to it."""
    found: dict[tuple[str, str], list[str]] = {}
    for role, component in spec.components.items():
        for at in component_steps(component):
            if isinstance(at.step, PublishStep):
                found.setdefault((at.step.publish, at.step.stream), []).append(role)
    return found


def app_problems(spec: AppSpec) -> list[Problem]:
    """Everything wrong between components; locations are relative to `spec`."""
    problems = [*_entry_problems(spec)]
    for role, component in spec.components.items():
        loc = ("components", role)
        problems += [Problem((*loc, *p.loc), p.message, p.key) for p in _component_problems(spec, component)]
    if not problems:  # the rest follows references, so they have to lead somewhere
        problems += [*_request_problems(spec), *_stream_problems(spec)]
    if not problems:
        used = reachable(spec, spec.entry)
        why = f"no request that starts at '{spec.entry}' uses it; call it or remove it"
        problems = [Problem(("components", role), why, key=True) for role in spec.components if role not in used]
    return problems


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`what` says who has no such thing, as in `'orders' has no endpoint`."""
    known = sorted(known)
    return f"{what} '{name}'; it has {', '.join(known) or 'none'}{did_you_mean(name, known)}"


def _entry_problems(spec: AppSpec) -> Iterator[Problem]:
    entry = spec.components.get(spec.entry)
    if entry is None:
        yield Problem(("entry",), _unknown("the app has no component", spec.entry, spec.components))
    elif entry.kind not in _SERVING:
        yield Problem(("entry",), f"'{spec.entry}' is a {entry.kind}; users talk to a gateway or a service")
    else:
        for name, journey in spec.journeys.items():
            for index, request in enumerate(journey.requests):
                if request not in entry.endpoints:
                    message = _unknown(f"'{spec.entry}' has no endpoint", request, entry.endpoints)
                    yield Problem(("journeys", name, "requests", index), message)


def _component_problems(spec: AppSpec, component: Component) -> Iterator[Problem]:
    given = {"endpoints": bool(component.endpoints), "consumes": component.consumes is not None, "tables": bool(component.tables)}
    for key, kinds in _OF_KIND.items():
        if given[key] and component.kind not in kinds:
            yield Problem((key,), f"a {component.kind} has no {key}; only a {' or '.join(kinds)} does", key=True)
        elif not given[key] and component.kind in kinds:
            yield Problem((), f"a {component.kind} needs {key}")
    if component.replicas > 1 and component.kind not in _SERVING:
        yield Problem(("replicas",), f"a {component.kind} has no replicas; only a {' or '.join(_SERVING)} does", key=True)
    if component.consumes is not None:
        yield from _reference(spec, component.consumes.redis, ("redis",), ("consumes", "redis"))
    for loc, step in component_steps(component):
        yield from _step_problems(spec, step, loc)


def _step_problems(spec: AppSpec, step: Step, loc: Loc) -> Iterator[Problem]:
    components = spec.components
    if isinstance(step, CallStep):
        wrong = list(_reference(spec, step.call, _SERVING, (*loc, "call")))
        yield from wrong
        if not wrong and step.endpoint not in (known := components[step.call].endpoints):
            yield Problem((*loc, "endpoint"), _unknown(f"'{step.call}' has no endpoint", step.endpoint, known))
    elif isinstance(step, QueryStep):
        wrong = list(_reference(spec, step.query, ("postgres",), (*loc, "query")))
        yield from wrong
        if not wrong and step.table not in (tables := components[step.query].tables):
            yield Problem((*loc, "table"), _unknown(f"'{step.query}' has no table", step.table, tables))
    elif isinstance(step, CacheStep):
        yield from _reference(spec, step.cache, ("redis",), (*loc, "cache"))
        if step.otherwise and step.operation != "get":
            yield Problem((*loc, "otherwise"), f"only 'get' can miss; '{step.operation}' takes no 'otherwise'")
    elif isinstance(step, PublishStep):
        yield from _reference(spec, step.publish, ("redis",), (*loc, "publish"))


def _reference(spec: AppSpec, role: str, kinds: tuple[str, ...], loc: Loc) -> Iterator[Problem]:
    fitting = [name for name, component in spec.components.items() if component.kind in kinds]
    if role not in spec.components:
        yield Problem(loc, _unknown("the app has no component of a fitting kind", role, fitting))
    elif role not in fitting:
        yield Problem(
            loc, f"'{role}' is a {spec.components[role].kind}; this needs a {' or '.join(kinds)}: {', '.join(sorted(fitting)) or 'none'}"
        )


def _request_problems(spec: AppSpec) -> Iterator[Problem]:
    """Requests and messages that come back to where they began, or that make more calls than anyone means."""
    work = _consequences(spec)
    try:
        order = list(TopologicalSorter(work).static_order())
    except CycleError as error:
        cycle: list[_Node] = list(reversed(error.args[1]))
        what = "a request calls itself" if all(len(node) == 2 for node in cycle) else "a message leads to itself"
        yield Problem(_place(cycle[0]), f"{what}: {' -> '.join('.'.join(node) for node in cycle)}; break the cycle", key=True)
        return
    size: dict[_Node, int] = {}
    for node in order:
        size[node] = 1 + sum(size[called] for called in work[node])
    for node in sorted(size, key=lambda node: size[node]):
        if size[node] > MAX_CALLS:
            what = "request" if len(node) == 2 else "message"
            yield Problem(_place(node), f"one {what} makes up to {size[node]:.3g} calls; at most {MAX_CALLS}")
            return


def _place(node: _Node) -> Loc:
    return ("components", node[0], "endpoints", node[1]) if len(node) == 2 else ("components", node[0], "consumes")


def _consequences(spec: AppSpec) -> dict[_Node, list[_Node]]:
    """What does work -> what it sets to work: the endpoints that it calls and the workers of the streams that it writes."""
    found: dict[_Node, list[_Node]] = {}
    for role, component in spec.components.items():
        for name, endpoint in component.endpoints.items():
            found[role, name] = list(_set_off(spec, endpoint.steps))
        if component.consumes is not None:
            found[role,] = list(_set_off(spec, component.consumes.steps))
    return found


def _set_off(spec: AppSpec, steps: Sequence[Step]) -> Iterator[_Node]:
    for _, step in walk_steps(steps):
        if isinstance(step, CallStep):
            yield step.call, step.endpoint
        elif isinstance(step, PublishStep):
            for role, component in spec.components.items():
                consumer = component.consumes
                if consumer is not None and (consumer.redis, consumer.stream) == (step.publish, step.stream):
                    yield (role,)


def _stream_problems(spec: AppSpec) -> Iterator[Problem]:
    written = _publishers(spec)
    for role, component in spec.components.items():
        consumer = component.consumes
        if consumer is not None and (consumer.redis, consumer.stream) not in written:
            streams = [stream for redis, stream in written if redis == consumer.redis]
            message = _unknown(f"'{consumer.redis}' is published no stream", consumer.stream, streams)
            yield Problem(("components", role, "consumes", "stream"), message)
