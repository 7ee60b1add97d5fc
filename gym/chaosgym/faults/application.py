"""Faults of the application itself: a version with a bug in it, and retries that make a bad day worse."""

from __future__ import annotations

import random
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.network import assert_toxic, clear_toxic, put_toxic
from chaosgym.faults.rollout import Rollout
from chaosgym.graph import edges
from chaosgym.sandbox.base import Capability, Sandbox, Toxic
from chaosgym.units import Count, Duration, Name, Number

__all__ = ["BadDeploy", "RetryStorm"]


class BadDeploy(Fault):
    """The next version goes out with a bug: it throws on a share of the inputs, always the same ones.

    The component answers 500 with a traceback in its log for some requests and is well for the rest;
    its resources and its dependencies are as they were.
    """

    label = "application.bad_deploy"
    kinds = frozenset({"service"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart"})
    symptoms = (
        Symptom("component", "errors"),
        Symptom("component", "log", pattern=r"Traceback|\b[A-Z]\w*Error\b"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.01, le=1.0)] = 0.5
        """Share of the inputs that it throws on, 0.01 to 1."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._rollout = Rollout(self.label, target)

    async def inject(self, sandbox: Sandbox) -> None:
        flavour = random.Random(f"{sandbox.plan.seed}/{self.label}").randrange(1_000)
        defect = {"kind": "raise", "share": self.parameters.share, "flavour": flavour}
        await self._rollout.out(sandbox, {"defect": defect}, new_version=True)

    async def verify(self, sandbox: Sandbox) -> None:
        await self._rollout.verify(sandbox)

    async def heal(self, sandbox: Sandbox) -> None:
        await self._rollout.back(sandbox)


class RetryStorm(Fault):
    """A dependency gets slow, and the component tries again and again: at once, without backoff or breaker.

    Its timeout is shorter than the answer takes, so every attempt is given up and repeated: the load on
    the dependency multiplies, and what would have been slow fails. The cause is the retry policy.
    """

    label = "application.retry_storm"
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
