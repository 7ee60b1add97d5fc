"""Faults of the network towards a component: its packets arrive late, or not at all."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Annotated, ClassVar, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.sandbox.base import Capability, Sandbox, Toxic
from chaosgym.units import Duration

__all__ = ["Latency", "Partition", "Reachable", "assert_toxic", "clear_toxic", "put_toxic", "round_trip"]

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
    found = sandbox.link_toxic(role)
    if found != expected:
        raise FaultError(f"{label}: the link of {role!r} has {found}, not {expected}")


class Latency(Fault):
    """Every packet to and from the component is `delay` late, plus or minus `jitter`.

    A congested or rerouted link: callers wait, their client spans are long while the server's are as
    short as ever, and nobody uses more CPU.
    """

    label = "network.latency"
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

    @property
    def _toxic(self) -> Toxic:
        return Toxic(latency=self.parameters.delay, jitter=self.parameters.jitter)

    async def inject(self, sandbox: Sandbox) -> None:
        await put_toxic(sandbox, self.target, self._toxic, self.label)

    async def verify(self, sandbox: Sandbox) -> None:
        await assert_toxic(sandbox, self.target, self._toxic, self.label)
        hello = _HELLO.get(sandbox.plan.app.spec.components[self.target].kind)
        if hello and isinstance(sandbox, Reachable):
            await self._assert_slow(sandbox.address(self.target), hello)

    async def _assert_slow(self, address: tuple[str, int], hello: bytes) -> None:
        delay, jitter = self.parameters.delay, self.parameters.jitter
        least = 1.8 * (delay - jitter)
        took = await round_trip(address, hello, timeout=4 * (delay + jitter) + 1.0)
        if took is not None and took < least:
            raise FaultError(f"{self.label}: a round trip to {self.target!r} took {took:.3f} s; its link should add at least {least:.3f} s")

    async def heal(self, sandbox: Sandbox) -> None:
        await clear_toxic(sandbox, self.target)


class Partition(Fault):
    """Every packet to and from the component vanishes, those that open a connection included.

    A firewall rule or a broken switch: callers run into connect timeouts, not refusals, while the
    component itself is well, idle, and still talks to others.
    """

    label = "network.partition"
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

    _toxic = Toxic(drop=1.0)

    async def inject(self, sandbox: Sandbox) -> None:
        await put_toxic(sandbox, self.target, self._toxic, self.label)

    async def verify(self, sandbox: Sandbox) -> None:
        await assert_toxic(sandbox, self.target, self._toxic, self.label)
        if not isinstance(sandbox, Reachable):
            return
        try:
            took = await round_trip(sandbox.address(self.target), b"", timeout=0.1)
        except OSError as error:
            raise FaultError(f"{self.label}: a connection to {self.target!r} was answered: {error}; its packets should vanish") from error
        if took is not None:
            raise FaultError(f"{self.label}: a connection to {self.target!r} went through in {took:.3f} s; its packets should vanish")

    async def heal(self, sandbox: Sandbox) -> None:
        await clear_toxic(sandbox, self.target)
