"""Faults of traffic: the application is as it was, those who use it are not."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.sandbox.base import Capability, Pressure, Sandbox
from chaosgym.units import Count, Number, Size

__all__ = ["LargeRequests", "Probing", "Scraper", "SlowClients", "Surge"]


class _Traffic(Fault):
    """What comes to the edge besides the usual; the target is the component that users reach."""

    kinds = frozenset({"gateway"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"load"})

    @property
    @abstractmethod
    def pressure(self) -> Pressure:
        """What comes."""

    async def inject(self, sandbox: Sandbox) -> None:
        if self.target != sandbox.plan.app.spec.entry:
            raise FaultError(f"{self.label}: users do not reach {self.target!r}; the entry is {sandbox.plan.app.spec.entry!r}")
        await sandbox.press(self.pressure)

    async def verify(self, sandbox: Sandbox) -> None:
        if sandbox.pressure() != self.pressure:
            raise FaultError(f"{self.label}: {sandbox.pressure()} comes to {self.target!r}, not {self.pressure}")

    async def heal(self, sandbox: Sandbox) -> None:
        if sandbox.pressure() is not None:
            await sandbox.press(None)


class Surge(_Traffic):
    """Many times as many users as usual come, and do what users do.

    A campaign or a mention: every route sees more requests in the same proportions, first of all at the edge.
    """

    label = "traffic.surge"
    documented = "https://sre.google/sre-book/addressing-cascading-failures/"
    symptoms = (Symptom("edge", "rate"), Symptom("component", "rate"), Symptom("edge", "latency"))

    class Parameters(FaultParameters):
        factor: Annotated[Number, Field(ge=1.5, le=20)] = 3.0
        """Times the usual rate, 1.5 to 20."""

    @property
    def pressure(self) -> Pressure:
        return Pressure("surge", factor=self.parameters.factor)


class Scraper(_Traffic):
    """One client walks through everything that a route has to offer, as fast as it can.

    That route and what is behind it see many times their traffic; the users are as many as ever, and do what they did.
    """

    label = "traffic.scraper"
    documented = "https://sre.google/sre-book/addressing-cascading-failures/"
    symptoms = (Symptom("component", "rate"), Symptom("component", "cpu"), Symptom("edge", "latency"))

    class Parameters(FaultParameters):
        rate: Annotated[Number, Field(ge=5, le=500)] = 50.0
        """Requests a second, 5 to 500."""

    @property
    def pressure(self) -> Pressure:
        return Pressure("scraper", rate=self.parameters.rate)


class Probing(_Traffic):
    """A scanner looks for weak spots: paths of well-known software, one after the other.

    The access log of the edge fills with 404s for paths that no user asks for; nothing behind it notices.
    """

    label = "traffic.probing"
    documented = "https://owasp.org/www-project-automated-threats-to-web-applications/"
    symptoms = (Symptom("component", "log", pattern=r"(?:wp-login|\.env|phpmyadmin|\.git/|cgi-bin|actuator|server-status)\S*"),)

    class Parameters(FaultParameters):
        rate: Annotated[Number, Field(ge=2, le=500)] = 30.0
        """Requests a second, 2 to 500."""

    @property
    def pressure(self) -> Pressure:
        return Pressure("probing", rate=self.parameters.rate)


class SlowClients(_Traffic):
    """Clients open connections and send the head of their request a byte at a time (slowloris).

    The edge holds more and more connections and descriptors for nothing, until it has none for its users.
    """

    label = "traffic.slow_clients"
    documented = "https://en.wikipedia.org/wiki/Slowloris_(cyber_attack)"
    symptoms = (
        Symptom("component", "files"),
        Symptom("component", "log", pattern=r"(?i)too many open files|Errno 24"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        connections: Annotated[Count, Field(ge=10, le=1000)] = 300
        """How many, 10 to 1000; a service may open 256 files unless its app says otherwise."""

    @property
    def pressure(self) -> Pressure:
        return Pressure("slow_clients", connections=self.parameters.connections)


class LargeRequests(_Traffic):
    """A client sends bodies of a size that nobody reckoned with, again and again.

    They are turned away with 413 and a line in the log, and cost the edge its time; the users are as many as ever.
    """

    label = "traffic.large_requests"
    documented = "https://www.rfc-editor.org/rfc/rfc9110"
    symptoms = (Symptom("component", "log", pattern=r"(?i)exceeds the limit of 65536|\d{6,} > 65536|\d{6,} bytes, limit 65536"),)

    class Parameters(FaultParameters):
        rate: Annotated[Number, Field(ge=1, le=200)] = 15.0
        """Requests a second, 1 to 200."""
        size: Annotated[Size, Field(ge=100_000, le=16 * 2**20)] = 400_000
        """Bytes of a body, 100000 to `16MiB`."""

    @property
    def pressure(self) -> Pressure:
        return Pressure("large_requests", rate=self.parameters.rate, size=self.parameters.size)
