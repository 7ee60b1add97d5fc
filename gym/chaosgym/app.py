"""An App: the graph of components that a scenario breaks, as its author writes it in YAML.

Components are named by their role (`orders`, `cache`); the public names that telemetry shows are
drawn per episode from `chaosgym.vocabulary` (see `chaosgym.plan`), so that nothing can be memorised.
What must hold between components (every call has an endpoint, no request calls itself, ...) is in
`chaosgym.graph`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from chaosgym.document import Problem, Strict, raise_problems
from chaosgym.errors import did_you_mean
from chaosgym.graph import app_problems
from chaosgym.steps import CacheStep, CallStep, ComputeStep, PublishStep, QueryStep, Step
from chaosgym.units import Count, Duration, Name, Number, Share, Size, parse_duration, parse_size, within
from chaosgym.vocabulary import NAME_STEMS

__all__ = [
    "API_VERSION",
    "MAX_COMPONENTS",
    "MAX_REPLICAS",
    "App",
    "AppSpec",
    "CacheStep",
    "CallStep",
    "Component",
    "ComputeStep",
    "Consumer",
    "Duration",
    "Endpoint",
    "Journey",
    "Kind",
    "Limits",
    "Metadata",
    "PublishStep",
    "QueryStep",
    "Size",
    "Slo",
    "Step",
    "Strict",
    "Table",
    "parse_duration",
    "parse_size",
]

API_VERSION = "chaosgym.dev/v1"
MAX_COMPONENTS = 200
MAX_REPLICAS = 6

Kind = Literal["gateway", "service", "worker", "postgres", "redis"]


def _known_version(value: Any) -> Any:
    if isinstance(value, str) and value != API_VERSION and value.startswith("chaosgym.dev/"):
        raise ValueError(
            f"'{value}' is not a version that this chaosgym reads, it reads '{API_VERSION}'; upgrade chaosgym or convert the file"
        )
    return value


def _known_vocabulary(value: str) -> str:
    if value not in NAME_STEMS:
        raise ValueError(f"unknown vocabulary '{value}'; known: {', '.join(sorted(NAME_STEMS))}{did_you_mean(value, NAME_STEMS)}")
    return value


def _few_components(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_COMPONENTS:
        raise ValueError(f"{len(value)} components; an app has at most {MAX_COMPONENTS}: split it")
    return value


def _some_journey(value: Any) -> Any:
    if value == {}:
        raise ValueError(
            "no journey: nobody would use the app, and its SLO could not be measured; "
            "write one, as in {look: {weight: 1, requests: [product]}}"
        )
    return value


ApiVersion = Annotated[Literal["chaosgym.dev/v1"], BeforeValidator(_known_version)]
Vocabulary = Annotated[Name, AfterValidator(_known_vocabulary), WithJsonSchema({"type": "string", "enum": sorted(NAME_STEMS)})]


class Metadata(Strict):
    """What a document is called."""

    name: Name
    """How other documents and the command line refer to it."""
    title: Annotated[str, Field(max_length=200)] = ""
    """One line for people."""
    description: Annotated[str, Field(max_length=10_000)] = ""
    """As much as it takes."""


class Endpoint(Strict):
    """One thing that a component can be asked for; its HTTP route is drawn per episode."""

    method: Literal["GET", "POST", "PUT", "DELETE"] = "GET"
    """The HTTP method."""
    steps: Annotated[tuple[Step, ...], Field(max_length=20)] = ()
    """What it does, in order; the first required step that fails ends the request."""


class Table(Strict):
    """A table of a postgres component."""

    rows: Annotated[Count, Field(ge=1, le=20_000)] = 200
    """Rows loaded before each episode."""


class Limits(Strict):
    """What a process may use."""

    memory: Annotated[Size, Field(ge=32 * 2**20, le=4 * 2**30)] = 112 * 2**20
    """Resident memory above which the process is killed."""
    files: Annotated[Count, Field(ge=32, le=4096)] = 256
    """Open file descriptors."""


class Consumer(Strict):
    """What a worker does with each message of a stream."""

    redis: Name
    """The redis component that holds the stream."""
    stream: Name
    """The stream, as the publishing step names it."""
    steps: Annotated[tuple[Step, ...], Field(max_length=20)] = ()
    """What it does with a message, in order."""


class Component(Strict):
    """A node of the graph."""

    kind: Kind
    """A gateway and a service answer HTTP, a worker consumes a stream, postgres and redis are the real servers."""
    vocabulary: Vocabulary
    """Which list of `chaosgym.vocabulary` its public name is drawn from."""
    endpoints: dict[Name, Endpoint] = Field(default={}, max_length=30)
    """Of a gateway or service."""
    consumes: Consumer | None = None
    """Of a worker."""
    tables: dict[Name, Table] = Field(default={}, max_length=50)
    """Of a postgres."""
    pool: Annotated[Count, Field(ge=1, le=20)] = 4
    """Connections to each postgres it uses, of each of its processes."""
    replicas: Annotated[Count, Field(ge=1, le=MAX_REPLICAS)] = 1
    """Of a gateway or service: processes that share its address; the kernel spreads new connections over them."""
    limits: Limits = Limits()
    """Of each of its processes."""


class Journey(Strict):
    """What a user does: requests to endpoints of the entry, in order."""

    weight: Annotated[Number, Field(gt=0, le=1e6)]
    """How often, relative to the other journeys."""
    requests: Annotated[tuple[Name, ...], Field(min_length=1, max_length=50)]
    """Endpoints of the entry."""


class Slo(Strict):
    """What must hold at the edge while nothing is broken."""

    errors: Share = 0.02
    """Share of requests that may fail."""
    p95: Annotated[Duration, within(0.001, 60)] = 0.25
    """95th percentile of latency at the edge."""


class AppSpec(Strict):
    """The graph and its users."""

    entry: Name
    """The component that users talk to."""
    components: Annotated[dict[Name, Component], BeforeValidator(_few_components), Field(min_length=1)]
    """By role."""
    journeys: Annotated[dict[Name, Journey], Field(min_length=1, max_length=50), BeforeValidator(_some_journey)]
    """By name."""
    slo: Slo = Slo()
    """What must hold at the edge while nothing is broken."""


class App(Strict):
    """A file of kind App."""

    api_version: Annotated[ApiVersion, Field(alias="apiVersion")]
    """The version of this schema."""
    kind: Literal["App"]
    """`App`."""
    metadata: Metadata
    """What it is called."""
    spec: AppSpec
    """The graph and its users."""

    @model_validator(mode="after")
    def _whole(self) -> App:
        raise_problems("App", [Problem(("spec", *p.loc), p.message, p.key) for p in app_problems(self.spec)])
        return self
