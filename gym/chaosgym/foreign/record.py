"""One episode on an application that runs already: attach, watch, break, heal, watch it recover, let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from chaosgym.episode import Window
from chaosgym.errors import ChaosgymError
from chaosgym.foreign.app import ForeignApp
from chaosgym.foreign.host import Found, make_host
from chaosgym.foreign.keeper import keeper
from chaosgym.foreign.load import LoadedApp
from chaosgym.foreign.plan import make_plan
from chaosgym.foreign.refusal import possible_faults, refuse
from chaosgym.foreign.sandbox import ForeignSandbox
from chaosgym.foreign.users import ForeignUsers, Outcome, ask
from chaosgym.plan import Plan
from chaosgym.recording.failure import write_failure
from chaosgym.recording.play import play
from chaosgym.recording.pool import Recorded, episode_id
from chaosgym.recording.timeline import Marks, Progress
from chaosgym.sandbox.base import Capability
from chaosgym.scenario import Scenario
from chaosgym.services.load import EdgeSample

__all__ = ["Checked", "Watched", "attached", "check", "heal", "record"]


@dataclass(frozen=True)
class Checked:
    """A component as `check` found it."""

    found: Found
    faults: tuple[str, ...]
    """What it can have."""
    lacks: Mapping[Capability, str]
    """What its file allows and cannot be done here, with the reason."""


@dataclass(frozen=True)
class Watched:
    """What became of an episode on a foreign application."""

    recorded: Recorded
    recovered: bool | None
    """Whether its users were served well again after healing; None when nobody looked."""


@asynccontextmanager
async def attached(loaded: LoadedApp) -> AsyncGenerator[ForeignSandbox]:
    """A sandbox around the application, watched by a keeper; everything is undone on every way out."""
    sandbox = ForeignSandbox(loaded, make_host(loaded.app))
    try:
        await sandbox.boot()
        with keeper(loaded.path, sandbox.journal.path):
            try:
                yield sandbox
            finally:  # whoever is impatient and interrupts this, too, leaves it to the keeper
                await asyncio.shield(sandbox.put_back())
    finally:
        await sandbox.close()


async def check(loaded: LoadedApp) -> tuple[list[Checked], list[str], dict[str, Outcome]]:
    """Everything found, what else runs there, and what came of each probe. Nothing is changed."""
    async with attached(loaded) as sandbox:
        rows: list[Checked] = []
        for role, component in loaded.app.spec.components.items():
            lacks: dict[Capability, str] = {need: why for need, why in sandbox.lacks[role].items() if need in component.allow}
            rows.append(Checked(sandbox.found[role], tuple(possible_faults(loaded, role, sandbox.lacks)), lacks))
        async with aiohttp.ClientSession() as session:
            url, probes = loaded.app.spec.url, loaded.app.spec.probes
            outcomes = {name: await ask(session, url, probe, 0) for name, probe in probes.items()}
        return rows, list(sandbox.others), outcomes


async def heal(loaded: LoadedApp, *, wait: bool = False) -> list[str]:
    """Undo what runs that were cut off have left behind; returns what that was."""
    sandbox = ForeignSandbox(loaded, make_host(loaded.app))
    try:
        await sandbox.attach(running=False, wait=wait)
        return await sandbox.undo_all()
    finally:
        await sandbox.close()


async def record(loaded: LoadedApp, scenario: Scenario, seed: int, out: Path, progress: Progress) -> Watched:
    """Play `scenario` and write the episode under `out`; what the machinery spoils is written as unscorable."""
    async with attached(loaded) as sandbox:
        refuse(loaded, scenario, sandbox.lacks)
        plan = make_plan(loaded.app, scenario, seed, sandbox.found)
        identity = f"{episode_id(scenario, plan.app, seed)}-{time.time_ns() // 10**9}"  # no two looks at what lives are the same
        if sandbox.endpoint:
            progress("listening", f"for OpenTelemetry at {sandbox.endpoint}")
        try:
            return await _play(loaded.app, sandbox, plan, identity, out, progress)
        except (ChaosgymError, OSError) as error:
            reason = str(error) or "a step took too long; is the machine overloaded?"
            return Watched(Recorded(write_failure(plan, identity, out, sandbox.name, reason), "unscorable", None, reason), None)


async def _play(app: ForeignApp, sandbox: ForeignSandbox, plan: Plan, identity: str, out: Path, progress: Progress) -> Watched:
    users = ForeignUsers(plan, app.spec, seed=plan.seed)
    await sandbox.start(plan)
    played = await play(sandbox, plan, users, identity, out, progress)
    return Watched(Recorded(played.path, "ok", played.visible, ""), _recovered(app, users.samples, played.marks))


def _recovered(app: ForeignApp, samples: list[EdgeSample], marks: Marks) -> bool | None:
    """Whether the share of failures after healing is what the SLO allows."""
    window: Window | None = marks.recovery
    if window is None:
        return None
    inside = [sample for sample in samples if window.start <= sample.time_unix_nano < window.end]
    failed = sum(not sample.ok for sample in inside)
    return bool(inside) and failed / len(inside) <= app.spec.slo.errors
