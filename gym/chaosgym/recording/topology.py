"""How a failure travels: from a component up its callers to the entry."""

from __future__ import annotations

from collections import deque

from chaosgym.app import App
from chaosgym.graph import edges

__all__ = ["chain_to_entry"]


def chain_to_entry(app: App, role: str) -> list[str]:
    """Roles on a shortest path from `role` up its callers to the entry; `role` alone when nothing leads there."""
    callers: dict[str, list[str]] = {}
    for edge in edges(app.spec):
        callers.setdefault(edge.target, []).append(edge.source)
    paths = deque([[role]])
    seen = {role}
    while paths:
        path = paths.popleft()
        if path[-1] == app.spec.entry:
            return path
        fresh = [caller for caller in callers.get(path[-1], ()) if caller not in seen]
        seen.update(fresh)
        paths.extend([*path, caller] for caller in fresh)
    return [role]
