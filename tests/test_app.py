"""Apps: quantities, the limits of a graph, and what the graph says about an app."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chaosgym.app import App, parse_duration, parse_size
from chaosgym.graph import Edge, edges, reachable
from chaosgym.scenarios import load_app, shipped_apps


def app(components: dict[str, Any], requests: list[str] | None = None, entry: str = "front") -> App:
    return App.model_validate(
        {
            "apiVersion": "chaosgym.dev/v1",
            "kind": "App",
            "metadata": {"name": "tried"},
            "spec": {"entry": entry, "components": components, "journeys": {"visit": {"weight": 1, "requests": requests or ["go"]}}},
        }
    )


def service(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "service", "vocabulary": "service", "endpoints": {"go": {"steps": list(steps)}}, **more}


def call(role: str, **more: Any) -> dict[str, Any]:
    return {"call": role, "endpoint": "go", **more}


def refusal(components: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        app(components)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in caught.value.errors())


# ── quantities ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("1.5s", 1.5), ("2 m", 120.0), ("40us", 4e-5), (0.2, 0.2), (3, 3.0)])
def test_durations_are_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "size"), [("1KiB", 1024), ("64MiB", 64 * 2**20), ("1.5GiB", 3 * 2**29), ("7B", 7), (512, 512)])
def test_sizes_are_bytes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", ["", "250", "ms", "-1s", "1h", "1e3ms", "1 s ", "١s", None, True, -1, math.nan, math.inf, 1e300, [], "9" * 40 + "s"]
)
def test_what_is_no_quantity_is_refused_with_an_example(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write a number and one of us, ms, s, m, as in '250ms'"):
        parse_duration(value)
    with pytest.raises(ValueError, match=r"is not a size; write a number and one of B, KiB, MiB, GiB, as in '256MiB'"):
        parse_size(value)


@given(st.text(max_size=30))
def test_any_text_is_a_finite_duration_or_refused(text: str) -> None:
    try:
        value = parse_duration(text)
    except ValueError:
        value = 0.0
    assert 0 <= value < math.inf


# ── the graph ──────────────────────────────────────────────────────────────────────────────────────


def test_the_smallest_app() -> None:
    small = app({"front": service({"compute": "1ms"})})
    assert edges(small.spec) == ()
    assert reachable(small.spec, "front") == {"front"}


def test_edges_of_shop() -> None:
    spec = load_app("shop").spec
    found = edges(spec)
    assert Edge("orders", "payments", "http") in found
    assert Edge("recommendations", "catalog", "http") in found, "a step under `otherwise` counts"
    assert Edge("catalog", "database", "postgresql") in found
    assert Edge("notifications", "cache", "redis") in found
    assert list(found) == sorted(set(found))
    assert reachable(spec, "gateway") == set(spec.components)
    assert reachable(spec, "orders") == {"orders", "inventory", "payments", "database", "cache", "notifications"}, (
        "a stream reaches its worker"
    )


def test_two_hundred_components_are_allowed_and_one_more_is_not() -> None:
    def chain(length: int) -> dict[str, Any]:
        links = {f"s{i}": service(*([call(f"s{i + 1}")] if i + 1 < length else [])) for i in range(length)}
        return {"front" if name == "s0" else name: component for name, component in links.items()}

    assert len(app(chain(200)).spec.components) == 200
    assert "spec.components: Value error, 201 components; an app has at most 200" in refusal(chain(201))


def test_a_request_that_fans_out_beyond_reason_is_refused() -> None:
    components = {f"s{i}": service(call(f"s{i + 1}"), call(f"s{i + 1}")) for i in range(100)} | {"s100": service()}
    components["front"] = service(call("s0"))
    assert "one request makes up to 255 calls; at most 200" in refusal(components)


@pytest.mark.parametrize("length", [1, 2, 5, 150])
def test_every_cycle_is_found(length: int) -> None:
    components = {f"s{i}": service(call(f"s{(i + 1) % length}")) for i in range(length)}
    components["front"] = service(call("s0"))
    assert "a request calls itself" in refusal(components)


def test_a_cycle_behind_a_cache_miss_is_found() -> None:
    step = {"cache": "kv", "key": "k", "otherwise": [call("front")]}
    assert "a request calls itself" in refusal({"front": service(step), "kv": {"kind": "redis", "vocabulary": "cache"}})


KV = {"kind": "redis", "vocabulary": "cache"}
PG = {"kind": "postgres", "vocabulary": "database", "tables": {"t": {}}}
SET_OTHERWISE = {"cache": "kv", "key": "k", "operation": "set", "otherwise": [{"compute": "1ms"}]}
DEAF: dict[str, Any] = {"kind": "worker", "vocabulary": "worker", "consumes": {"redis": "kv", "stream": "s"}}
WRONG = [
    ({"front": service(call("back"))}, "front.endpoints.go.steps.0.call: the app has no component of a fitting kind 'back'"),
    ({"front": service({"query": "kv", "table": "t"}), "kv": KV}, "steps.0.query: 'kv' is a redis; this needs a postgres: none"),
    ({"front": service({"cache": "pg", "key": "k"}), "pg": PG}, "steps.0.cache: 'pg' is a postgres; this needs a redis: none"),
    ({"front": service({"publish": "pg", "stream": "s"}), "pg": PG}, "steps.0.publish: 'pg' is a postgres"),
    ({"front": service({"query": "pg", "table": "u"}), "pg": PG}, "steps.0.table: 'pg' has no table 'u'; it has t"),
    ({"front": service(), "pg": {"kind": "postgres", "vocabulary": "database"}}, "components.pg: a postgres needs tables"),
    ({"front": {"kind": "service", "vocabulary": "service"}}, "components.front: a service needs endpoints"),
    ({"front": service(), "w": {"kind": "worker", "vocabulary": "worker"}}, "components.w: a worker needs consumes"),
    ({"front": service(tables={"t": {}})}, "components.front.tables: a service has no tables; only a postgres does"),
    ({"front": service(SET_OTHERWISE), "kv": KV}, "steps.0.otherwise: only 'get'"),
    ({"front": service(), "w": DEAF, "kv": KV}, "w.consumes.stream: 'kv' is published no stream 's'; it has none"),
    ({"front": service(), "w": {**DEAF, "replicas": 2}, "kv": KV}, "w.replicas: a worker has no replicas; only a gateway or service does"),
    ({"front": service(), "kv": {**KV, "replicas": 2}}, "kv.replicas: a redis has no replicas; only a gateway or service does"),
    ({"front": service(replicas=7)}, "components.front.replicas: Input should be less than or equal to 6"),
    ({}, "at least 1 item"),
]


@pytest.mark.parametrize(("components", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_references_lead_to_the_right_kind(components: dict[str, Any], message: str) -> None:
    assert message in refusal(components)


def test_a_message_that_leads_to_itself_is_refused() -> None:
    told = {"publish": "kv", "stream": "s"}
    worker = {**DEAF, "consumes": {**DEAF["consumes"], "steps": [told]}}
    assert "components.w.consumes: a message leads to itself: w -> w; break the cycle" in refusal(
        {"front": service(told), "w": worker, "kv": KV}
    )
    worker = {**DEAF, "consumes": {**DEAF["consumes"], "steps": [call("back")]}}
    round_about = refusal({"front": service(call("back")), "back": service(told), "w": worker, "kv": KV})
    assert "a message leads to itself" in round_about
    assert "back.go" in round_about


def test_one_message_may_go_to_several_workers_and_each_counts() -> None:
    told = {"publish": "kv", "stream": "s"}
    workers = {f"w{i}": DEAF for i in range(150)}
    assert len(app({"front": service(told), "kv": KV, **workers}).spec.components) == 152
    assert "one request makes up to 301 calls; at most 200" in refusal({"front": service(told, told), "kv": KV, **workers})


@pytest.mark.parametrize("name", shipped_apps())
def test_an_app_survives_a_round_trip(name: str) -> None:
    first = load_app(name)
    assert App.model_validate_json(first.model_dump_json(by_alias=True)) == first
