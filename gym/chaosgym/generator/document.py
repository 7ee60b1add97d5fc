"""A generated application as a document, by its seed or by its name."""

from __future__ import annotations

import hashlib
import re
from random import Random
from typing import Any

from chaosgym.app import API_VERSION, App
from chaosgym.errors import InputError
from chaosgym.generator.draft import Draft, make_draft
from chaosgym.generator.requests import draw_requests

__all__ = ["FEWEST", "MOST", "generate_app", "generate_document", "generated_app"]

FEWEST, MOST = 5, 40
"""Components."""
_LARGEST_SEED = 10**18 - 1
_NAME = re.compile(r"generated-(0|[1-9][0-9]{0,17})(?:-([1-9][0-9]{0,2}))?")


def generated_app(name: str) -> App:
    """The application that a name such as `generated-7` or `generated-7-40` stands for. InputError for any other name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise InputError(
            f"no generated application '{name}'; write generated-SEED or generated-SEED-COMPONENTS, as in generated-7 or generated-7-40"
        )
    return generate_app(int(found[1]), None if found[2] is None else int(found[2]))


def generate_app(seed: int, components: int | None = None) -> App:
    """The application of a seed, of a size that is drawn too unless `components` says it. InputError when out of range."""
    return App.model_validate(generate_document(seed, components))


def generate_document(seed: int, components: int | None = None) -> dict[str, Any]:
    """The same as an author would write it in YAML."""
    if not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"seed {seed} of a generated application is out of range; from 0 to {_LARGEST_SEED}")
    if components is not None and not FEWEST <= components <= MOST:
        raise InputError(f"{components} components of a generated application are out of range; from {FEWEST} to {MOST}")
    size = components or min(_stream(seed, 0).choices(range(FEWEST, MOST + 1), k=2))
    draft = make_draft(_stream(seed, size), size)
    requests = draw_requests(draft)
    services, layers, workers = len(draft.endpoints) - 1, len(draft.layers) - 1, len(draft.consumed)
    shape = f"{_count(services, 'service')} in {_count(layers, 'layer')}, {_count(workers, 'worker')}"
    return {
        "apiVersion": API_VERSION,
        "kind": "App",
        "metadata": {
            "name": f"generated-{seed}" + ("" if components is None else f"-{components}"),
            "title": f"Generated from seed {seed}: {shape}",
        },
        "spec": {
            "entry": "gateway",
            "components": _components(draft),
            "journeys": _journeys(draft.random, requests),
            "slo": {"errors": 0.05, "p95": "400ms"},
        },
    }


def _stream(seed: int, size: int) -> Random:
    return Random(int.from_bytes(hashlib.sha256(f"generated\0{seed}\0{size}".encode()).digest()[:16]))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _components(draft: Draft) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    small = {"pool": 2} if len(draft.tables) > 6 else {}  # few connections each, where many share the server's
    for role, endpoints in draft.endpoints.items():
        kind = "gateway" if role == "gateway" else "service"
        replicas = {"replicas": draft.replicas[role]} if role in draft.replicas else {}
        found[role] = _component(kind, role) | replicas | (small if role in draft.tables else {}) | {"endpoints": endpoints}
    for role, steps in draft.consumed.items():
        consumes = {"redis": "cache", "stream": role, "steps": steps}
        found[role] = _component("worker", role) | (small if role in draft.tables else {}) | {"consumes": consumes}
    rows = {table: {"rows": draft.random.choice((100, 200, 300))} for table in dict.fromkeys(draft.tables.values())}
    return found | {"database": _component("postgres", "database") | {"tables": rows}, "cache": _component("redis", "cache")}


def _component(kind: str, role: str) -> dict[str, Any]:
    return {"kind": kind, "vocabulary": role.rstrip("0123456789-")}


def _journeys(random: Random, requests: list[str]) -> dict[str, dict[str, Any]]:
    """Every request in one journey, of one to three."""
    rest, found = random.sample(requests, len(requests)), dict[str, dict[str, Any]]()
    while rest:
        taken = random.randint(1, 3)
        found[f"visit-{len(found) + 1}"] = {"weight": random.randint(10, 30), "requests": rest[:taken]}
        rest = rest[taken:]
    return found
