"""A ForeignApp: an application that runs already, and what chaosgym may do to it.

Its author names the containers or workloads that are its components, who calls whom, how its users are imitated, and, component
by component, which capabilities may be used on it. What is not allowed is not done: the default is nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from chaosgym.app import ApiVersion, Kind, Metadata, Slo
from chaosgym.document import Problem, Strict, raise_problems
from chaosgym.errors import did_you_mean
from chaosgym.scenario import Timeline
from chaosgym.units import Count, Duration, Name, Number, within

__all__ = [
    "Allowed", "Compose", "Expectation", "ForeignApp", "ForeignComponent", "ForeignSpec", "KubernetesNamespace", "Probe", "RedisLogin",
    "SqlLogin", "watched_longer",
]  # fmt: skip

Allowed = Literal["signal", "hold", "limit", "link", "sql", "redis", "load"]

PORTS = {"postgres": 5432, "redis": 6379}
_SERVING = ("gateway", "service")
_SCHEME = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")


def _url(value: str) -> str:
    if not _SCHEME.fullmatch(value):
        raise ValueError(f"'{value}' is not the address of a web server; write it as in 'http://127.0.0.1:8080'")
    return value.rstrip("/")


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"'{value}' is not a regular expression: {error}") from None
    return value


class Compose(Strict):
    """Containers of one Docker Compose project."""

    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
    """Its name, as `docker compose ls` shows it; containers of other projects are never touched."""


class KubernetesNamespace(Strict):
    """Workloads in one namespace."""

    context: Annotated[str, Field(min_length=1, max_length=200)]
    """Of the kubeconfig, or `in-cluster`; never guessed."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    """Nothing outside it is touched."""


class SqlLogin(Strict):
    """How the superuser of a PostgreSQL server logs in."""

    user: Annotated[str, Field(min_length=1, max_length=63)] = "postgres"
    """A superuser: faults make roles of their own and end sessions."""
    database: Annotated[str, Field(min_length=1, max_length=63)]
    """The database that the application uses."""
    password_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds the password when chaosgym runs; passwords are not written into files."""


class RedisLogin(Strict):
    """How a Redis server is logged in to."""

    password_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds the password; none is needed by default."""


class ForeignComponent(Strict):
    """A part of the application."""

    container: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """compose: the name of its service in the project; every container of that service is meant."""
    workload: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """kubernetes: the name of its Deployment."""
    kind: Kind | Literal["other"]
    """gateway, service, worker, postgres, redis; other is treated as a service."""
    calls: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    """The components that it talks to."""
    port: Annotated[Count, Field(ge=1, le=65535)] | None = None
    """Where it listens in its container; 5432 and 6379 for databases that say nothing."""
    allow: Annotated[tuple[Allowed, ...], Field(max_length=10)] = ()
    """What chaosgym may use on it; nothing by default."""
    sql: SqlLogin | None = None
    """Of a postgres: needed for `allow: [sql]`, and for its statistics."""
    redis: RedisLogin | None = None
    """Of a redis that wants a password."""
    tables: dict[Name, Annotated[str, Field(min_length=1, max_length=63)]] = Field(default={}, max_length=100)
    """Of a postgres: tables that faults may name, each with its name on the server."""

    @property
    def listens(self) -> int | None:
        """Its port, said or usual."""
        return self.port or PORTS.get(self.kind)


class Expectation(Strict):
    """What a user takes for a good answer."""

    status: Annotated[tuple[Annotated[Count, Field(ge=100, le=599)], ...], Field(min_length=1, max_length=20)] = (200,)
    """HTTP statuses."""
    body: Annotated[str, AfterValidator(_pattern)] | None = None
    """A regular expression that is found in the body."""


class Probe(Strict):
    """A request that users make."""

    method: Literal["GET", "POST", "PUT", "DELETE"] = "GET"
    """The HTTP method."""
    path: Annotated[str, Field(pattern=r"^/\S*$", max_length=2000)]
    """Below the address, with its query."""
    headers: dict[str, str] = Field(default={}, max_length=30)
    """Sent along."""
    body: Annotated[str, Field(max_length=100_000)] | None = None
    """Sent along; `{n}` is a number that no other request has."""
    weight: Annotated[Number, Field(gt=0, le=1e6)] = 1.0
    """How often, relative to the other probes."""
    expect: Expectation = Expectation()
    """Anything else is a failed request."""
    timeout: Annotated[Duration, within(0.01, 60)] = 2.0
    """How long a user waits."""


def watched_longer() -> Timeline:
    """A foreign application gets more time than one of ours: its parts notice, log and recover at their own pace."""
    return Timeline(warmup=1.0, baseline=6.0, incident=10.0, recovery=8.0)


class ForeignSpec(Strict):
    """Where it is, what it is made of, who uses it."""

    compose: Compose | None = None
    """A Docker Compose project; or"""
    kubernetes: KubernetesNamespace | None = None
    """a namespace of a cluster."""
    url: Annotated[str, AfterValidator(_url)]
    """Where its users come in, as seen from here."""
    entry: Name
    """The component behind that address."""
    components: Annotated[dict[Name, ForeignComponent], Field(min_length=1, max_length=200)]
    """By the name that reports show."""
    probes: Annotated[dict[Name, Probe], Field(min_length=1, max_length=50)]
    """What its users do, by name."""
    rate: Annotated[Number, Field(gt=0, le=500)] = 10.0
    """Requests a second, all probes together (Poisson arrivals)."""
    slo: Slo = Slo()
    """What must hold for these users while nothing is broken."""
    timeline: Timeline = Field(default_factory=watched_longer)
    """How long each part of an episode lasts."""
    otlp: Annotated[str, Field(pattern=r"^[0-9A-Za-z.-]+:\d{1,5}$")] | None = None
    """Where to listen for OpenTelemetry (OTLP/HTTP), as in `0.0.0.0:4318`; its `service.name`s are the components' names."""


