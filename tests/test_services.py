"""The parts of a service, without a network: configuration, log lines, bugs, breakers, encoding."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common import trace_encoder
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from chaosgym.drawing import draw_plan
from chaosgym.errors import InputError
from chaosgym.plan import Plan
from chaosgym.scenarios.load import load_app, load_scenario
from chaosgym.services.breaker import Breaker
from chaosgym.services.config import Call, Defect, Query, ServiceConfig
from chaosgym.services.database import statement
from chaosgym.services.journal import Journal, Level
from chaosgym.services.peers import path_for
from chaosgym.services.phrases import PHRASES, draw_phrases
from chaosgym.services.rules import BUGS, compile_rule, is_affected
from chaosgym.services.tables import table_columns, table_statements
from chaosgym.services.trace import format_traceback
from chaosgym.services.wire_format import encode_spans
from chaosgym.services.wiring import Login, Wiring, service_configs
from chaosgym.telemetry.logs import parse_log

STYLES = ("json", "logfmt", "plain")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw_plan(load_app("shop"), load_scenario("healthy/steady"), seed=5)


@pytest.fixture(scope="module")
def configs(plan: Plan) -> dict[str, ServiceConfig]:
    addresses = {role: ("127.9.8.7", component.port) for role, component in plan.components.items()}
    logins = {role: Login("user", "secret") for role in plan.components}
    return service_configs(plan, Wiring(addresses, addresses, "http://127.0.0.1:4318", "app", logins))


def test_every_program_of_the_app_gets_a_configuration(plan: Plan, configs: dict[str, ServiceConfig]) -> None:
    programs = [role for role, c in plan.app.spec.components.items() if c.kind in ("gateway", "service", "worker")]
    assert list(configs) == programs
    assert {c.name for c in configs.values()} == {plan.components[role].name for role in programs}


def test_a_configuration_survives_json(configs: dict[str, ServiceConfig]) -> None:
    for config in configs.values():
        assert ServiceConfig.from_json(config.to_json()) == config


def test_a_configuration_speaks_of_public_names_only(plan: Plan, configs: dict[str, ServiceConfig]) -> None:
    hosts = {c.host for c in plan.components.values()}
    for config in configs.values():
        assert {peer.host for peer in config.peers} <= hosts
        calls = [s for e in config.endpoints for s in e.steps if isinstance(s, Call)]
        assert all(call.host in {peer.host for peer in config.peers} for call in calls)


def test_every_setting_of_a_rollout_can_be_replaced(configs: dict[str, ServiceConfig]) -> None:
    config = configs["orders"]
    defect = {"kind": "raise", "share": 0.4, "flavour": 3}
    after = config.replace(database_password="x", retries=5, timeout=0.1, breaker=False, backoff=0.0, version="9.9.9", defect=defect)
    assert (after.retries, after.timeout, after.breaker, after.version) == (5, 0.1, False, "9.9.9")
    assert after.defect == Defect(kind="raise", share=0.4, flavour=3)
    assert config.retries is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retry": 3}, "did you mean 'retries'"),
        ({"retries": -1}, "retries"),
        ({"timeout": 0}, "timeout"),
        ({"defect": {"kind": "melt"}}, "defect"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(
    configs: dict[str, ServiceConfig], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        configs["orders"].replace(**settings)


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(InputError, match="not a service configuration"):
        ServiceConfig.from_json('{"name": "x"}')


def test_passwords_stay_out_of_the_representation(configs: dict[str, ServiceConfig]) -> None:
    assert "secret" not in repr(configs["orders"])


@pytest.mark.parametrize(("route", "path"), [("/v2/items/{id}", "/v2/items/17"), ("/x/{sku}/full", "/x/17/full"), ("/home", "/home?id=17")])
def test_the_item_finds_its_place_in_the_route(route: str, path: str) -> None:
    assert path_for(route, 17) == path


def test_tables_are_made_under_their_drawn_names(plan: Plan) -> None:
    made = table_statements(plan, "database")
    assert set(made) == set(plan.components["database"].tables.values())
    for table, sql in made.items():
        assert all(f'"{column}"' in sql for column in table_columns(plan.seed, table))


def test_each_operation_is_one_statement_on_the_table() -> None:
    for operation, verb in {"get": "select", "list": "select", "search": "select", "insert": "insert", "update": "update"}.items():
        step = Query("db", "t_orders", ("name", "price", "stock", "state", "updated_at"), 100, operation, 0.2)  # type: ignore[arg-type]
        assert statement(step).startswith(verb)
        assert '"t_orders"' in statement(step)


# ---- the log


def test_phrasings_differ_between_services_and_not_within_one() -> None:
    drawn = [draw_phrases(seed) for seed in range(30)]
    assert draw_phrases(3) == drawn[3]
    assert all(len({phrases[event] for phrases in drawn}) > 1 for event in PHRASES)


def test_no_phrase_speaks_of_what_was_done_to_the_service() -> None:
    words = " ".join(template for templates in PHRASES.values() for template in templates).lower()
    assert not re.search(r"chaos|inject|fault|defect|toxic|simulat|experiment", words)


def _write(style: str, seed: int, level: Level, text: str, raised: BaseException | None = None) -> Iterator[tuple[str, int, str | None]]:
    reader, writer = os.pipe()
    journal = Journal("cart-api", style, seed, descriptor=writer)
    journal.line(level, text, ("ab" * 16, "cd" * 8), raised)
    journal.access("GET", "/v1/items/3", 200, 0.0123, ("ab" * 16, "cd" * 8))
    os.close(writer)
    with os.fdopen(reader, "rb") as end:
        rows = parse_log(end.read(), "cart-api", style)
    for row in rows:
        yield row[4], row[2], row[5]


@pytest.mark.parametrize("style", STYLES)
@given(seed=st.integers(0, 2**48), text=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_whatever_a_service_logs_is_read_back(style: str, seed: int, text: str) -> None:
    (body, severity, trace), (access, info, _) = _write(style, seed, "WARN", f"failed: {text}")
    assert severity == 13
    assert trace == "ab" * 16
    assert f"failed: {text}" in body
    assert info == 9
    assert "/v1/items/3" in access


@pytest.mark.parametrize("style", STYLES)
def test_a_traceback_belongs_to_its_line(style: str) -> None:
    with pytest.raises(KeyError) as caught:
        {}[7]  # pyright: ignore[reportUnusedExpression]
    (body, severity, _), _ = _write(style, 4, "ERROR", "unhandled exception", caught.value)
    assert severity == 17
    assert body.endswith("KeyError: 7")


# ---- bugs


@pytest.mark.parametrize("flavour", range(len(BUGS)))
def test_a_bug_throws_on_its_inputs_and_on_no_others(flavour: int) -> None:
    rule = compile_rule("cart-api", flavour, 0.5)
    for item in range(1, 60):
        if is_affected(item, 0.5, flavour):
            with pytest.raises(Exception, match=r".") as caught:
                rule.apply(rule.record(item))
            assert not isinstance(caught.value, SyntaxError | NameError | AssertionError)
        else:
            rule.apply(rule.record(item))


def test_bugs_are_of_many_kinds() -> None:
    kinds: set[str] = set()
    for flavour in range(len(BUGS)):
        rule = compile_rule("cart-api", flavour, 1.0)
        with pytest.raises(Exception, match=r".") as caught:
            rule.apply(rule.record(1))
        kinds.add(caught.type.__name__)
    assert len(kinds) >= 7


@given(share=st.floats(0, 1), flavour=st.integers(0, 999))
def test_about_the_share_of_the_items_is_affected(share: float, flavour: int) -> None:
    hit = sum(is_affected(item, share, flavour) for item in range(800)) / 800
    assert abs(hit - share) < 0.09


@pytest.mark.parametrize("flavour", range(len(BUGS)))
def test_a_traceback_shows_deployed_code_and_nothing_of_this_machine(flavour: int) -> None:
    rule = compile_rule("cart-api", flavour, 1.0)
    with pytest.raises(Exception, match=r".") as caught:
        rule.apply(rule.record(1))
    text = format_traceback(caught.value, "cart-api")
    assert text.startswith("Traceback (most recent call last):\n")
    assert "/app/cart_api/" in text
    assert 'record["' in text
    assert not re.search(r"chaos|\.venv|awkward|defect|is_affected", text.split("test_services.py", 1)[-1].split("\n", 2)[2])


# ---- the breaker


class Clock:
    """Time that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_after_failures_in_a_row_and_closes_after_a_good_trial() -> None:
    clock = Clock()
    breaker = Breaker(threshold=3, rest=1.0, clock=clock)
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    assert not breaker.allow()
    clock.now = 1.5
    assert breaker.allow()
    assert not breaker.allow()  # one trial at a time
    assert breaker.succeeded()
    assert breaker.closed


