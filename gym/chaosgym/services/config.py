"""A ServiceConfig: everything that one service process has to know, in public names only.

The roles of the App do not appear: a process could print its whole configuration and give nothing away.
It travels as JSON to whoever forks the process; `replace` makes the one of a rollout.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from chaosgym.errors import InputError, did_you_mean

__all__ = [
    "Address", "Cache", "Call", "Compute", "Defect", "EndpointConfig", "Peer", "Publish", "Query", "ServiceConfig", "Step", "StreamConfig",
]  # fmt: skip

_STRICT = ConfigDict(extra="forbid")
Address = tuple[str, int]
"""IP address and port."""


@dataclass(frozen=True, config=_STRICT)
class Peer:
    """Another component: the name that clients use, and where that leads."""

    host: str
    port: int
    address: Address
    kind: str
    """gateway, service, postgres, redis."""


@dataclass(frozen=True, config=_STRICT)
class Call:
    """An HTTP request; `route` has the item's place in braces, as in `/v2/items/{id}`."""

    host: str
    method: str
    route: str
    timeout: float
    retries: int
    optional: bool = False
    step: Literal["call"] = "call"


@dataclass(frozen=True, config=_STRICT)
class Query:
    """A SQL statement on a table; `columns` name what stands for label, amount, count, state, changed (see `tables`)."""

    host: str
    table: str
    columns: tuple[str, str, str, str, str]
    rows: int
    """How many rows the table starts with: keys are 1 to `rows`."""
    operation: Literal["get", "list", "search", "insert", "update"]
    timeout: float
    step: Literal["query"] = "query"


@dataclass(frozen=True, config=_STRICT)
class Cache:
    """A Redis command on the key `prefix:item`."""

    host: str
    operation: Literal["get", "set", "increment", "delete"]
    prefix: str
    ttl: float
    timeout: float
    otherwise: tuple[Step, ...] = ()
    step: Literal["cache"] = "cache"


@dataclass(frozen=True, config=_STRICT)
class Publish:
    """An entry appended to a Redis stream."""

    host: str
    stream: str
    timeout: float
    step: Literal["publish"] = "publish"


@dataclass(frozen=True, config=_STRICT)
class Compute:
    """Work for the CPU, in seconds of an idle core."""

    seconds: float
    step: Literal["compute"] = "compute"


Step = Annotated[Call | Query | Cache | Publish | Compute, Field(discriminator="step")]


@dataclass(frozen=True, config=_STRICT)
class EndpointConfig:
    """What is served under a method and a route."""

    method: str
    route: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, config=_STRICT)
class StreamConfig:
    """What a worker consumes."""

    host: str
    stream: str
    group: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, config=_STRICT)
class Defect:
    """A real defect of the program, switched on; see `chaosgym.services.defects`."""

    kind: Literal[
        "spin", "leak", "raise", "block", "burn", "deadlock", "queries", "connections", "threads", "files", "reshape", "exit", "warm_up"
    ]  # fmt: skip
    duty: Annotated[float, Field(ge=0, le=1)] = 0.0
    """spin: share of the time that the thread is busy."""
    bytes_per_second: Annotated[float, Field(ge=0)] = 0.0
    """leak."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """raise: share of the items that it throws on, always the same."""
    flavour: Annotated[int, Field(ge=0)] = 0
    """raise: which bug."""
    seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    """block, burn: of each request; exit, warm_up: after the start."""
    count: Annotated[int, Field(ge=0, le=1000)] = 0
    """queries: further ones after each; threads, files: left behind by each request."""


@dataclass(frozen=True, config=_STRICT)
class ServiceConfig:
    """See the module docstring."""

    name: str
    """`service.name`."""
    version: str
    host: str
    port: int
    bind: Address
    style: Literal["json", "logfmt", "plain"]
    """Of the log."""
    seed: int
    """Of wording, key names and business vocabulary."""
    otlp: str
    """OTLP/HTTP endpoint without the `/v1/...`."""
    peers: tuple[Peer, ...] = ()
    endpoints: tuple[EndpointConfig, ...] = ()
    consumes: StreamConfig | None = None
    pool: int = 4
    """Connections to each database."""
    database: str = ""
    database_user: str = ""
    database_password: str = field(default="", repr=False)
    retries: Annotated[int | None, Field(ge=0, le=50)] = None
    """Of every call, in place of what the steps say."""
    timeout: Annotated[float | None, Field(gt=0, le=60)] = None
    """Seconds of one attempt of every call, in place of what the steps say."""
    backoff: Annotated[float, Field(ge=0, le=60)] = 0.02
    """Seconds before the first retry; doubles with each."""
    breaker: bool = True
    """Whether circuit breakers stop calling what fails."""
    ports: dict[str, int] = field(default_factory=dict[str, int])
    """By host of a peer: the port to connect to, in place of its own."""
    hosts: dict[str, str] = field(default_factory=dict[str, str])
    """By host of an HTTP peer: the name to call it by instead."""
    prefixes: dict[str, str] = field(default_factory=dict[str, str])
    """By host of an HTTP peer: what stands before its routes."""
    stream: str = ""
    """Consumed in place of what `consumes` says."""
    rate_limit: Annotated[float | None, Field(ge=0, le=10_000)] = None
    """Requests a second that are served; further ones are answered 429."""
    body_limit: Annotated[int, Field(ge=0)] = 65_536
    """Bytes of a request's body; larger ones are answered 413."""
    debug: bool = False
    """Log every step with what went in and came out."""
    environment: str = ""
    """A variable of the environment that every request needs."""
    unfinished: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the items for which a path is taken that is not written yet."""
    defect: Defect | None = None
    """Switched on from the start."""

    def to_json(self) -> str:
        """One line."""
        return _ADAPTER.dump_json(self).decode()

    @staticmethod
    def from_json(text: str | bytes) -> ServiceConfig:
        """The inverse of `to_json`. Raises InputError on anything else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise InputError(f"not a service configuration: {_first(error)}") from error

    def replace(self, **settings: Any) -> ServiceConfig:
        """A copy with other settings, checked. Raises InputError on an unknown setting or a bad value."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in settings:
            if name not in known:
                raise InputError(f"unknown service setting {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
        try:
            return _ADAPTER.validate_python({**{name: getattr(self, name) for name in known}, **settings})
        except ValidationError as error:
            raise InputError(f"service setting refused: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']} (given: {first.get('input')!r})"


_ADAPTER = TypeAdapter(ServiceConfig)
DEFECT = TypeAdapter(Defect | None)
"""Reads the defect of a control message."""
