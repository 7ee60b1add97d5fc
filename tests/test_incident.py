"""The incident report: what it says of small hand-made telemetry, and what it never does."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.diagnosis import Cause, Diagnosis, parse_diagnosis
from chaosgym.episode import ComponentInfo, EdgeInfo, Episode, EpisodeHeader, Window, read_episode, write_episode
from chaosgym.errors import InputError
from chaosgym.incident import analyse, compile_incident, render_incident
from chaosgym.incident.answer import ANSWER_FRAGMENTS, answer_text, read_answer
from chaosgym.incident.compact import estimate_tokens
from chaosgym.incident.findings import Findings
from chaosgym.incident.signs import sign_of
from chaosgym.incident.templates import mask
from chaosgym.incident.vocabulary import BOUNDS, CLOSED_WORDS, ERROR_KINDS, HANDLES, LOG_SIGNS, level
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.failures import failure_kind
from chaosgym.telemetry.store import TelemetryBuffer

MS = 10**6
START = 1_790_000_000 * 10**9
BASELINE = Window(START, START + 1000 * MS)
INCIDENT = Window(START + 1000 * MS, START + 2500 * MS)
BOTH = Window(BASELINE.start, INCIDENT.end)
KINDS = {"front-door": "gateway", "billing-core": "service", "ledger-db": "postgres"}


def header(components: Iterable[ComponentInfo] | None = None) -> EpisodeHeader:
    infos = tuple(components or (ComponentInfo(name=n, kind=k, host=f"{n}.prod.internal") for n, k in KINDS.items()))
    edges = tuple(EdgeInfo(source=a.name, target=b.name) for a, b in itertools.pairwise(infos))
    return EpisodeHeader(id="episode-1", baseline=BASELINE, incident=INCIDENT, entry=infos[0].name, components=infos, edges=edges)


class World:
    """Telemetry of front-door -> billing-core -> ledger-db, one request every 20 ms."""

    def __init__(self) -> None:
        self.buffer = TelemetryBuffer()
        self.number = 0

    def span(
        self, at: int, took: int, service: str, kind: str, peer: str = "", *, parent: str = "", error: str = "", http: int = 200
    ) -> str:
        self.number += 1
        name = f"s{self.number}"
        status = "error" if error or http >= 500 else "unset"
        host = f"{peer}.prod.internal" if peer else None
        row = (at, at + took, service, "t", name, parent or None, "GET", kind, status, error or None, host, http, error or None, "{}")
        self.buffer.spans.append(row)
        return name

    def request(self, at: int, *, took: int = 5 * MS, error: str = "", attempts: int = 1, gap: int = 0) -> None:
        http = 503 if error else 200
        user = self.span(at, attempts * took + 4 * MS, "edge", "client", "front-door", http=http)
        served = self.span(at + MS, attempts * took + 2 * MS, "front-door", "server", parent=user, http=http)
        for attempt in range(attempts):
            begin = at + 2 * MS + attempt * took
            call = self.span(begin, took + gap, "front-door", "client", "billing-core", parent=served, error=error, http=http)
            if not error:
                self.span(begin, took, "billing-core", "server", parent=call)

    def gauge(self, at: int, service: str, name: str, value: float) -> None:
        self.buffer.metrics.append((at, at, service, name, "1", "gauge", value, None, None, None, "{}"))

    def log(self, at: int, service: str, severity: int, body: str) -> None:
        self.buffer.logs.append((at, service, severity, "", body, None, None, "{}"))

    def event(self, at: int, service: str, name: str, body: str = "", attributes: str = "{}") -> None:
        self.buffer.events.append((at, service, name, body, attributes))

    def live(self, services: Iterable[str] = KINDS, until: int = INCIDENT.end, **values: float) -> None:
        for at in range(BASELINE.start, until, 100 * MS):
            for service in services:
                self.gauge(at, service, "process.cpu.utilization", values.get("cpu", 0.1))
                self.gauge(at, service, "process.memory.usage", values.get("memory", 80e6))
                self.gauge(at, service, "http.server.active_requests", 1)

    def quiet(self, window: Window = BOTH) -> None:
        for at in range(window.start, window.end - 20 * MS, 20 * MS):
            self.request(at)

    def write(self, directory: Path, head: EpisodeHeader | None = None) -> Episode:
        head = head or header()
        return read_episode(write_episode(directory, head, self.buffer.tables()))


def row(findings: Findings, name: str) -> list[str]:
    return list(findings.rows[name])


@pytest.fixture
def crash(tmp_path: Path) -> Episode:
    """billing-core is refused, ends and stays away."""
    world = World()
    world.quiet(BASELINE)
    for at in range(INCIDENT.start, INCIDENT.end - 20 * MS, 20 * MS):
        world.request(at, took=MS, error="ConnectionRefusedError")
        world.log(at, "front-door", 17, f"Cannot connect to host billing-core.prod.internal:8080 (trace {at:x})")
    world.live(["front-door", "ledger-db"])
    world.live(["billing-core"], until=INCIDENT.start)
    world.event(INCIDENT.start + MS, "billing-core", "exit", "exited with signal 9", json.dumps({"exit.code": -9}))
    return world.write(tmp_path)


def test_quiet_telemetry_has_no_notable_words(tmp_path: Path) -> None:
    world = World()
    world.quiet()
    world.live()
    findings = analyse(world.write(tmp_path))
    assert {name: row(findings, name) for name in KINDS} == {name: ["up"] for name in KINDS}
    assert findings.logs == ()


def test_crash_reads_as_down_and_refused(crash: Episode) -> None:
    findings = analyse(crash)
    assert row(findings, "billing-core") == ["down", "ebb4", "fail5", "refused", "killed"]
    assert findings.alert.calls.errors.after > 0.9
    assert [(log.component, log.sign or log.template, log.peer) for log in findings.logs] == [
        ("front-door", "Cannot connect to host ⟨billing-core⟩:<*> (trace <*>)", "billing-core")
    ]


def test_slow_link_is_a_gap_that_the_callee_does_not_see(tmp_path: Path) -> None:
    world = World()
    world.quiet(BASELINE)
    for at in range(INCIDENT.start, INCIDENT.end - 200 * MS, 20 * MS):
        world.request(at, gap=120 * MS)
    world.live()
    words = row(analyse(world.write(tmp_path)), "billing-core")
    assert {"wait4", "gap4"} <= set(words)
    assert not any(word.startswith(("lat", "err", "cpu")) for word in words)


def test_retries_multiply_calls_per_request(tmp_path: Path) -> None:
    world = World()
    world.quiet(BASELINE)
    for at in range(INCIDENT.start, INCIDENT.end - 60 * MS, 20 * MS):
        world.request(at, attempts=5)
    world.live()
    findings = analyse(world.write(tmp_path))
    assert "again5" in row(findings, "front-door")
    assert "flow4" in row(findings, "billing-core")


def test_saturation_columns(tmp_path: Path) -> None:
    world = World()
    world.quiet()
    world.live(["front-door"])
    for i, at in enumerate(range(BASELINE.start, INCIDENT.end, 100 * MS)):
        late = at >= INCIDENT.start
        world.gauge(at, "billing-core", "process.cpu.utilization", 0.7 if late else 0.1)
        world.gauge(at, "billing-core", "process.memory.usage", 100e6 + (i * 20e6 if late else 0))
        world.gauge(at, "billing-core", "process.unix.file_descriptor.count", 30)
        world.gauge(at, "billing-core", "process.unix.file_descriptor.limit", 30 if late else 256)
        world.gauge(at, "ledger-db", "process.cpu.utilization", 0.1)
        world.gauge(at, "ledger-db", "postgresql.backends", 19 if late else 6)
        world.gauge(at, "ledger-db", "postgresql.connection.max", 20)
    findings = analyse(world.write(tmp_path))
    assert row(findings, "billing-core") == ["up", "cpu4", "mem5", "files5"]
    assert row(findings, "ledger-db") == ["up", "slots4"]


def test_events_say_when_they_happened(tmp_path: Path) -> None:
    world = World()
    world.quiet()
    world.live()
    world.event(BASELINE.start + MS, "ledger-db", "config_change")
    world.event(INCIDENT.start + MS, "billing-core", "deployment", "version 2.4.0")
    findings = analyse(world.write(tmp_path))
    assert row(findings, "ledger-db") == ["up", "config", "earlier"]
    assert row(findings, "billing-core") == ["up", "deploy"]


def test_report_is_a_function_of_episode_and_seed(crash: Episode) -> None:
    again = compile_incident(read_episode(crash.path), seed=3)
    assert again.compact == compile_incident(crash, seed=3).compact
    assert again.readable == render_incident(analyse(crash), crash.header.id, 3).readable
    assert {compile_incident(crash, seed=s).compact for s in range(8)} != {again.compact}
    assert sorted(again.handles.values()) == sorted(KINDS) == sorted(again.components)


def test_compact_report_spends_closed_words_outside_log_text(crash: Episode) -> None:
    incident = compile_incident(crash)
    head, logs = incident.compact.split("\nlogs\n")
    assert set(head.split()) <= set(CLOSED_WORDS)
    assert not any(name in incident.compact for name in KINDS)
    handle = {name: h for h, name in incident.handles.items()}
    assert logs == f"{handle['front-door']} error new n5 {handle['billing-core']} cannot connect to host trace"


def test_readable_report_names_components_and_numbers(crash: Episode) -> None:
    text = compile_incident(crash).readable
    assert text.startswith("# Alert\nrequests to front-door: 0% -> 100% fail")
    assert "billing-core (service, down)" in text
    assert "exited with signal 9" in text


@pytest.mark.parametrize("budget", [60, 120, 400, 700])
def test_reports_keep_their_budgets(tmp_path: Path, budget: int) -> None:
    world = World()
    infos = [ComponentInfo(name=f"part-{i}", kind="service", host=f"part-{i}.internal") for i in range(120)]
    for i, info in enumerate(infos):
        world.log(INCIDENT.start + MS, info.name, 17, f"something went wrong in the {'very ' * (i % 7)}middle of it")
        world.span(INCIDENT.start + MS, 5 * MS, info.name, "client", f"part-{i // 2}", error="timeout")
    incident = compile_incident(world.write(tmp_path, header(infos)), budget=budget)
    assert estimate_tokens(incident.compact) <= budget
    assert len(incident.readable) <= budget * 2 * 3.5 + 1000
    assert len(incident.handles) == len(HANDLES)
    assert "more" in incident.compact.split()


def test_unscorable_episode_has_no_report(tmp_path: Path) -> None:
    head = header().model_copy(update={"status": "unscorable", "reason": "postgres did not start"})
    with pytest.raises(InputError, match="postgres did not start"):
        compile_incident(World().write(tmp_path, head))


def test_empty_telemetry_still_gives_a_report(tmp_path: Path) -> None:
    incident = compile_incident(World().write(tmp_path))
    assert incident.compact.startswith("alert")
    assert "?" in incident.alert


def test_closed_words_are_distinct_and_hold_everything() -> None:
    assert len(set(CLOSED_WORDS)) == len(CLOSED_WORDS)
    assert {*FAULT_TYPES, *HANDLES, *ERROR_KINDS, *LOG_SIGNS} <= set(CLOSED_WORDS)
    assert not any(" " in word for word in CLOSED_WORDS)


@given(st.sampled_from(sorted(BOUNDS)), st.floats(allow_nan=True, allow_infinity=True))
def test_every_level_is_a_closed_word(column: str, value: float) -> None:
    assert level(column, value) in CLOSED_WORDS


@given(st.text(max_size=300))
def test_masking_is_stable_and_leaves_no_long_numbers(text: str) -> None:
    masked = mask(text)
    assert "\n" not in masked
    assert mask("id 123456 " + masked).startswith("id <*>")


@pytest.mark.parametrize(("text", "sign"), [
    ("OSError: [Errno 24] Too many open files", "toofiles"),
    ("FATAL:  sorry, too many clients already", "toomany"),
    ('FATAL:  password authentication failed for user "app"', "badauth"),
    ("OOM command not allowed when used memory > 'maxmemory'.", "oomcmd"),
    ("canceling statement due to lock timeout", "lockwait"),
    ("Connect call failed ('127.0.0.1', 80): Connection refused", "refused"),
    ("Traceback (most recent call last): KeyError: 'price'", "exception"),
    ("GET /v2/items 200", ""),
])
def test_signs(text: str, sign: str) -> None:
    assert sign_of(text) == sign
    assert sign == "" or sign in CLOSED_WORDS


@given(st.text(max_size=80))
def test_every_failure_has_a_closed_kind(text: str) -> None:
    assert failure_kind(text) in ERROR_KINDS


def test_answer_goes_there_and_back() -> None:
    handles = {"c7": "billing-core", "c31": 'odd "name"'}
    causes = (
        Cause(component='odd "name"', fault="process.hang", probability=0.2),
        Cause(component="billing-core", fault="process.crash", probability=0.8),
    )
    diagnosis = Diagnosis(verdict="fault", causes=causes, evidence=("billing-core refused",))
    text = answer_text(diagnosis, handles)
    assert text == (
        '{"verdict": "fault", "causes": [{"component": "c7", "fault": "process.crash", "probability": 0.8}, '
        '{"component": "c31", "fault": "process.hang", "probability": 0.2}], "evidence": ["c7 refused"]}'
    )
    back = parse_diagnosis(read_answer(text, handles))
    assert back is not None
    assert back.causes == diagnosis.ranked()
    assert back.evidence == diagnosis.evidence


def test_answer_is_fragments_and_closed_words() -> None:
    text = answer_text(Diagnosis(verdict="fault", causes=(Cause(component="a", fault="process.hang"),)), {"c1": "a"})
    for fragment in sorted(ANSWER_FRAGMENTS, key=len, reverse=True):
        text = text.replace(fragment, " ")
    assert set(text.split()) <= set(CLOSED_WORDS)
    assert answer_text(Diagnosis(verdict="healthy"), {}) in ANSWER_FRAGMENTS


def test_unknown_handle_stays_as_it_is() -> None:
    assert read_answer('{"component": "c9", "x": "abc1 c1.5"}', {"c1": "a"}) == '{"component": "c9", "x": "abc1 c1.5"}'


@given(st.text(max_size=200))
def test_reading_any_answer_never_raises(text: str) -> None:
    assert isinstance(read_answer(text, {"c1": "front"}), str)


def test_words_cost_no_heavy_import() -> None:
    code = (
        "import sys, chaosgym.incident.vocabulary, chaosgym.incident.answer; "
        "print(sorted({'pyarrow', 'numpy', 'drain3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
