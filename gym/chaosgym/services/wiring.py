"""From a Plan and the addresses of a sandbox to what each service process has to know."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chaosgym.app import CacheStep, CallStep, Component, ComputeStep, PublishStep, QueryStep
from chaosgym.app import Step as AppStep
from chaosgym.plan import Plan
from chaosgym.services.config import (
    Address,
    Cache,
    Call,
    Compute,
    EndpointConfig,
    Peer,
    Publish,
    Query,
    ServiceConfig,
    Step,
    StreamConfig,
)  # fmt: skip
from chaosgym.services.tables import table_columns

__all__ = ["Login", "Wiring", "service_configs"]

_SERVICE_KINDS = ("gateway", "service", "worker")


@dataclass(frozen=True)
class Login:
    """What a service signs in to the database with."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Wiring:
    """Made by the sandbox, by role."""

    bind: Mapping[str, Address]
    """Where each gateway, service and worker listens (reuse_port)."""
    client: Mapping[str, Address]
    """Where clients connect, datastores included; a link proxy may stand there."""
    otlp: str
    """OTLP/HTTP endpoint, `http://address:port`."""
    database: str
    """Name of the database, the same on every postgres component."""
    logins: Mapping[str, Login]
    """Of each service that queries."""


def service_configs(plan: Plan, wiring: Wiring) -> dict[str, ServiceConfig]:
    """The configuration of every gateway, service and worker, by role."""
    spec = plan.app.spec.components
    return {role: _config(plan, wiring, role) for role, component in spec.items() if component.kind in _SERVICE_KINDS}


def _config(plan: Plan, wiring: Wiring, role: str) -> ServiceConfig:
    component, public = plan.app.spec.components[role], plan.components[role]
    login = wiring.logins.get(role, Login("", ""))
    endpoints = tuple(
        EndpointConfig(endpoint.method, public.routes[name], _steps(plan, endpoint.steps)) for name, endpoint in component.endpoints.items()
    )
    return ServiceConfig(
        name=public.name, version=public.version, host=public.host, port=public.port, bind=wiring.bind[role],
        style=public.log_style, seed=_seed(plan.seed, public.name), otlp=wiring.otlp,  # pyright: ignore[reportArgumentType] - checked by pydantic
        peers=tuple(_peer(plan, wiring, other) for other in _peers(component)), endpoints=endpoints, consumes=_consumes(plan, role),
        pool=component.pool, database=wiring.database, database_user=login.user, database_password=login.password,
    )  # fmt: skip


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6])


def _peer(plan: Plan, wiring: Wiring, role: str) -> Peer:
    public = plan.components[role]
    return Peer(public.host, public.port, wiring.client[role], plan.app.spec.components[role].kind)


def _peers(component: Component) -> list[str]:
    """Roles that a component connects to, in order of appearance."""
    found: dict[str, None] = {}
    for endpoint in component.endpoints.values():
        found.update(dict.fromkeys(_targets(endpoint.steps)))
    if component.consumes is not None:
        found[component.consumes.redis] = None
        found.update(dict.fromkeys(_targets(component.consumes.steps)))
    return list(found)


def _targets(steps: Sequence[AppStep]) -> Iterable[str]:
    for step in steps:
        match step:
            case CallStep():
                yield step.call
            case QueryStep():
                yield step.query
            case CacheStep():
                yield step.cache
                yield from _targets(step.otherwise)
            case PublishStep():
                yield step.publish
            case ComputeStep():
                pass


def _consumes(plan: Plan, role: str) -> StreamConfig | None:
    consumer = plan.app.spec.components[role].consumes
    if consumer is None:
        return None
    source = plan.components[consumer.redis]
    return StreamConfig(source.host, source.streams[consumer.stream], plan.components[role].name, _steps(plan, consumer.steps))


def _steps(plan: Plan, steps: Sequence[AppStep]) -> tuple[Step, ...]:
    return tuple(_step(plan, step) for step in steps)


def _step(plan: Plan, step: AppStep) -> Step:
    match step:
        case CallStep():
            peer = plan.components[step.call]
            method = plan.app.spec.components[step.call].endpoints[step.endpoint].method
            return Call(peer.host, method, peer.routes[step.endpoint], step.timeout, step.retries, step.optional)
        case QueryStep():
            return _query(plan, step)
        case CacheStep():
            host = plan.components[step.cache].host
            return Cache(host, step.operation, step.key, step.ttl, step.timeout, _steps(plan, step.otherwise))
        case PublishStep():
            store = plan.components[step.publish]
            return Publish(store.host, store.streams[step.stream], step.timeout)
        case ComputeStep():
            return Compute(step.compute)


def _query(plan: Plan, step: QueryStep) -> Query:
    store = plan.components[step.query]
    table = store.tables[step.table]
    rows = plan.app.spec.components[step.query].tables[step.table].rows
    return Query(store.host, table, table_columns(plan.seed, table), rows, step.operation, step.timeout)
