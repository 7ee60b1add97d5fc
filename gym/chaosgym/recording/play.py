"""From an application that runs to an episode on disk: users, the timeline, what was seen, the header and the truth."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from chaosgym.episode import write_episode
from chaosgym.plan import Plan
from chaosgym.recording.header import make_header, make_truth
from chaosgym.recording.timeline import Marks, Progress, make_faults, run_timeline
from chaosgym.recording.visibility import symptoms_seen
from chaosgym.sandbox.live import LiveSandbox
from chaosgym.services.load import LoadGenerator

__all__ = ["Played", "play"]


@dataclass(frozen=True)
class Played:
    """An episode that went through."""

    path: Path
    marks: Marks
    visible: bool | None


async def play(sandbox: LiveSandbox, plan: Plan, users: LoadGenerator, identity: str, out: Path, progress: Progress) -> Played:
    """Play the timeline on a started sandbox, stop it and write the episode under `out`.

    Raises what the timeline raises, and InfrastructureError when the episode cannot be written.
    """
    await users.start()
    sandbox.users = users
    try:
        marks = await run_timeline(sandbox, users, progress)
    finally:
        sandbox.users = None
        await users.stop()
    sandbox.telemetry.spans.extend(users.rows())
    await sandbox.stop()
    await sandbox.collect_logs()
    header = make_header(plan, identity, sandbox.name, marks, sandbox.programs)
    tables = sandbox.telemetry.tables((marks.baseline.start, (marks.recovery or marks.incident).end))
    causes = (fault for fault, planned in zip(make_faults(plan), plan.faults, strict=True) if planned.cause)
    seen = [symptoms_seen({plan.components[fault.target].name: fault}, tables, header) for fault in causes]
    truth = make_truth(plan, marks, seen)
    path = await asyncio.to_thread(write_episode, out, header, tables, truth)
    return Played(path, marks, truth.visible)