class ForeignApp(Strict):
    """A file of kind ForeignApp."""

    api_version: Annotated[ApiVersion, Field(alias="apiVersion")]
    """The version of this schema."""
    kind: Literal["ForeignApp"]
    """`ForeignApp`."""
    metadata: Metadata
    """What it is called."""
    spec: ForeignSpec
    """Where it is, what it is made of, who uses it."""

    @model_validator(mode="after")
    def _whole(self) -> ForeignApp:
        raise_problems("ForeignApp", [Problem(("spec", *p.loc), p.message, p.key) for p in _problems(self.spec)])
        return self


def _problems(spec: ForeignSpec) -> Iterator[Problem]:
    """Everything wrong between the fields; locations are relative to `spec`."""
    if (spec.compose is None) == (spec.kubernetes is None):
        yield Problem((), "exactly one of 'compose' and 'kubernetes' says where the application runs")
        return
    entry = spec.components.get(spec.entry)
    if entry is None:
        yield Problem(("entry",), _unknown(spec, spec.entry))
    elif entry.kind in ("postgres", "redis", "worker"):
        yield Problem(("entry",), f"'{spec.entry}' is a {entry.kind}; users talk to a gateway or a service")
    for role, component in spec.components.items():
        for problem in _component_problems(spec, role, component):
            yield Problem(("components", role, *problem.loc), problem.message, problem.key)


def _component_problems(spec: ForeignSpec, role: str, component: ForeignComponent) -> Iterator[Problem]:
    wanted, other = ("container", "workload") if spec.compose else ("workload", "container")
    if getattr(component, other) is not None:
        where = "compose" if spec.compose else "kubernetes"
        yield Problem((other,), f"this application runs in {where}, where a component is a {wanted}: write '{wanted}'", key=True)
    elif getattr(component, wanted) is None:
        yield Problem((), f"key '{wanted}' is missing")
    if role == "edge":
        yield Problem((), "'edge' is what reports call the users; give the component another name", key=True)
    for index, callee in enumerate(component.calls):
        if callee not in spec.components:
            yield Problem(("calls", index), _unknown(spec, callee))
        elif callee == role:
            yield Problem(("calls", index), f"'{role}' does not call itself")
    for index, allowed in enumerate(component.allow):
        if why := _not_for(spec, role, component, allowed):
            yield Problem(("allow", index), why)
    for key, kind in (("sql", "postgres"), ("tables", "postgres"), ("redis", "redis")):
        if getattr(component, key) and component.kind != kind:
            yield Problem((key,), f"a {component.kind} has no {key}; only a {kind} does", key=True)


def _not_for(spec: ForeignSpec, role: str, component: ForeignComponent, allowed: Allowed) -> str | None:
    if allowed == "sql" and (component.kind != "postgres" or component.sql is None):
        return "sql needs a postgres, and its `sql: {user, database, password_env}`"
    if allowed == "redis" and component.kind != "redis":
        return f"redis is for a redis, and '{role}' is a {component.kind}"
    if allowed == "load" and role != spec.entry:
        return f"load comes to the entry, which is '{spec.entry}'; allow it there"
    if allowed == "link" and component.listens is None:
        return f"link needs to know where '{role}' listens: write its `port`"
    return None


def _unknown(spec: ForeignSpec, role: str) -> str:
    return f"there is no component '{role}'; there are {', '.join(spec.components)}{did_you_mean(role, spec.components)}"
