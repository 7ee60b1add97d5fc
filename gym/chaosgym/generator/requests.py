"""What a generated application does: requests drawn one after another, until they use every component.

Each leads from the gateway to a component that none uses yet, with side calls where there is room, and sets off at
most `MOST_SPANS` spans, those of workers included.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from chaosgym.generator.draft import READS, TABLES, WRITES, Draft, Endpoint, Step, Work

__all__ = ["MOST_SPANS", "draw_requests"]

MOST_SPANS = 12
"""Of one request when every cache misses and nothing is tried again; the user's own is one of them."""
_FEWEST_REQUESTS = 3


def draw_requests(draft: Draft) -> list[str]:
    """Endpoints of the gateway that together use every component."""
    names: list[str] = []
    services = [role for roles in draft.layers[1:] for role in roles]
    while draft.fresh or len(names) < _FEWEST_REQUESTS:
        goal = draft.fresh[0] if draft.fresh else draft.random.choice(services)
        write = goal not in services or draft.random.random() < 0.35
        names.append(_add_endpoint(draft, "gateway", goal, write, MOST_SPANS - 1).name)
    return names


def _add_endpoint(draft: Draft, role: str, goal: str, write: bool, room: int) -> Endpoint:
    """A new endpoint of `role` that leads to `goal` (which may be `role`) and sets off at most `room` spans, its own included."""
    random = draft.random
    _use(draft, role)
    main = _own_work(draft, role, write, room - 1) if goal == role else _way(draft, role, goal, write, room - 1)
    side = _side_calls(draft, role, room - 1 - main.spans)
    steps = [*side.steps, *main.steps] if random.random() < 0.5 or "publish" in main.steps[-1] else [*main.steps, *side.steps]
    taken = draft.endpoints[role]
    name = _free_name(random, WRITES if write else READS, taken)
    taken[name] = {"method": random.choice(("POST", "POST", "PUT")), "steps": steps} if write else {"steps": steps}
    calls = goal != role or bool(side.steps)
    endpoint = Endpoint(role, name, 1 + main.spans + side.spans, reads=not write, calls=calls)
    draft.known.append(endpoint)
    return endpoint


def _use(draft: Draft, role: str) -> None:
    if role in draft.fresh:
        draft.fresh.remove(role)


def _free_name(random: Random, words: Sequence[str], taken: dict[str, Any]) -> str:
    free = [word for word in words if word not in taken]
    return random.choice(free) if free else f"{random.choice(words)}-{len(taken) + 1}"


def _need(draft: Draft, role: str, goal: str) -> int:
    """The fewest spans that an endpoint of `role` sets off on the way to `goal`, and one of work there."""
    return 2 + 2 * (draft.layer[goal] - draft.layer[role])


def _way(draft: Draft, role: str, goal: str, write: bool, room: int) -> Work:
    """One step down towards `goal`, through a component that nothing uses yet if there is one; at times behind a cache."""
    random = draft.random
    if draft.layer[goal] == draft.layer[role] + 1 and goal not in draft.endpoints:
        return _publish(draft, goal, room)
    hop = goal
    if draft.layer[goal] > draft.layer[role] + 1:
        below = draft.layers[draft.layer[role] + 1]
        hop = random.choice([other for other in below if other in draft.fresh] or below)
    spare = room - 1 - _need(draft, hop, goal)
    kept = random.choice((0, 0, min(spare, 3)))
    target = _add_endpoint(draft, hop, goal, write, room - 1 - kept)
    call = Work([_call(draft, role, target)], 1 + target.spans)
    if write or call.spans + 2 > room or random.random() < 0.7:
        return call
    return Work([_behind_cache(draft, call.steps)], call.spans + 2)


def _publish(draft: Draft, worker: str, room: int) -> Work:
    """A message for `worker`, and what that does with it."""
    _use(draft, worker)
    work = _own_work(draft, worker, True, room - 2)
    call = _reused(draft, 0, room - 2 - work.spans) if draft.random.random() < 0.3 else None
    draft.consumed[worker] = [*([] if call is None else [_call(draft, worker, call)]), *work.steps]
    return Work([{"publish": "cache", "stream": worker}], 2 + work.spans + (0 if call is None else 1 + call.spans))


def _side_calls(draft: Draft, role: str, room: int) -> Work:
    """Calls beside the way down: to what nothing uses yet, else to what others use too."""
    random, found, spans = draft.random, list[Step](), 0
    for _ in range(random.choice((0, 1, 1, 2))):
        below = [other for other in draft.fresh if other in draft.endpoints and draft.layer[other] > draft.layer[role]]
        left = room - spans - 1
        if below and left >= 2:
            other = random.choice(below)
            target = _add_endpoint(draft, other, other, False, left)
        elif (target := _reused(draft, draft.layer[role], left + 1)) is None:
            break
        found.append(_call(draft, role, target, optional=random.random() < 0.4))
        spans += 1 + target.spans
    return Work(found, spans)


def _reused(draft: Draft, above: int, room: int) -> Endpoint | None:
    """An endpoint below the layer `above` that others call and that reads; None when none fits."""
    fitting = [e for e in draft.known if e.reads and draft.layer[e.role] > above and 1 + e.spans <= room]
    return draft.random.choice(fitting) if fitting else None


def _call(draft: Draft, role: str, target: Endpoint, optional: bool = False) -> Step:
    """Timeouts shrink on the way down; what calls nobody itself is tried again, where its caller has the time."""
    depth = draft.layer[role]
    step: Step = {"call": target.role, "endpoint": target.name}
    if depth == 0 or target.calls:
        step |= {"timeout": ("800ms", "600ms", "450ms", "300ms", "300ms")[depth], "retries": 0}
    else:
        step |= {"timeout": "300ms"} | ({"retries": 0} if depth > 2 else {})
    return step | ({"optional": True} if optional else {})


def _own_work(draft: Draft, role: str, write: bool, room: int) -> Work:
    """What a component does itself within `room` spans (at least one): with the database, with the cache, or on the CPU."""
    random = draft.random
    compute: list[Step] = [{"compute": "1ms"}] if random.random() < 0.25 else []
    if role in draft.database_users:
        operation = random.choice(("insert", "insert", "update") if write else ("get", "get", "list", "search"))
        query: Step = {"query": "database", "table": _table(draft, role), "operation": operation}
        if write or room < 3 or random.random() < 0.4:
            return Work([*compute, query], 1)
        return Work([_behind_cache(draft, [query]), *compute], 3)
    if write:
        operation = random.choice(("set", "increment"))
        return Work([*compute, {"cache": "cache", "operation": operation, "key": _key(draft), "ttl": "60s"}], 1)
    if room < 2 or random.random() < 0.3:
        return Work([{"compute": "1ms"}], 0)
    return Work([_behind_cache(draft, [{"compute": "1ms"}])], 2)


def _behind_cache(draft: Draft, steps: list[Step]) -> Step:
    return {"cache": "cache", "key": _key(draft), "ttl": draft.random.choice(("500ms", "1s", "2s")), "otherwise": steps}


def _key(draft: Draft) -> str:
    draft.keys += 1
    return f"entry-{draft.keys}"


def _table(draft: Draft, role: str) -> str:
    """The table of a component: one of its own, or now and then that of another."""
    if role not in draft.tables:
        used = list(dict.fromkeys(draft.tables.values()))
        shared = used and draft.random.random() < 0.25
        draft.tables[role] = draft.random.choice(used if shared else [table for table in TABLES if table not in used])
    return draft.tables[role]
