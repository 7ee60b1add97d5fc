"""An App: the graph of components that a scenario breaks, as its author writes it in YAML.

Components are named by their role (`orders`, `cache`); the public names that telemetry shows are
drawn per episode from `vocabulary` (see `chaosgym.plan`), so that nothing can be memorised.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

__all__ = [
    "CacheStep", "CallStep", "Component", "ComputeStep", "Duration", "Endpoint", "Journey",
    "PublishStep", "QueryStep", "Size", "Slo", "Step", "Strict", "Table", "App", "AppSpec", "Metadata",
]

API_VERSION = "chaosgym.dev/v1"
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _parse_unit(value: Any, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{value!r} is not a {what}; write a number and one of {', '.join(units)}, as in '{example}'")
    return float(match[1]) * units[match[2]]


def parse_duration(value: Any) -> float:
    """Seconds from text such as `250ms`, `1.5s`; numbers pass through as seconds only in resolved data."""
    return float(value) if isinstance(value, float) else _parse_unit(value, _SECONDS, "duration", "250ms")


def parse_size(value: Any) -> int:
    """Bytes from text such as `256MiB`."""
    return value if isinstance(value, int) else int(_parse_unit(value, _BYTES, "size", "256MiB"))


Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(us|ms|s|m)$"})]
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB)$"})]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]


class Strict(BaseModel):
    """Unknown keys are errors; nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Metadata(Strict):
    name: Name
    title: str = ""
    description: str = ""


class CallStep(Strict):
    """An HTTP request to an endpoint of another component."""

    call: Name
    """The component called."""
    endpoint: Name
    timeout: Duration = 0.25
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    optional: bool = False
    """True: when it fails, the request goes on without (degraded)."""


class QueryStep(Strict):
    """A SQL statement on a table of a postgres component."""

    query: Name
    """The postgres component."""
    table: Name
    operation: Literal["get", "list", "search", "insert", "update"] = "get"
    timeout: Duration = 0.25


class CacheStep(Strict):
    """A Redis command; a miss of `get` runs `otherwise` and stores the result."""

    cache: Name
    """The redis component."""
    operation: Literal["get", "set", "increment", "delete"] = "get"
    key: Name
    """The kind of key; the item of the request is appended."""
    ttl: Duration = 1.0
    otherwise: tuple[Step, ...] = ()
    timeout: Duration = 0.15


class PublishStep(Strict):
    """Append the request to a Redis stream, with trace context."""

    publish: Name
    """The redis component."""
    stream: Name
    timeout: Duration = 0.15


class ComputeStep(Strict):
    """Real work on the CPU, about this long on an idle core."""

    compute: Duration


Step = CallStep | QueryStep | CacheStep | PublishStep | ComputeStep


class Endpoint(Strict):
    method: Literal["GET", "POST", "PUT", "DELETE"] = "GET"
    steps: tuple[Step, ...] = ()


class Table(Strict):
    rows: Annotated[int, Field(ge=1, le=20_000)] = 200


class Limits(Strict):
    memory: Size = 192 * 2**20
    files: Annotated[int, Field(ge=32, le=4096)] = 256


class Consumer(Strict):
    """What a worker does with each message of a stream."""

    redis: Name
    stream: Name
    steps: tuple[Step, ...] = ()


class Component(Strict):
    """A node of the graph."""

    kind: Literal["gateway", "service", "worker", "postgres", "redis"]
    vocabulary: Name
    """Which list of `chaosgym.vocabulary` its public name is drawn from."""
    endpoints: dict[Name, Endpoint] = {}
    consumes: Consumer | None = None
    tables: dict[Name, Table] = {}
    pool: Annotated[int, Field(ge=1, le=20)] = 4
    """Connections to each postgres it uses."""
    limits: Limits = Limits()


class Journey(Strict):
    """What a user does: requests to endpoints of the gateway, in order."""

    weight: Annotated[float, Field(gt=0)]
    requests: tuple[Name, ...]


class Slo(Strict):
    """What must hold at the edge while nothing is broken."""

    errors: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of requests that may fail."""
    p95: Duration = 0.25
    """95th percentile of latency at the edge."""


class AppSpec(Strict):
    entry: Name
    """The component that users talk to."""
    components: dict[Name, Component]
    journeys: dict[Name, Journey]
    slo: Slo = Slo()


class App(Strict):
    """A file of kind App."""

    api_version: Annotated[Literal["chaosgym.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["App"]
    metadata: Metadata
    spec: AppSpec
