"""The timeline of an episode on any sandbox: settle, baseline, break, watch, heal.

    start - warmup - [ baseline ][ ... inject ... incident ] - heal - recovery - stop

The public windows are in brackets. The incident window opens where the baseline ends and the fault goes in
a random moment later, so that no edge tells when it did. A baseline that breaks the App's SLO
makes the episode unscorable: whatever follows would be blamed on the fault.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from chaosgym.app import Slo
from chaosgym.episode import Window
from chaosgym.errors import SandboxError
from chaosgym.faults import make_fault
from chaosgym.faults.base import Fault
from chaosgym.plan import DecoyPlan, Plan
from chaosgym.sandbox.base import ObservedSandbox, Pressure, Sandbox
from chaosgym.services.load import EdgeSample, LoadGenerator

__all__ = ["UNSTEADY", "Marks", "Progress", "make_faults", "run_timeline"]

UNSTEADY = "baseline not steady"
"""How the reason begins when users were not served well before anything was broken."""

Progress = Callable[[str, str], None]
"""(phase, detail): what the timeline is doing now, for people who watch."""


@dataclass(frozen=True)
class Marks:
    """When things happened, Unix nanoseconds."""

    baseline: Window
    incident: Window
    injected: int | None
    healed: int | None
    recovery: Window | None


def make_faults(plan: Plan) -> list[Fault]:
    """The faults of a plan, ready to apply."""
    return [make_fault(f.fault, f.target, f.parameters) for f in plan.faults]


async def run_timeline(sandbox: ObservedSandbox, load: LoadGenerator, progress: Progress) -> Marks:
    """Play the timeline of `sandbox.plan` on a started sandbox with running load; always heals.

    Raises SandboxError when the baseline is not steady, FaultError when a fault did not take.
    """
    plan = sandbox.plan
    timeline = plan.scenario.spec.timeline
    await asyncio.sleep(timeline.warmup)
    progress("baseline", f"{timeline.baseline:g} s of normal traffic")
    opened = time.time_ns()
    decoys = [asyncio.create_task(_apply_decoy(sandbox, load, decoy)) for decoy in plan.decoys]
    try:
        await asyncio.sleep(timeline.baseline)
        baseline = Window(opened, time.time_ns())
        _check_steady(plan.app.spec.slo, load.samples, baseline)
        marks = await _incident(sandbox, plan, baseline, progress)
    finally:
        await _finish(decoys)
    return await _recover(sandbox, marks, timeline.recovery, progress)


async def _incident(sandbox: ObservedSandbox, plan: Plan, baseline: Window, progress: Progress) -> Marks:
    injected: int | None = None
    await asyncio.sleep(plan.inject_offset)
    async with AsyncExitStack() as stack:
        for fault, planned in zip(make_faults(plan), plan.faults, strict=True):
            await asyncio.sleep(planned.after)
            progress("inject", f"{fault.label} on {plan.components[fault.target].name}")
            await stack.enter_async_context(_in_force(fault, sandbox, planned.intermittent))
            injected = injected or time.time_ns()
        progress("incident", f"{plan.scenario.spec.timeline.incident:g} s of watching")
        await asyncio.sleep(plan.scenario.spec.timeline.incident)
        incident = Window(baseline.end, time.time_ns())
        await sandbox.deliver()
        progress("heal", "undoing the fault" if plan.faults else "nothing to undo")
    return Marks(baseline, incident, injected, time.time_ns() if injected else None, None)


@asynccontextmanager
async def _in_force(fault: Fault, sandbox: Sandbox, intermittent: tuple[float, float] | None) -> AsyncGenerator[None]:
    """The fault applied, all the time or by turns; healed on every way out. Raises what an unsuccessful turn raised."""
    async with fault.applied(sandbox):
        if intermittent is None:
            yield
            return
        turns = asyncio.create_task(_take_turns(fault, sandbox, *intermittent))
        try:
            yield
        finally:
            turns.cancel()
            (ended,) = await asyncio.gather(turns, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended


async def _take_turns(fault: Fault, sandbox: Sandbox, on: float, off: float) -> None:
    while True:
        await asyncio.sleep(on)
        await fault.heal(sandbox)
        await asyncio.sleep(off)
        await fault.inject(sandbox)


async def _recover(sandbox: ObservedSandbox, marks: Marks, seconds: float, progress: Progress) -> Marks:
    if seconds <= 0:
        return marks
    progress("recovery", f"{seconds:g} s after healing")
    settle = seconds / 2
    await asyncio.sleep(settle)
    opened = time.time_ns()
    await asyncio.sleep(seconds - settle)
    recovery = Window(opened, time.time_ns())
    await sandbox.deliver()
    return Marks(marks.baseline, marks.incident, marks.injected, marks.healed, recovery)


async def _apply_decoy(sandbox: Sandbox, load: LoadGenerator, decoy: DecoyPlan) -> None:
    await asyncio.sleep(decoy.offset)
    if decoy.kind == "traffic":
        load.rate_factor = decoy.parameters["factor"]
    elif decoy.kind == "old_error":
        await load.background.press(Pressure("probing", rate=decoy.parameters["rate"]))
    elif decoy.kind == "neighbour":
        await asyncio.to_thread(_compute, decoy.parameters["seconds"])
    else:
        await sandbox.restart(decoy.target, version=decoy.parameters.get("version"))


def _compute(seconds: float) -> None:
    """What somebody else's job does to the machine; hashing leaves the interpreter to others."""
    block, done = bytes(1 << 16), time.thread_time() + seconds
    while time.thread_time() < done:
        hashlib.sha256(block).digest()


async def _finish(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise SandboxError(f"a harmless change failed: {result}") from result


def _check_steady(slo: Slo, samples: Sequence[EdgeSample], window: Window) -> None:
    inside = [s for s in samples if window.start <= s.time_unix_nano < window.end]
    if len(inside) < 5:
        raise SandboxError(f"{UNSTEADY}: only {len(inside)} requests finished in it; is the machine overloaded?")
    failed = [s for s in inside if not s.ok]
    if len(failed) / len(inside) > slo.errors:
        raise SandboxError(f"{UNSTEADY}: {len(failed)} of {len(inside)} requests failed (allowed share {slo.errors:g})")
    p95 = float(np.percentile([s.duration for s in inside], 95))
    if p95 > slo.p95:
        slow = f"p95 latency {p95 * 1000:.0f} ms (allowed {slo.p95 * 1000:.0f} ms)"
        raise SandboxError(f"{UNSTEADY}: {slow}; is the machine overloaded?")
