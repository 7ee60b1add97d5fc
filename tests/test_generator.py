"""Generated applications: valid, the same everywhere, of every size, with bounded requests that use everything."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chaosgym.app import App, CacheStep, CallStep, ComputeStep, PublishStep, QueryStep, Step
from chaosgym.cli.program import make_program
from chaosgym.drawing import draw_plan
from chaosgym.errors import InputError
from chaosgym.generator import FEWEST, MOST, MOST_SPANS, generate_app, generate_document
from chaosgym.graph import component_steps, edges, reachable
from chaosgym.sandbox.datastores import MAX_CONNECTIONS
from chaosgym.scenarios import check_scenario, load_app, load_scenario, shipped_apps
from chaosgym.steps import walk_steps

SEEDS = st.integers(0, 10**18 - 1)
SIZES = st.integers(FEWEST, MOST)


def spans(app: App, steps: Sequence[Step]) -> int:
    """How many spans steps set off, workers included, when every cache misses and nothing is tried again."""
    return sum(_spans(app, step) for step in steps)


def _spans(app: App, step: Step) -> int:
    components = app.spec.components
    match step:
        case CallStep():
            return 2 + spans(app, components[step.call].endpoints[step.endpoint].steps)
        case QueryStep():
            return 1
        case CacheStep():
            return 2 + spans(app, step.otherwise) if step.otherwise else 1
        case PublishStep():
            readers = [c.consumes for c in components.values() if c.consumes is not None and c.consumes.stream == step.stream]
            return 1 + sum(1 + spans(app, reader.steps) for reader in readers)
        case ComputeStep():
            return 0


def requests(app: App) -> dict[str, int]:
    """Endpoint of the entry -> the spans of one request to it, the user's own included."""
    return {name: 2 + spans(app, endpoint.steps) for name, endpoint in app.spec.components[app.spec.entry].endpoints.items()}


def many(sizes: Sequence[int | None], seeds: int) -> Iterator[App]:
    for size in sizes:
        for seed in range(seeds):
            yield generate_app(seed, size)


# ── every seed ─────────────────────────────────────────────────────────────────────────────────────


@given(SEEDS, SIZES)
def test_every_seed_is_a_valid_application_of_the_size_that_was_asked_for(seed: int, size: int) -> None:
    app = generate_app(seed, size)
    assert len(app.spec.components) == size
    assert app.metadata.name == f"generated-{seed}-{size}"
    assert App.model_validate_json(app.model_dump_json(by_alias=True)) == app
    assert Counter(c.kind for c in app.spec.components.values() if c.kind in ("gateway", "postgres", "redis")) == {
        "gateway": 1, "postgres": 1, "redis": 1,
    }  # fmt: skip


@given(SEEDS)
def test_without_a_size_the_seed_draws_one(seed: int) -> None:
    app = generate_app(seed)
    size = len(app.spec.components)
    assert FEWEST <= size <= MOST
    assert app.metadata.name == f"generated-{seed}"
    assert app.spec == generate_app(seed, size).spec


@given(SEEDS, SIZES)
def test_journeys_use_every_component_and_no_request_is_dear(seed: int, size: int) -> None:
    app = generate_app(seed, size)
    asked = {request for journey in app.spec.journeys.values() for request in journey.requests}
    costs = requests(app)
    assert asked == set(costs), "no request is left out"
    assert reachable(app.spec, app.spec.entry) == set(app.spec.components)
    assert max(costs.values()) <= MOST_SPANS


@given(SEEDS, SIZES)
def test_the_database_has_connections_for_all(seed: int, size: int) -> None:
    app = generate_app(seed, size)
    users = [c for c in app.spec.components.values() if any(isinstance(at.step, QueryStep) for at in component_steps(c))]
    assert users, "it is used"
    assert sum(c.pool * c.replicas for c in users) <= MAX_CONNECTIONS - 5, "three are reserved, two are the sandbox's own"


@given(SEEDS, SIZES)
def test_callers_wait_longer_than_those_they_call(seed: int, size: int) -> None:
    components = generate_app(seed, size).spec.components
    patience = {("gateway", name): 1.0 for name in components["gateway"].endpoints}  # of users
    waiting = list(patience)
    while waiting:
        role, name = waiting.pop()
        for _, step in walk_steps(components[role].endpoints[name].steps):
            if isinstance(step, CallStep):
                assert step.timeout * (1 + step.retries) <= patience[role, name], (role, step)
                if step.timeout < patience.get((step.call, step.endpoint), 2.0):
                    patience[step.call, step.endpoint] = step.timeout
                    waiting.append((step.call, step.endpoint))


def test_the_same_seed_is_the_same_application_on_every_machine() -> None:
    """A change of these digests is a change of what every name `generated-SEED` stands for."""
    documents = {name: generate_document(*name) for name in ((0, None), (7, None), (7, 40), (123456789, 5))}
    assert {name: hashlib.sha256(json.dumps(document["spec"]).encode()).hexdigest()[:16] for name, document in documents.items()} == {
        (0, None): "666a2d3e4889034f",
        (7, None): "4c1ff6c71bdd5c24",
        (7, 40): "c4a5c1d085401128",
        (123456789, 5): "7ae553e6f9e4c26c",
    }


@pytest.mark.parametrize("seed", [7, 123456789])
def test_a_process_of_its_own_draws_the_same(seed: int) -> None:
    """Whatever the order of sets is in it."""
    code = f"import json; from chaosgym.generator import generate_document; print(json.dumps(generate_document({seed}, 40)))"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    apart = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, env=environment)
    assert json.loads(apart.stdout) == generate_document(seed, 40)


