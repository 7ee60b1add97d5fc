"""Faults of the application itself: a version with a bug in it, and retries that make a bad day worse."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.network import assert_toxic, clear_toxic, put_toxic
from chaosgym.faults.rollout import Rollout, RolloutFault
from chaosgym.graph import edges
from chaosgym.sandbox.base import Capability, Sandbox, Toxic
from chaosgym.units import Count, Duration, Name, Number

__all__ = [
    "BadDeploy", "BlockingCall", "ConnectionLeak", "Deadlock", "DefectRollout", "IncompatibleAnswer", "RepeatedQueries", "RetryStorm",
    "SlowRelease",
]  # fmt: skip


class DefectRollout(RolloutFault):
    """A version that goes out with a real defect of `chaosgym.services.defects` in it."""

    new_version = True

    @abstractmethod
    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        """Which one."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"defect": self.defect(sandbox)}


class BadDeploy(DefectRollout):
    """The next version goes out with a bug: it throws on a share of the inputs, always the same ones.

    The component answers 500 with a traceback in its log for some requests and is well for the rest;
    its resources and its dependencies are as they were.
    """

    label = "application.bad_deploy"
    documented = "https://sre.google/workbook/canarying-releases/"
    kinds = frozenset({"service"})
    symptoms = (
        Symptom("component", "errors"),
        Symptom("component", "log", pattern=r"Traceback|\b[A-Z]\w*Error\b"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.01, le=1.0)] = 0.5
        """Share of the inputs that it throws on, 0.01 to 1."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"kind": "raise", "share": self.parameters.share, "flavour": self.draw(sandbox).randrange(1_000)}


class BlockingCall(DefectRollout):
    """The next version makes a blocking call in its event loop: while it waits, nobody else is served.

    Every route of the component gets slow together, more so under load, while it uses no CPU and what it
    calls answers as fast as ever.
    """

    label = "application.blocking_call"
    documented = "https://docs.python.org/3/library/asyncio-dev.html"
    kinds = frozenset({"gateway", "service"})
    symptoms = (
        Symptom("component", "latency"),
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        seconds: Annotated[Duration, Field(ge=0.01, le=2.0)] = 0.15
        """Of each request, `10ms` to `2s`."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"kind": "block", "seconds": self.parameters.seconds}


