"""Faults of configuration: the program is as it was, what it was told is not."""

from __future__ import annotations

import random
import string
from typing import Any, ClassVar

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.rollout import Rollout
from chaosgym.graph import edges
from chaosgym.sandbox.base import Capability, Sandbox

__all__ = ["Credential"]

_OPEN_DOORS = "select count(*) from pg_hba_file_rules where auth_method = 'trust' and type <> 'local'"


class Credential(Fault):
    """A deploy ships a database password that the server does not accept.

    A secret that was rotated on one side alone: the new version starts and listens, and every session
    it wants to open ends in `password authentication failed`.
    """

    label = "configuration.credential"
    kinds = frozenset({"service", "worker"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart", "sql"})
    symptoms = (
        Symptom("component", "log", pattern=r"password authentication failed|InvalidPassword"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: a password fits or it does not."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._rollout = Rollout(self.label, target)

    def _databases(self, sandbox: Sandbox) -> list[str]:
        databases = [e.target for e in edges(sandbox.plan.app.spec) if e.source == self.target and e.protocol == "postgresql"]
        if not databases:
            raise FaultError(f"{self.label}: {self.target!r} uses no database, so no password of it can be wrong")
        return databases

    async def inject(self, sandbox: Sandbox) -> None:
        self._databases(sandbox)
        rng = random.Random(f"{sandbox.plan.seed}/{self.label}")
        password = "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(18, 28)))
        await self._rollout.out(sandbox, {"database_password": password}, new_version=True)

    async def verify(self, sandbox: Sandbox) -> None:
        """The new process serves, and the server asks those who come over the network for a password."""
        await self._rollout.verify(sandbox)
        for database in self._databases(sandbox):
            async with sandbox.sql(database) as admin:
                if await admin.fetchval(_OPEN_DOORS):
                    raise FaultError(f"{self.label}: {database!r} lets clients in without a password, so a wrong one changes nothing")

    async def heal(self, sandbox: Sandbox) -> None:
        await self._rollout.back(sandbox)
