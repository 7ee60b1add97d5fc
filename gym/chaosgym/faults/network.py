"""Faults of the network towards a component: its packets arrive late, or not at all."""

from __future__ import annotations

import asyncio
import struct
import time
from abc import abstractmethod
from typing import Annotated, ClassVar, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.sandbox.base import Capability, Sandbox, Toxic
from chaosgym.units import Duration, Number

__all__ = [
    "Corruption", "Latency", "LinkFault", "Loss", "OneWay", "Partition", "Reachable", "Refusal", "Reset", "Truncation", "Unavailable",
    "assert_toxic", "clear_toxic", "put_toxic", "round_trip",
]  # fmt: skip

_CALLED = frozenset({"gateway", "service", "postgres", "redis"})
_HELLO = {"postgres": struct.pack("!ii", 8, 80877103), "redis": b"PING\r\n"}
"""What a server answers without a line in its log (PostgreSQL: SSLRequest). HTTP has no such word."""


@runtime_checkable
class Reachable(Protocol):
    """A sandbox whose links the injector can try for itself."""

    def address(self, role: str) -> tuple[str, int]:
        """Where clients reach the component, through its link."""
        ...


async def put_toxic(sandbox: Sandbox, role: str, toxic: Toxic, label: str) -> None:
    """Put `toxic` in force. Raises FaultError when the plan gave the component no link."""
    if role not in sandbox.plan.proxied:
        proxied = ", ".join(sandbox.plan.proxied) or "none"
        raise FaultError(f"{label}: component {role!r} is not behind a link; the plan has links for {proxied}")
    await sandbox.toxic(role, toxic)


async def clear_toxic(sandbox: Sandbox, role: str) -> None:
    """A clean link, if there is one."""
    if role in sandbox.plan.proxied:
        await sandbox.toxic(role, None)


async def round_trip(address: tuple[str, int], hello: bytes, timeout: float) -> float | None:
    """Seconds until the other side answers `hello` with anything (its end of stream, when `hello` is empty).

    None when it stays silent for `timeout`. Raises OSError when the connection is refused.
    """
    begin = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(*address)
            try:
                if hello:
                    writer.write(hello)
                else:
                    writer.write_eof()
                await reader.read(1)
            finally:
                writer.transport.abort()
    except TimeoutError:
        return None
    return time.monotonic() - begin


async def assert_toxic(sandbox: Sandbox, role: str, expected: Toxic, label: str) -> None:
    """Raise FaultError unless the proxy says that `expected` is in force."""
    found = await sandbox.link_toxic(role)
    if found != expected:
        raise FaultError(f"{label}: the link of {role!r} has {found}, not {expected}")


class LinkFault(Fault):
    """A fault of the link towards a component; `toxic` says what its packets and streams suffer."""

    kinds = _CALLED
    needs: ClassVar[frozenset[Capability]] = frozenset({"link"})

    @abstractmethod
    def toxic(self) -> Toxic:
        """What is put in force."""

    async def inject(self, sandbox: Sandbox) -> None:
        await put_toxic(sandbox, self.target, self.toxic(), self.label)

    async def verify(self, sandbox: Sandbox) -> None:
        await assert_toxic(sandbox, self.target, self.toxic(), self.label)

    async def heal(self, sandbox: Sandbox) -> None:
        await clear_toxic(sandbox, self.target)


