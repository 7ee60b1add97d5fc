"""Who talks to whom, read off the App: the public edges of an episode and the way a failure travels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from chaosgym.app import App, CacheStep, CallStep, Component, PublishStep, QueryStep, Step

__all__ = ["chain_to_entry", "role_edges"]


def _peers(steps: Iterable[Step]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if isinstance(step, CallStep):
            yield step.call, "http"
        elif isinstance(step, QueryStep):
            yield step.query, "postgresql"
        elif isinstance(step, PublishStep):
            yield step.publish, "messaging"
        elif isinstance(step, CacheStep):
            yield step.cache, "redis"
            yield from _peers(step.otherwise)


def _component_peers(component: Component) -> Iterator[tuple[str, str]]:
    for endpoint in component.endpoints.values():
        yield from _peers(endpoint.steps)
    if component.consumes is not None:
        yield component.consumes.redis, "messaging"
        yield from _peers(component.consumes.steps)


def role_edges(app: App) -> list[tuple[str, str, str]]:
    """(source role, target role, protocol), each once, in the order of the App."""
    found: dict[tuple[str, str, str], None] = {}
    for role, component in app.spec.components.items():
        for peer, protocol in _component_peers(component):
            found[(role, peer, protocol)] = None
    return list(found)


def chain_to_entry(app: App, role: str) -> list[str]:
    """Roles on a shortest path from `role` up its callers to the entry; `role` alone when nothing leads there."""
    callers: dict[str, list[str]] = {}
    for source, target, _ in role_edges(app):
        callers.setdefault(target, []).append(source)
    paths = deque([[role]])
    seen = {role}
    while paths:
        path = paths.popleft()
        if path[-1] == app.spec.entry:
            return path
        for caller in callers.get(path[-1], ()):
            if caller not in seen:
                seen.add(caller)
                paths.append([*path, caller])
    return [role]
