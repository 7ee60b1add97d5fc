"""What a worker does: boot its sandbox once, then record one episode per job.

A job is `{"app": ..., "scenario": ..., "seed": n, "out": directory, "id": name, "faults": [file, ...]}` with the documents
as JSON and the files of a user's own faults.
Whatever the machinery spoils is recorded as an unscorable episode with its reason. A sandbox that does not
come clean afterwards says so (`burn`), and the pool replaces its worker.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaosgym.app import App
from chaosgym.drawing import draw_plan
from chaosgym.errors import ChaosgymError, InfrastructureError
from chaosgym.faults.own import load_file
from chaosgym.plan import Plan
from chaosgym.recording.failure import write_failure
from chaosgym.recording.play import play
from chaosgym.recording.timeline import Progress
from chaosgym.sandbox.live import LiveSandbox
from chaosgym.sandbox.namespaces import Isolation
from chaosgym.scenario import Scenario
from chaosgym.services.load import LoadGenerator

__all__ = ["serve"]

_STOP_TIMEOUT = 10.0
_OVERRUN = 25.0
"""Seconds beyond the timeline's own length after which an episode counts as hung."""


async def serve(control: socket.socket, make: Callable[[], LiveSandbox], isolation: Isolation) -> None:
    """Make the sandbox and boot it, then answer jobs until the runner closes the socket."""
    reader, writer = await asyncio.open_connection(sock=control, limit=2**22)
    try:
        sandbox = make()
        await sandbox.boot()
    except (ChaosgymError, OSError) as error:
        await _say(writer, {"failed": str(error), "exit_code": getattr(error, "exit_code", 3)})
        return
    await _say(writer, {"ready": True, "namespaced": isolation.namespaced, "reason": isolation.reason})
    while line := await reader.readline():
        await _say(writer, await _answer(sandbox, json.loads(line), writer))
    await sandbox.close()


async def _answer(sandbox: LiveSandbox, job: dict[str, Any], writer: asyncio.StreamWriter) -> dict[str, Any]:
    def progress(phase: str, detail: str) -> None:
        if job["progress"]:
            writer.write(_line({"progress": phase, "detail": detail}))

    for file in job["faults"]:
        load_file(Path(file))
    app, scenario = App.model_validate(job["app"]), Scenario.model_validate(job["scenario"])
    plan = draw_plan(app, scenario, job["seed"])
    line = scenario.spec.timeline
    done: dict[str, Any]
    try:
        async with asyncio.timeout(_OVERRUN + line.warmup + line.baseline + line.incident + line.recovery):
            done = await _record(sandbox, plan, job, progress)
    except (ChaosgymError, TimeoutError, OSError) as error:
        done = _record_failure(plan, job, sandbox.name, str(error) or "timed out: the sandbox hung")
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await sandbox.stop()
    except (InfrastructureError, OSError) as error:  # a TimeoutError is an OSError
        done["burn"] = str(error) or "the sandbox did not stop in time"
    return done


async def _record(sandbox: LiveSandbox, plan: Plan, job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    progress("start", f"{len(plan.components)} components of {plan.app.metadata.name}")
    await sandbox.start(plan)
    progress("serving", "every service listens")
    users = LoadGenerator(plan, *sandbox.entry_address, seed=plan.seed)
    played = await play(sandbox, plan, users, job["id"], Path(job["out"]), progress)
    return {"done": str(played.path), "status": "ok", "visible": played.visible}


def _record_failure(plan: Plan, job: dict[str, Any], sandbox: str, reason: str) -> dict[str, Any]:
    try:
        path = write_failure(plan, job["id"], Path(job["out"]), sandbox, reason)
    except ChaosgymError as error:
        return {"failed": str(error), "exit_code": error.exit_code}
    return {"done": str(path), "status": "unscorable", "reason": reason}


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


async def _say(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(_line(message))
    await writer.drain()
