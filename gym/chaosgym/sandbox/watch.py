"""The monitoring of a local sandbox: samples every process and datastore, and enforces memory limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from chaosgym.errors import SandboxError
from chaosgym.plan import Plan
from chaosgym.sandbox.datastores import Postgres, Redis
from chaosgym.sandbox.proc import children
from chaosgym.sandbox.supervisor import Supervisor
from chaosgym.telemetry.postgres import sample_postgres
from chaosgym.telemetry.process import ProcessSampler
from chaosgym.telemetry.redis import sample_redis
from chaosgym.telemetry.store import TelemetryBuffer

__all__ = ["Watch"]

SAMPLE_EVERY = 0.3
LIMIT_EVERY = 0.1
_STOP_TIMEOUT = 3.0


class Watch:
    """Runs beside an episode, from `start` to `stop`."""

    def __init__(self, telemetry: TelemetryBuffer, supervisor: Supervisor, postgres: Postgres, redis: Redis) -> None:
        self._telemetry, self._supervisor, self._postgres, self._redis = telemetry, supervisor, postgres, redis
        self._tasks: list[asyncio.Task[None]] = []
        self._kinds: dict[str, str] = {}
        self._stopping = False

    def start(self, plan: Plan) -> None:
        """Begin to sample the components of `plan`."""
        self._kinds = {role: component.kind for role, component in plan.app.spec.components.items()}
        self._stopping = False
        self._tasks = [asyncio.create_task(self._sample(plan)), asyncio.create_task(self._limit())]

    async def stop(self) -> None:
        """End the sampling. Raises what a sampler raised, and SandboxError when one does not end."""
        tasks, self._tasks = self._tasks, []
        self._stopping = True
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        done, pending = await asyncio.wait(tasks, timeout=_STOP_TIMEOUT)
        if pending:
            raise SandboxError("a sampler hangs: a datastore does not answer")
        for task in done:
            if not task.cancelled() and (error := task.exception()):
                raise error

    def pids(self, role: str) -> Sequence[int]:
        """Every process of a component; a database's include its backends."""
        kind = self._kinds.get(role)
        if kind == "redis":
            return self._redis.pids
        if kind == "postgres":
            return [child for pid in self._postgres.pids for child in (pid, *children(pid))]
        return self._supervisor.pids(role)

    async def _sample(self, plan: Plan) -> None:
        sampler = ProcessSampler()
        while not self._stopping:  # a client may swallow the cancellation of its caller
            now = time.time_ns()
            for role, component in plan.components.items():
                self._telemetry.metrics.extend(sampler.sample(self.pids(role), component.name, now))
                if self._kinds[role] == "postgres":
                    self._telemetry.metrics.extend(await sample_postgres(self._postgres.monitor, component.name, now))
                elif self._kinds[role] == "redis":
                    self._telemetry.metrics.extend(await sample_redis(self._redis.client, component.name, now))
            await asyncio.sleep(SAMPLE_EVERY)

    async def _limit(self) -> None:
        while not self._stopping:
            self._supervisor.enforce_memory()
            await asyncio.sleep(LIMIT_EVERY)