def test_a_failed_trial_keeps_it_open_and_an_abandoned_one_makes_room() -> None:
    clock = Clock()
    breaker = Breaker(threshold=1, rest=1.0, clock=clock)
    breaker.failed()
    clock.now = 1.1
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()
    breaker.failed()
    assert not breaker.allow()
    clock.now = 2.2
    assert breaker.allow()


def test_a_success_in_between_forgives() -> None:
    breaker = Breaker(threshold=2)
    breaker.failed()
    breaker.succeeded()
    assert not breaker.failed()
    assert breaker.closed


# ---- encoding


def test_spans_are_encoded_as_the_sdk_does() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "x", "process.pid": 7}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("app")
    root = tracer.start_span("GET /", kind=SpanKind.SERVER, attributes={"a": "text", "b": 1, "c": 1.0, "d": True, "e": 2.5})
    child = tracer.start_span("SELECT t", set_span_in_context(root), SpanKind.CLIENT)
    child.set_status(Status(StatusCode.ERROR, "timed out"))
    child.end()
    root.end()
    spans = kept.get_finished_spans()
    ours = ExportTraceServiceRequest.FromString(encode_spans(spans))
    theirs = trace_encoder.encode_spans(spans)
    for span in (s for r in theirs.resource_spans for scope in r.scope_spans for s in scope.spans):
        span.ClearField("flags")
    assert ours == theirs


def test_no_spans_are_no_bytes() -> None:
    assert encode_spans([]) == b""


# ---- the process


def test_sigterm_ends_a_process_with_its_last_words(tmp_path: Path) -> None:
    address = ("127.61.20.9", 8123)
    config = ServiceConfig("cart-api", "1.2.3", "cart.local", 8123, address, "plain", 1, "http://127.0.0.1:9")
    code = (
        "import socket, sys\nfrom chaosgym.services.config import ServiceConfig\nfrom chaosgym.services.main import run\n"
        "run(ServiceConfig.from_json(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", code, config.to_json(), str(fd)],
            pass_fds=(fd,),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
        ours.settimeout(30)
        assert json.loads(ours.recv(100)) == {"ready": True}
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == 0, out
    assert b"1.2.3" in out.splitlines()[0]
    assert len(out.splitlines()) == 4
