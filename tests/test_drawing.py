"""Drawing: the same seed gives the same plan, names are many and clear, and nothing in a plan's shape betrays the fault."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym import vocabulary
from chaosgym.drawing import LINK_FAULTS, draw_plan, resolve
from chaosgym.errors import InputError
from chaosgym.faults import FAULTS, make_fault
from chaosgym.naming import Company, draw_version, next_version
from chaosgym.plan import Plan
from chaosgym.scenario import Scenario
from chaosgym.scenarios import find_scenarios, load_app, load_scenario, shipped_scenarios

SHOP = load_app("shop")


def plans(name: str, count: int) -> list[Plan]:
    scenario = load_scenario(name)
    return [draw_plan(load_app(scenario.spec.app), scenario, seed) for seed in range(count)]


def scenario(**spec: Any) -> Scenario:
    return Scenario.model_validate(
        {"apiVersion": "chaosgym.dev/v1", "kind": "Scenario", "metadata": {"name": "tried"}, "spec": {"app": "shop", **spec}}
    )


@pytest.mark.parametrize("name", shipped_scenarios())
def test_the_same_seed_draws_the_same_plan(name: str) -> None:
    one = load_scenario(name)
    app = load_app(one.spec.app)
    assert draw_plan(app, one, 7) == draw_plan(app, one.model_copy(deep=True), 7)
    assert draw_plan(app, one, 7).components != draw_plan(app, one, 8).components


def test_a_plan_is_the_same_on_every_machine() -> None:
    plan = draw_plan(SHOP, load_scenario("resource-cpu"), 11)
    again = draw_plan(SHOP, load_scenario("resource-cpu"), 11)
    assert plan.faults == again.faults
    assert 0.6 <= plan.faults[0].parameters["duty"] <= 0.95


@pytest.mark.parametrize("name", shipped_scenarios())
@pytest.mark.parametrize("seed", range(12))
def test_every_draw_is_a_fault_that_can_be_made(name: str, seed: int) -> None:
    one = load_scenario(name)
    app = load_app(one.spec.app)
    plan = draw_plan(app, one, seed)
    for fault in plan.faults:
        made = make_fault(fault.fault, fault.target, fault.parameters)
        assert app.spec.components[made.target].kind in made.kinds
    for decoy in plan.decoys:
        assert decoy.target in app.spec.components


def test_faults_on_links_have_their_proxy() -> None:
    assert {label for label, fault in FAULTS.items() if "link" in fault.needs} == set(LINK_FAULTS)
    for seed in range(30):
        latency = draw_plan(SHOP, load_scenario("network-latency"), seed)
        assert latency.faults[0].target in latency.proxied
        storm = draw_plan(SHOP, load_scenario("application-retry-storm"), seed)
        assert storm.faults[0].parameters["dependency"] in storm.proxied


def test_the_number_of_proxies_betrays_nothing() -> None:
    assert {len(plan.proxied) for name in shipped_scenarios() for plan in plans(name, 8)} == {3}


def test_decoys_come_as_often_whatever_is_broken() -> None:
    count = 400
    shares: dict[str, dict[str, float]] = {}
    for name in ("healthy-steady", "process-crash", "application-bad-deploy"):
        kinds = Counter(decoy.kind for plan in plans(name, count) for decoy in plan.decoys)
        shares[name] = {kind: number / count for kind, number in kinds.items()}
    for kind, expected in (("deploy", 0.5), ("config", 0.3), ("traffic", 0.3), ("neighbour", 0.3), ("old_error", 0.2)):
        for name, share in shares.items():
            assert share[kind] == pytest.approx(expected, abs=0.09), (name, kind)


def test_no_decoy_heals_the_fault() -> None:
    for name in ("process-hang", "resource-cpu"):
        for plan in plans(name, 150):
            injected = plan.scenario.spec.timeline.baseline + plan.inject_offset
            rolled = [d for d in plan.decoys if d.kind in ("deploy", "config") and d.target == plan.faults[0].target]
            late = [d for d in rolled if d.offset > injected - 0.35]
            assert late == []


def test_decoys_happen_within_the_windows_and_often_about_when_a_fault_would() -> None:
    found = [(decoy, plan) for plan in plans("healthy-steady", 200) for decoy in plan.decoys if decoy.kind != "old_error"]
    times = [decoy.offset - plan.scenario.spec.timeline.baseline - plan.inject_offset for decoy, plan in found]
    assert all(0 < decoy.offset < 3.0 for decoy, _ in found)
    assert sum(abs(time) < 0.3 for time in times) / len(times) > 0.4
    assert all(0.7 <= decoy.parameters["factor"] <= 1.6 for decoy, _ in found if decoy.kind == "traffic")
    assert all(decoy.parameters["version"] != plan.components[decoy.target].version for decoy, plan in found if decoy.kind == "deploy")
    assert all(decoy.parameters["old"] != decoy.parameters["new"] for decoy, _ in found if decoy.kind == "config")


def test_the_fault_never_comes_at_the_border() -> None:
    offsets = [plan.inject_offset for plan in plans("process-crash", 60)]
    assert all(0 < offset < 0.4 for offset in offsets)
    assert len(set(offsets)) > 50


# ── names ──────────────────────────────────────────────────────────────────────────────────────────

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@given(st.integers(0, 2**63), st.sampled_from(shipped_scenarios()))
def test_names_are_unique_well_formed_and_not_contained_in_each_other(seed: int, name: str) -> None:
    scenario = load_scenario(name)
    plan = draw_plan(load_app(scenario.spec.app), scenario, seed)
    faces = list(plan.components.values())
    names = [face.name for face in faces]
    assert [(a, b) for a in names for b in names if a != b and a in b] == []
    assert all(LABEL.fullmatch(label) for face in faces for label in face.host.split("."))
    assert len({face.host for face in faces}) == len({face.port for face in faces}) == len(faces)
    assert all(1024 < face.port < 65536 for face in faces)
    for face in faces:
        heads = [route.split("/{id}")[0].rsplit("/", 1)[-1] for route in face.routes.values()]
        assert len(set(heads)) == len(heads), "no route may shadow another"
        assert all(re.fullmatch(r"(/[a-z0-9-]+)+/\{id\}(/[a-z]+)?", route) for route in face.routes.values())
    tables = [table for face in faces for table in face.tables.values()]
    assert len(set(tables)) == len(tables)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", table) for table in tables)


def test_names_cannot_be_memorised() -> None:
    seen = {role: {plan.components[role].name for plan in plans("process-crash", 300)} for role in SHOP.spec.components}
    assert {role: len(names) for role, names in seen.items() if len(names) < 150} == {}


def test_a_company_never_runs_out_of_names() -> None:
    company = Company(random.Random(1))
    names = [company.component("cart", "service") for _ in range(200)]
    assert len(set(names)) == 200


HINTS = """
fault faults chaos inject toxic slow broken bug crash hang leak stuck error errors fail failed storm retry delay latency partition
bad oom lock locks kill chaosgym proxy decoy cause root test fake dummy
"""


def test_no_word_hints_at_a_fault() -> None:
    lists: list[Iterable[str]] = [vocabulary.PREFIXES, vocabulary.NAMESPACES, vocabulary.DOMAINS, vocabulary.ENVIRONMENTS]
    lists += [vocabulary.GENERIC_NOUNS, vocabulary.TABLE_PREFIXES, vocabulary.STREAM_SUBJECTS, vocabulary.STREAM_ENDINGS]
    lists += [vocabulary.ROUTE_BASES, vocabulary.ROUTE_TAILS, vocabulary.KNOBS, vocabulary.DATACENTRES]
    for by_kind in (vocabulary.NAME_STEMS, vocabulary.SUFFIXES, vocabulary.NOUNS, vocabulary.TABLE_WORDS, vocabulary.KNOBS):
        lists += by_kind.values()
    words = {word for texts in lists for text in texts for word in re.split(r"[^a-z]+", text.lower())}
    assert len(words) > 700
    assert words & set(HINTS.split()) == set()


@given(st.integers(0, 2**32), st.sampled_from(["semver", "vsemver", "calver", "build", "short", "candidate"]))
def test_the_next_version_is_later_and_of_the_same_style(seed: int, style: str) -> None:
    rng = random.Random(seed)
    version = draw_version(rng, style)
    after = next_version(version, rng)
    numbers = [[int(n) for n in re.findall(r"\d+", v)] for v in (version, after)]
    assert numbers[1] > numbers[0]
    assert re.sub(r"\d+", "0", version) == re.sub(r"\d+", "0", after)


# ── parameters ─────────────────────────────────────────────────────────────────────────────────────


def test_parts_of_a_choice_are_drawn_together() -> None:
    pairs = {(plan.faults[0].target, plan.faults[0].parameters["dependency"]) for plan in plans("application-retry-storm", 60)}
    assert pairs == {("orders", "payments"), ("orders", "inventory"), ("cart", "inventory"), ("recommendations", "catalog")}


def test_ranges_are_drawn_in_base_units_and_kept() -> None:
    parameters = {
        "count": {"uniform": [2, 4]},
        "real": {"uniform": [0.5, 0.75]},
        "time": {"loguniform": ["10ms", "1s"]},
        "size": {"loguniform": ["1MiB", "64MiB"]},
    }
    fault = {"fault": "process.crash", "target": "cart", "parameters": {name: f"${{{name}}}" for name in parameters}}
    drawn = [draw_plan(SHOP, scenario(parameters=parameters, faults=[fault]), seed).faults[0].parameters for seed in range(100)]
    assert {values["count"] for values in drawn} == {2, 3, 4}
    assert all(0.5 <= values["real"] <= 0.75 for values in drawn)
    assert all(0.01 <= values["time"] <= 1.0 and 2**20 <= values["size"] <= 2**26 for values in drawn)
    assert all(isinstance(values["size"], int) for values in drawn)
    assert 0.3 < sum(values["time"] < 0.1 for values in drawn) / 100 < 0.7, "half of a loguniform lies below its geometric mean"


def test_a_target_that_the_app_lacks_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"app 'shop' has no component 'carts'; it has .* - did you mean 'cart'\?"):
        draw_plan(SHOP, scenario(faults=[{"fault": "process.crash", "target": "carts"}]), 0)


def test_plain_values_resolve_to_themselves() -> None:
    assert resolve("orders", {}) == "orders"
    assert resolve("${a}", {"a": 1.5}) == 1.5
    assert resolve("${a.b}", {"a": {"b": "x"}}) == "x"


def test_drawing_leaves_every_scenario_of_the_library_as_it_was() -> None:
    before = [one.model_dump() for one in find_scenarios("*")]
    for one in find_scenarios("*"):
        draw_plan(load_app(one.spec.app), one, 1)
    assert [one.model_dump() for one in find_scenarios("*")] == before


def test_a_consequence_and_a_turn_are_drawn_as_written() -> None:
    lock, killed = plans("company-lock-then-restart", 1)[0].faults
    assert (lock.cause, killed.cause, killed.after) == (True, False, 0.5)
    (late,) = plans("network-latency-flapping", 1)[0].faults
    assert late.intermittent == (0.5, 0.25)
