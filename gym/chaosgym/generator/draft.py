"""Who there is in a generated application: its components, in layers; and the words that they are named by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

__all__ = ["READS", "TABLES", "WRITES", "Draft", "Endpoint", "Step", "Work", "make_draft"]

_LAYERS = (3, 6, 4, 2)
"""How services are spread over the layers behind the gateway, of which there are at most as many."""
_DATABASE_USERS = 12
"""Components that may use the database, at most: it has 40 connections for all of them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Lists of our own: a longer vocabulary must not change what a seed stands for.
_SERVICES = _words(
    "accounts analytics auth cart catalog content devices documents entitlements history inventory ledger media messaging orders payments"
    " playback presence pricing recommendations reports reviews rooms scheduling scoring search service shipping statements transfers"
    " uploads users"
)
_WORKERS = _words("indexing moderation notifications publishing thumbnails transcoding worker")
TABLES = _words(
    "accounts bookings bookmarks carts chat customers deliveries devices documents events members messages orders payments plans prices"
    " products renditions reviews shipments stock terms users videos"
)
READS = _words("get list search view check profile quote report suggest browse status history balance members statement")
"""Names of endpoints that read."""
WRITES = _words("create update add place send reserve charge book upload transfer post checkout connect")
"""Names of endpoints that write."""

Step = dict[str, Any]


class Work(NamedTuple):
    """Steps, and how many spans they set off."""

    steps: list[Step]
    spans: int


class Endpoint(NamedTuple):
    """What a component can be asked for."""

    role: str
    name: str
    spans: int
    """Set off by one request to it, its own included."""
    reads: bool
    calls: bool


@dataclass
class Draft:
    """An application under way."""

    random: Random
    layers: list[list[str]]
    """The gateway, then the services by layer."""
    layer: dict[str, int]
    """Of every service and worker; whoever publishes to a worker stands one above it."""
    database_users: frozenset[str]
    fresh: list[str]
    """Used by no request yet, the deepest first."""
    replicas: dict[str, int]
    endpoints: dict[str, dict[str, Any]]
    """Of the gateway and of each service, as they are written."""
    known: list[Endpoint] = field(default_factory=list[Endpoint])
    consumed: dict[str, list[Step]] = field(default_factory=dict[str, list[Step]])
    """Worker -> its steps."""
    tables: dict[str, str] = field(default_factory=dict[str, str])
    """Component -> the table that it uses."""
    keys: int = 0


def make_draft(random: Random, size: int) -> Draft:
    """`size` components, the two datastores among them, and their layers; nobody does anything yet."""
    count = random.randint(1 + (size - 3) // 16, 1 + (size - 3) // 8)
    services, workers = _roles(random, _SERVICES, size - 3 - count), _roles(random, _WORKERS, count)
    depth = random.randint(min(2, len(services)), min(len(_LAYERS), len(services)))
    layers = [["gateway"], *([role] for role in services[:depth])]
    for role in services[depth:]:
        layers[random.choices(range(1, depth + 1), _LAYERS[:depth])[0]].append(role)
    layer = {role: number for number, roles in enumerate(layers) for role in roles}
    layer |= {role: random.randint(2, min(depth + 1, 4)) for role in workers}
    fresh = sorted((role for role in layer if role != "gateway"), key=lambda role: -layer[role])
    return Draft(
        random=random,
        layers=layers,
        layer=layer,
        database_users=frozenset([fresh[0], *random.sample(fresh[1:], min(len(fresh) // 2, _DATABASE_USERS - 1))]),
        fresh=fresh,
        replicas=_replicas(random, layers[1]),
        endpoints={role: {} for roles in layers for role in roles},
    )


def _roles(random: Random, vocabularies: Sequence[str], count: int) -> list[str]:
    """As many different roles, each named after its vocabulary."""
    rounds = [random.sample(vocabularies, len(vocabularies)) for _ in range(-(-count // len(vocabularies)))]
    return [name if again == 0 else f"{name}-{again + 1}" for again, names in enumerate(rounds) for name in names][:count]


def _replicas(random: Random, first: Sequence[str]) -> dict[str, int]:
    """Of the gateway at times, and of up to two services of the `first` layer."""
    several = random.choice((0, 1, 1, 2) if len(first) < 4 else (1, 2, 2))
    found = dict.fromkeys(random.sample(first, min(len(first), several)), 2)
    return found | ({"gateway": random.randint(2, 3)} if random.random() < 0.5 else {})
