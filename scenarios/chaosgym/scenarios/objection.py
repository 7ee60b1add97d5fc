"""An Objection: what a fault itself has against a component of a kind that it fits.

Some need more than a kind: a stream that is consumed, an endpoint that takes a body, a dependency to slow down. They say so in
`inject`, before they act, and here they are asked on a sandbox that only takes notes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from chaosgym.document import Problem
from chaosgym.drawing import draw_plan
from chaosgym.errors import FaultError
from chaosgym.faults import fault_class, make_fault
from chaosgym.faults.double import RecordingSandbox
from chaosgym.plan import Plan
from chaosgym.scenario import Scenario
from chaosgym.scenarios.case import Case

__all__ = ["objections"]

_ENOUGH = 0.2
"""Seconds: who has not objected by then has begun to act."""


def objections(scenario: Scenario, found: Sequence[Case]) -> Iterator[Problem]:
    """Of every target of the scenario, asked once with each of its words; `found` are cases without other problems."""
    asked = {(case.index, case.target, tuple(sorted(_words(case).items()))): case for case in found}
    if not asked:
        return
    app = found[0].app
    plan = replace(draw_plan(app, scenario, 0), proxied=tuple(app.spec.components))
    for case in asked.values():
        (why,) = _ask(plan, case, [case.target])
        if why is not None:
            kinds = fault_class(case.spec.fault).kinds
            others = [role for role, c in app.spec.components.items() if c.kind in kinds and role != case.target]
            fitting = [role for role, no in zip(others, _ask(plan, case, others), strict=True) if no is None]
            instead = f"in this app {', '.join(fitting)} would do" if fitting else "this app has nothing else for it"
            yield Problem(case.target_place, f"{why}; {instead}")


def _words(case: Case) -> dict[str, str]:
    """Its parameters but for quantities, to which nobody objects here: their limits have been checked."""
    values = {name: case.value(written) for name, written in case.spec.parameters.items()}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _ask(plan: Plan, case: Case, roles: Sequence[str]) -> list[str | None]:
    """In a thread of its own, because whoever checks a scenario may have a loop running."""
    parameters = {name: case.value(written) for name, written in case.spec.parameters.items()}

    async def ask_all() -> list[str | None]:
        return [await _objection(plan, case.spec.fault, role, parameters) for role in roles]

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask_all()).result()


async def _objection(plan: Plan, label: str, role: str, parameters: dict[str, object]) -> str | None:
    sandbox = RecordingSandbox(plan, fail_at=0)
    try:
        async with asyncio.timeout(_ENOUGH):
            await make_fault(label, role, parameters).inject(sandbox)
    except FaultError as error:
        return None if sandbox.calls else str(error)
    except Exception:  # noqa: BLE001 - it has begun to act, which fails; or it is wrong in itself, which `faults check` tells
        return None
    return None