def test_seeds_differ_in_shape() -> None:
    shapes = {hashlib.sha256(repr(edges(app.spec)).encode()).hexdigest() for app in many([12], 200)}
    assert len(shapes) == 200
    sizes = {len(app.spec.components) for app in many([None], 200)}
    assert {FEWEST, FEWEST + 1} < sizes
    assert max(sizes) > 35


def test_shapes_have_what_real_systems_have() -> None:
    """Of 100 applications of 20 components each most have all of it; how deep they are differs."""
    found = Counter[str]()
    for app in many([20], 100):
        steps = [at.step for component in app.spec.components.values() for at in component_steps(component)]
        callers = Counter(edge.target for edge in edges(app.spec) if edge.protocol == "http")
        called = Counter(edge.source for edge in edges(app.spec) if edge.protocol == "http" and edge.source != app.spec.entry)
        behind = [c.replicas for role, c in app.spec.components.items() if role != app.spec.entry]
        found["fan-in"] += max(callers.values()) > 1
        found["fan-out"] += max(called.values(), default=0) > 1
        found["cache-aside"] += any(isinstance(step, CacheStep) and step.otherwise for step in steps)
        found["optional"] += any(isinstance(step, CallStep) and step.optional for step in steps)
        found["replicas"] += max(behind) > 1
        found["workers"] += any(c.kind == "worker" for c in app.spec.components.values())
    assert all(found[what] >= 60 for what in ("fan-in", "fan-out", "cache-aside", "optional", "replicas", "workers")), found


@given(SEEDS, SIZES)
def test_an_episode_of_it_can_be_planned(seed: int, size: int) -> None:
    app = generate_app(seed, size)
    plan = draw_plan(app, load_scenario("healthy-steady"), seed % 1000)
    assert set(plan.components) == set(app.spec.components)
    tables = [table for face in plan.components.values() for table in face.tables.values()]
    assert len(set(tables)) == len(tables)


@pytest.mark.parametrize("seed", [-1, 10**18])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=r"seed -?\d+ of a generated application is out of range; from 0 to"):
        generate_app(seed)


@pytest.mark.parametrize("size", [0, FEWEST - 1, MOST + 1])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=rf"{size} components of a generated application are out of range; from 5 to 40"):
        generate_app(1, size)


# ── by name, and on the command line ───────────────────────────────────────────────────────────────


def test_a_name_stands_for_it_wherever_an_app_is_named() -> None:
    assert load_app("generated-7") == generate_app(7)
    assert load_app("generated-7-40") == generate_app(7, 40)
    scenario = load_scenario("healthy-steady")
    named = scenario.model_copy(update={"spec": scenario.spec.model_copy(update={"app": "generated-7-40"})})
    assert check_scenario(named) == []
    assert not [name for name in shipped_apps() if name.startswith("generated")]


@pytest.mark.parametrize("name", ["generated-", "generated-x", "generated-07", "generated-7-", "generated-7-4-1", "generated--7"])
def test_other_names_are_refused_with_how_to_write_them(name: str) -> None:
    with pytest.raises(InputError, match=r"write generated-SEED or generated-SEED-COMPONENTS, as in generated-7 or generated-7-40"):
        load_app(name)


def test_a_generated_file_is_the_application_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    command = ["apps", "generate", "--seed", "7", "--components", "12", "--out", str(path), "--json"]
    shown = CliRunner().invoke(make_program(), command, prog_name="chaosgym")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["components"] == 12
    assert f"chaosgym run healthy-steady --app {path}" in shown.stderr
    assert load_app(path) == generate_app(7, 12)
    assert "{call: " in path.read_text(), "a step is one line"
    again = CliRunner().invoke(make_program(), command, prog_name="chaosgym")
    assert isinstance(again.exception, InputError)
    assert "exists already" in str(again.exception)


def test_a_document_has_nothing_that_yaml_would_alias() -> None:
    seen = list[int]()

    def walk(value: object) -> None:
        if isinstance(value, dict | list):
            seen.append(id(value))
            for part in value.values() if isinstance(value, dict) else value:
                walk(part)

    document = generate_document(3, 40)
    walk(document)
    assert len(seen) == len(set(seen))


# ── the shipped ones ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["shop", "ledger", "media", "chat"])
def test_a_shipped_application_costs_about_as_much_as_the_shop(name: str) -> None:
    app = load_app(name)
    costs, total, weight = requests(app), 0.0, 0.0
    for journey in app.spec.journeys.values():
        total += journey.weight * sum(costs[request] for request in journey.requests)
        weight += journey.weight * len(journey.requests)
    assert 6 <= total / weight <= 14


@pytest.mark.parametrize("name", ["ledger", "media", "chat"])
def test_names_of_a_shipped_application_cannot_be_memorised(name: str) -> None:
    app, scenario = load_app(name), load_scenario("healthy-steady")
    plans = [draw_plan(app, scenario, seed) for seed in range(200)]
    assert {role: n for role in app.spec.components if (n := len({plan.components[role].name for plan in plans})) < 120} == {}


def test_shipped_applications_differ_in_shape() -> None:
    apps = {name: load_app(name) for name in shipped_apps()}
    assert set(apps) >= {"shop", "ledger", "media", "chat"}
    workers = {name: sum(c.kind == "worker" for c in app.spec.components.values()) for name, app in apps.items()}
    replicas = {name: sum(c.replicas - 1 for c in app.spec.components.values()) for name, app in apps.items()}
    assert (workers["shop"], workers["ledger"], workers["media"], workers["chat"]) == (1, 1, 3, 4)
    assert replicas["chat"] > replicas["shop"] == replicas["media"] == 0