class Latency(LinkFault):
    """Every packet to and from the component is `delay` late, plus or minus `jitter`.

    A congested or rerouted link: callers wait, their client spans are long while the server's are as
    short as ever, and nobody uses more CPU.
    """

    label = "network.latency"
    documented = "https://man7.org/linux/man-pages/man8/tc-netem.8.html"
    kinds = _CALLED
    needs: ClassVar[frozenset[Capability]] = frozenset({"link"})
    symptoms = (
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        delay: Annotated[Duration, Field(ge=0.001, le=5.0)] = 0.15
        """Added to each direction, `1ms` to `5s`; a request and its answer take twice as much."""
        jitter: Annotated[Duration, Field(ge=0.0, le=5.0)] = 0.0
        """Uniform, plus or minus, at most `delay`."""

        @model_validator(mode="after")
        def _jitter_within_delay(self) -> Self:
            if self.jitter > self.delay:
                raise ValueError(f"jitter {self.jitter:g} s is more than delay {self.delay:g} s; no packet arrives before it was sent")
            return self

    def toxic(self) -> Toxic:
        return Toxic(latency=self.parameters.delay, jitter=self.parameters.jitter)

    async def verify(self, sandbox: Sandbox) -> None:
        await super().verify(sandbox)
        hello = _HELLO.get(sandbox.plan.app.spec.components[self.target].kind)
        if hello and isinstance(sandbox, Reachable):
            await self._assert_slow(sandbox.address(self.target), hello)

    async def _assert_slow(self, address: tuple[str, int], hello: bytes) -> None:
        delay, jitter = self.parameters.delay, self.parameters.jitter
        least = 1.8 * (delay - jitter)
        took = await round_trip(address, hello, timeout=4 * (delay + jitter) + 1.0)
        if took is not None and took < least:
            raise FaultError(f"{self.label}: a round trip to {self.target!r} took {took:.3f} s; its link should add at least {least:.3f} s")


class Partition(LinkFault):
    """Every packet to and from the component vanishes, those that open a connection included.

    A firewall rule or a broken switch: callers run into connect timeouts, not refusals, while the
    component itself is well, idle, and still talks to others.
    """

    label = "network.partition"
    documented = "https://www.usenix.org/conference/osdi18/presentation/alquraan"
    kinds = _CALLED
    needs: ClassVar[frozenset[Capability]] = frozenset({"link"})
    symptoms = (
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("component", "rate", "down"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: nothing gets through."""

    def toxic(self) -> Toxic:
        return Toxic(drop=1.0)

    async def verify(self, sandbox: Sandbox) -> None:
        await super().verify(sandbox)
        if not isinstance(sandbox, Reachable):
            return
        try:
            took = await round_trip(sandbox.address(self.target), b"", timeout=0.1)
        except OSError as error:
            raise FaultError(f"{self.label}: a connection to {self.target!r} was answered: {error}; its packets should vanish") from error
        if took is not None:
            raise FaultError(f"{self.label}: a connection to {self.target!r} went through in {took:.3f} s; its packets should vanish")


class Loss(LinkFault):
    """A share of the packets to the component vanishes, at random.

    A bad cable or a full queue: most calls are as fast as ever, the others wait for a retransmission (0.2 s and
    more) or run into their timeouts. Needs a private network namespace.
    """

    label = "network.loss"
    documented = "https://man7.org/linux/man-pages/man8/tc-netem.8.html"
    needs: ClassVar[frozenset[Capability]] = frozenset({"link", "packets"})
    symptoms = (
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "latency"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.05, le=0.95)] = 0.35
        """Of the packets, 0.05 to 0.95."""

    def toxic(self) -> Toxic:
        return Toxic(drop=self.parameters.share)


class OneWay(LinkFault):
    """What is sent to the component arrives, what it answers does not.

    An asymmetric route or a firewall with one rule too few: the component works, on all that is asked of it and
    repeated, answers quickly, and its callers hear nothing.
    """

    label = "network.one_way"
    documented = "https://www.usenix.org/conference/osdi18/presentation/alquraan"
    symptoms = (
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: nothing comes back."""

    def toxic(self) -> Toxic:
        return Toxic(mute=True)


class Refusal(LinkFault):
    """Something before the component refuses its connections: a firewall that rejects, a balancer without a target.

    Callers are refused at once (`Connection refused`), while the component runs, is well and has nothing to do.
    """

    label = "network.refusal"
    documented = "https://www.rfc-editor.org/rfc/rfc9293"
    symptoms = (
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)refused|connect call failed|reset by peer"),
        Symptom("component", "rate", "down"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: nobody gets in."""

    def toxic(self) -> Toxic:
        return Toxic(refuse=True)


class Reset(LinkFault):
    """A middlebox resets connections when the answer comes.

    An overloaded balancer or a stateful firewall that lost its table: calls end in `Connection reset by peer`
    after the component has done its work and logged its success.
    """

    label = "network.reset"
    documented = "https://www.rfc-editor.org/rfc/rfc9293"
    symptoms = (
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)reset by peer|disconnected|ConnectionReset|connection was closed|Connection lost"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.05, le=1.0)] = 0.6
        """Of the answers, 0.05 to 1."""

    def toxic(self) -> Toxic:
        return Toxic(reset=self.parameters.share)


class Truncation(LinkFault):
    """Answers end in their middle: a proxy closes the connection before it has passed on everything.

    Callers find less than the length that was promised (`Response payload is not completed`); the component
    has sent it all.
    """

    label = "network.truncation"
    documented = "https://www.rfc-editor.org/rfc/rfc9112"
    kinds = frozenset({"service"})
    symptoms = (
        Symptom("callers", "log", pattern=r"(?i)ContentLengthError|not enough data"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.05, le=1.0)] = 0.6
        """Of the answers, 0.05 to 1."""

    def toxic(self) -> Toxic:
        return Toxic(truncate=self.parameters.share)


class Corruption(LinkFault):
    """Answers arrive with other bytes than were sent: a middlebox or its memory is broken.

    Callers cannot read what they get (bad HTTP, bad UTF-8, bad JSON); the component has answered 200.
    """

    label = "network.corruption"
    documented = "https://man7.org/linux/man-pages/man8/tc-netem.8.html"
    kinds = frozenset({"service"})
    symptoms = (
        Symptom("callers", "log", pattern=r"(?i)(?:Unicode|JSON)DecodeError|codec can't decode|invalid (?:header|http)|bad(?:http|status)"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.05, le=1.0)] = 0.6
        """Of the answers, 0.05 to 1."""

    def toxic(self) -> Toxic:
        return Toxic(corrupt=self.parameters.share)


class Unavailable(LinkFault):
    """An HTTP proxy before the component takes it for dead and answers 503 itself.

    A sidecar or a balancer whose health check is wrong: callers get 503 quickly, and the component, which is well,
    sees no request at all.
    """

    label = "network.proxy_unavailable"
    documented = "https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/health_checking"
    kinds = frozenset({"service"})
    symptoms = (
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"\b503\b"),
        Symptom("component", "rate", "down"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: it lets nobody through."""

    def toxic(self) -> Toxic:
        return Toxic(unavailable=True)
