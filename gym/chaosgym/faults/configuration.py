"""Faults of configuration: the program is as it was, what it was told is not."""

from __future__ import annotations

import string
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import FaultParameters, Symptom
from chaosgym.faults.readback import in_force
from chaosgym.faults.rollout import RolloutFault
from chaosgym.faults.undo import unless_dead
from chaosgym.graph import edges
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.units import Count, Duration, Name, Number, Size

__all__ = [
    "BodyLimit", "Credential", "DatabaseName", "DebugLogging", "FeatureFlag", "HostName", "MemoryLimit", "MissingVariable", "Port",
    "RateLimit", "Route", "Stream", "Timeout",
]  # fmt: skip

_OPEN_DOORS = "select count(*) from pg_hba_file_rules where auth_method = 'trust' and type <> 'local'"
_REFUSED = r"(?i)connect call failed|refused"
_VARIABLES = ("API_KEY", "SIGNING_SECRET", "REGION", "TENANT_ID", "ENDPOINT_URL", "LICENSE_KEY", "ENCRYPTION_KEY", "CLIENT_ID")
_STAGES = ("staging", "old", "legacy", "blue", "preprod", "archive", "next")


class Credential(RolloutFault):
    """A deploy ships a database password that the server does not accept.

    A secret that was rotated on one side alone: the new version starts and listens, and every session
    it wants to open ends in `password authentication failed`.
    """

    label = "configuration.credential"
    documented = "https://www.postgresql.org/docs/current/auth-password.html"
    kinds = frozenset({"service", "worker"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart", "sql"})
    new_version = True
    symptoms = (
        Symptom("component", "log", pattern=r"password authentication failed|InvalidPassword"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: a password fits or it does not."""

    def _databases(self, sandbox: Sandbox) -> list[str]:
        databases = [e.target for e in edges(sandbox.plan.app.spec) if e.source == self.target and e.protocol == "postgresql"]
        if not databases:
            raise FaultError(f"{self.label}: {self.target!r} uses no database, so no password of it can be wrong")
        return databases

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        self._databases(sandbox)
        rng = self.draw(sandbox)
        return {"database_password": "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(18, 28)))}

    async def verify(self, sandbox: Sandbox) -> None:
        """The new process serves, and the server asks those who come over the network for a password."""
        await super().verify(sandbox)
        for database in self._databases(sandbox):
            async with sandbox.sql(database) as admin:
                if await admin.fetchval(_OPEN_DOORS):
                    raise FaultError(f"{self.label}: {database!r} lets clients in without a password, so a wrong one changes nothing")


class DatabaseName(RolloutFault):
    """A configuration names a database that the server does not have.

    A typing error, or the name of another stage: logins are accepted and then end in `database "..." does
    not exist` (SQLSTATE 3D000).
    """

    label = "configuration.database_name"
    documented = "https://www.postgresql.org/docs/current/errcodes-appendix.html"
    kinds = frozenset({"service", "worker"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"database \S+ does not exist|InvalidCatalogName"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: there is such a database, or there is not."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        self.peer(sandbox, "postgresql", None)
        return {"database": f"{self.draw(sandbox).choice(_STAGES)}_app"}


class Port(RolloutFault):
    """A configuration has another port for something that the component calls; nobody listens there.

    Only this component is refused (`Connection refused` to an odd port); everybody else reaches the same
    peer as before.
    """

    label = "configuration.port"
    documented = "https://12factor.net/config"
    kinds = frozenset({"gateway", "service"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=_REFUSED),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        peer: Name | None = None
        """What it calls there; when it is left out, the first HTTP peer by name."""
        protocol: Annotated[str, Field(pattern=r"^(http|postgresql|redis)$")] = "http"
        """How it talks to it: http, postgresql or redis."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        peer = self.peer(sandbox, self.parameters.protocol, self.parameters.peer)
        taken = {component.port for component in sandbox.plan.components.values()}
        near = [peer.port + shift for shift in (-11, -10, -1, 1, 2, 10, 11, 100) if peer.port + shift not in taken]
        return {"ports": {peer.host: self.draw(sandbox).choice(near)}}


class HostName(RolloutFault):
    """A configuration has the name of a host that no resolver knows.

    A name of another stage, or of a service that was renamed: calls end in `Name or service not known`
    before a packet is sent, for this component alone.
    """

    label = "configuration.host_name"
    documented = "https://12factor.net/config"
    kinds = frozenset({"gateway", "service"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"Name or service not known|getaddrinfo"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        peer: Name | None = None
        """What it calls there; when it is left out, the first HTTP peer by name."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        host = self.peer(sandbox, "http", self.parameters.peer).host
        name, dot, rest = host.partition(".")
        return {"hosts": {host: f"{name}-{self.draw(sandbox).choice(_STAGES)}{dot}{rest}"}}


class Route(RolloutFault):
    """A configuration puts a prefix before the routes of something that the component calls, and there is nothing there.

    The other side is well and answers 404 to this component alone, which fails on it.
    """

    label = "configuration.route"
    documented = "https://www.rfc-editor.org/rfc/rfc9110"
    kinds = frozenset({"gateway", "service"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"returned 404"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        peer: Name | None = None
        """What it calls there; when it is left out, the first HTTP peer by name."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        host = self.peer(sandbox, "http", self.parameters.peer).host
        return {"prefixes": {host: self.draw(sandbox).choice(("/api/v0", "/internal", "/api/v3", "/public", "/rest"))}}


class Timeout(RolloutFault):
    """A configuration sets the timeout of every call to a few milliseconds: milliseconds where seconds were meant.

    The component gives up on answers that come as fast as ever; those who are called see their clients leave.
    """

    label = "configuration.timeout"
    documented = "https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/"
    kinds = frozenset({"gateway", "service"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"within \d ms|after \d ms"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        timeout: Annotated[Duration, Field(ge=0.0005, le=0.05)] = 0.002
        """Of one attempt, `500us` to `50ms`."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        self.peer(sandbox, "http", None)
        return {"timeout": self.parameters.timeout}


class RateLimit(RolloutFault):
    """A configuration sets a rate limit below the usual traffic: what goes beyond is answered 429.

    The component says so in its log and is idle otherwise; who calls it fails on `429`.
    """

    label = "configuration.rate_limit"
    documented = "https://www.rfc-editor.org/rfc/rfc6585"
    kinds = frozenset({"gateway", "service"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"(?i)rate limit|too many requests|throttling"),
        Symptom("callers", "log", pattern=r"\b429\b"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        rate: Annotated[Number, Field(ge=0.1, le=100)] = 1.0
        """Requests a second that pass, 0.1 to 100."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"rate_limit": self.parameters.rate}


class BodyLimit(RolloutFault):
    """A configuration allows bodies of a few bytes: bytes where kilobytes were meant. Every write is answered 413.

    Reads pass as before; the component logs what it turns away.
    """

    label = "configuration.body_limit"
    documented = "https://www.rfc-editor.org/rfc/rfc9110"
    kinds = frozenset({"gateway", "service"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"(?i)exceeds the limit|too large"),
        Symptom("callers", "log", pattern=r"\b413\b"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        size: Annotated[Count, Field(ge=1, le=64)] = 10
        """Bytes that a body may have, 1 to 64."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        endpoints = sandbox.plan.app.spec.components[self.target].endpoints.values()
        if all(endpoint.method in ("GET", "DELETE") for endpoint in endpoints):
            raise FaultError(f"{self.label}: nobody sends {self.target!r} a body: it has no POST or PUT endpoint")
        return {"body_limit": self.parameters.size}


class DebugLogging(RolloutFault):
    """A configuration leaves the log level at debug: every request writes pages, and takes as long as that takes.

    No request fails for it; the volume of the log, its cost and its noise are the trouble.
    """

    label = "configuration.debug_logging"
    documented = "https://docs.python.org/3/howto/logging.html"
    kinds = frozenset({"service", "worker"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"(?m)^dump \S+: |^step=\S+ \w+=|^\w+\.\w+ = "),
        Symptom("component", "latency"),
    )

    class Parameters(FaultParameters):
        """None: debug or not."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"debug": True}


class MissingVariable(RolloutFault):
    """A configuration leaves out a variable of the environment that the program reads on every request.

    It starts and listens as ever, and every request ends in `KeyError` from `os.environ`.
    """

    label = "configuration.missing_variable"
    documented = "https://12factor.net/config"
    kinds = frozenset({"service", "worker"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"KeyError: '[A-Z_]+'"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: it is set or it is not."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        name = sandbox.plan.components[self.target].name.upper().replace("-", "_").replace(".", "_")
        return {"environment": f"{name}_{self.draw(sandbox).choice(_VARIABLES)}"}


class FeatureFlag(RolloutFault):
    """A flag is switched on for a share of the items, and what is behind it is not written yet.

    No version went out; the same code now ends in `NotImplementedError` for some inputs, always the same.
    """

    label = "configuration.feature_flag"
    documented = "https://martinfowler.com/articles/feature-toggles.html"
    kinds = frozenset({"service", "worker"})
    new_version = False
    symptoms = (
        Symptom("component", "log", pattern=r"NotImplementedError|is not available yet"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.05, le=1.0)] = 0.5
        """Share of the items, 0.05 to 1."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"unfinished": self.parameters.share}


class Stream(RolloutFault):
    """A configuration has a worker listen to a stream that nobody writes to.

    The worker is well and idle; what is published stays where it is, and its backlog grows.
    """

    label = "configuration.stream"
    documented = "https://redis.io/docs/latest/develop/data-types/streams/"
    kinds = frozenset({"worker"})
    new_version = False
    symptoms = (
        Symptom("component", "rate", "down"),
        Symptom("component", "log", pattern=r"(?i)subscribed to|attached to|polling stream"),
    )

    class Parameters(FaultParameters):
        """None: the name is right or wrong."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        consumer = sandbox.plan.app.spec.components[self.target].consumes
        if consumer is None:
            raise FaultError(f"{self.label}: {self.target!r} consumes no stream")
        name = sandbox.plan.components[consumer.redis].streams.get(consumer.stream, consumer.stream)
        return {"stream": f"{name}-{self.draw(sandbox).choice(_STAGES)}"}


class MemoryLimit(RolloutFault):
    """A configuration lowers the memory limit below what the program needs: it is killed as soon as it runs.

    Exit code 137, OOMKilled, a restart, and again: without a leak, because it never gets as far as working.
    """

    label = "configuration.memory_limit"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/assign-memory-resource/"
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart", "limit"})
    new_version = False
    symptoms = (
        Symptom("component", "down"),
        Symptom("component", "rate", "down"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        limit: Annotated[Size, Field(ge=4 * 2**20, le=48 * 2**20)] = 32 * 2**20
        """Resident bytes, `4MiB` to `48MiB`; a service takes about 60 MiB."""

    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {}

    async def inject(self, sandbox: Sandbox) -> None:
        await super().inject(sandbox)
        await sandbox.limit_memory(self.target, self.parameters.limit)

    async def verify(self, sandbox: Sandbox) -> None:
        """No process of it lives above the limit."""

        async def within() -> bool:
            return all(view.resident <= self.parameters.limit for view in await sandbox.inspect(self.target))

        await in_force(within, lambda: f"{self.label}: {self.target!r} runs on above {self.parameters.limit} bytes", 2.0)

    async def heal(self, sandbox: Sandbox) -> None:
        async with unless_dead(sandbox, self.target):
            await sandbox.limit_memory(self.target, None)
        await super().heal(sandbox)