class SlowRelease(DefectRollout):
    """The next version computes more than it should in every request: a regression of its performance.

    The component burns CPU in step with its traffic, and its latency grows; its dependencies are idle.
    """

    label = "application.slow_release"
    documented = "https://sre.google/workbook/canarying-releases/"
    symptoms = (
        Symptom("component", "cpu"),
        Symptom("component", "latency"),
        Symptom("callers", "latency"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        seconds: Annotated[Duration, Field(ge=0.005, le=1.0)] = 0.06
        """CPU time of each request, `5ms` to `1s`."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"kind": "burn", "seconds": self.parameters.seconds}


class Deadlock(DefectRollout):
    """The next version takes a lock and does not give it back: the first request passes, all others wait for ever.

    The process is alive, answers its health check and goes on measuring itself; requests come in and none goes out.
    """

    label = "application.deadlock"
    documented = "https://docs.python.org/3/library/asyncio-sync.html"
    kinds = frozenset({"service", "worker"})
    symptoms = (
        Symptom("component", "rate", "down"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: locked is locked."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"kind": "deadlock"}


class RepeatedQueries(DefectRollout):
    """The next version asks the database once more for each row that it found (N+1 queries).

    Many short statements take the place of one: the calls to the database per request multiply, none of them
    slow, and the request takes as long as all of them.
    """

    label = "application.repeated_queries"
    documented = "https://docs.sqlalchemy.org/en/20/orm/queryguide/relationships.html"
    kinds = frozenset({"service", "worker"})
    symptoms = (
        Symptom("component", "latency"),
        Symptom("callers", "latency"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        count: Annotated[Count, Field(ge=2, le=500)] = 25
        """Further queries after each, 2 to 500."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        self.peer(sandbox, "postgresql", None)
        return {"kind": "queries", "count": self.parameters.count}


class ConnectionLeak(DefectRollout):
    """The next version does not give its database connections back: after a few requests its pool is empty.

    Statements time out waiting for a connection (`connections in use: 4 of 4`), while the database itself is idle
    and answers everybody else.
    """

    label = "application.connection_leak"
    documented = "https://docs.sqlalchemy.org/en/20/core/pooling.html"
    kinds = frozenset({"service", "worker"})
    symptoms = (
        Symptom("component", "log", pattern=r"connections in use: \d+ of \d+"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: each one is kept."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        self.peer(sandbox, "postgresql", None)
        return {"kind": "connections"}


class IncompatibleAnswer(DefectRollout):
    """The next version calls a field of its answers otherwise: its callers do not find what they read.

    The component answers 200 and sees nothing wrong; whoever calls it throws `KeyError` on the answer.
    """

    label = "application.incompatible_answer"
    documented = "https://protobuf.dev/programming-guides/proto3/#updating"
    kinds = frozenset({"service"})
    symptoms = (
        Symptom("callers", "log", pattern=r"KeyError: 'result'"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: the field is there or it is not."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        if not any(e.target == self.target for e in edges(sandbox.plan.app.spec)):
            raise FaultError(f"{self.label}: nobody calls {self.target!r}, so nobody can misread it")
        return {"kind": "reshape"}


class RetryStorm(Fault):
    """A dependency gets slow, and the component tries again and again: at once, without backoff or breaker.

    Its timeout is shorter than the answer takes, so every attempt is given up and repeated: the load on
    the dependency multiplies, and what would have been slow fails. The cause is the retry policy.
    """

    label = "application.retry_storm"
    documented = "https://www.usenix.org/conference/osdi22/presentation/huang-lexiang"
    kinds = frozenset({"gateway", "service"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart", "link"})
    symptoms = (
        Symptom("component", "errors"),
        Symptom("component", "latency"),
        Symptom("component", "log", pattern=r"(?i)retry|attempt|timed? ?out"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        retries: Annotated[Count, Field(ge=1, le=10)] = 6
        """Attempts after the first, 1 to 10."""
        delay: Annotated[Duration, Field(ge=0.01, le=5.0)] = 0.12
        """How late packets to and from the dependency are, `10ms` to `5s`."""
        dependency: Name | None = None
        """The component that gets slow; when it is left out, the first by name that the target calls."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._rollout = Rollout(self.label, target)
        self._slowed: str | None = None

    def _dependency(self, sandbox: Sandbox) -> str:
        calls = [e.target for e in edges(sandbox.plan.app.spec) if e.source == self.target and e.protocol == "http"]
        wanted = self.parameters.dependency
        if not calls or (wanted is not None and wanted not in calls):
            known = ", ".join(calls) or "nothing"
            raise FaultError(f"{self.label}: {self.target!r} does not call {wanted or 'anything'}; it calls {known}")
        return wanted or calls[0]

    @property
    def _toxic(self) -> Toxic:
        return Toxic(latency=self.parameters.delay, jitter=0.2 * self.parameters.delay)

    @property
    def _settings(self) -> dict[str, Any]:
        """An answer takes 1.6 to 2.4 delays (there and back): none comes before the attempt is given up."""
        return {"retries": self.parameters.retries, "backoff": 0.0, "timeout": 0.5 * self.parameters.delay, "breaker": False}

    async def inject(self, sandbox: Sandbox) -> None:
        slowed = self._slowed = self._dependency(sandbox)
        await self._rollout.out(sandbox, self._settings, new_version=False)
        await put_toxic(sandbox, slowed, self._toxic, self.label)

    async def verify(self, sandbox: Sandbox) -> None:
        await self._rollout.verify(sandbox)
        await assert_toxic(sandbox, self._dependency(sandbox), self._toxic, self.label)

    async def heal(self, sandbox: Sandbox) -> None:
        try:
            if self._slowed is not None:
                await clear_toxic(sandbox, self._slowed)
        finally:
            await self._rollout.back(sandbox)
