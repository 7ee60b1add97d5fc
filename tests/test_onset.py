"""Onset: whose telemetry was the first to leave what its baseline had shown."""

from __future__ import annotations

from chaosgym.episode import ComponentInfo, EpisodeHeader, Window
from chaosgym.incident.onset import first_anomalies
from chaosgym.telemetry.store import TelemetryBuffer

MS = 10**6
START = 1_790_000_000 * 10**9
END = START + 1000 * MS
"""Of the baseline."""
NAMES = ("front-door", "billing-core", "ledger-db")
HEADER = EpisodeHeader(
    id="e", entry=NAMES[0], baseline=Window(START, END), incident=Window(END, END + 1500 * MS),
    components=tuple(ComponentInfo(name=name, kind="service") for name in NAMES),
)  # fmt: skip


def calm() -> TelemetryBuffer:
    """Every component answers in 10 ms, logs, and is sampled four times a second."""
    buffer = TelemetryBuffer()
    for i in range(125):
        for name in NAMES:
            span(buffer, name, START + i * 20 * MS)
            buffer.logs.append((START + i * 20 * MS, name, 9, "INFO", "served", None, None, "{}"))
    for i in range(10):
        for name in NAMES:
            sample(buffer, name, START + i * 250 * MS, 0.1, 80 * 2**20)
    return buffer


def span(buffer: TelemetryBuffer, name: str, at: int, took: int = 10, http: int = 200) -> None:
    status = "error" if http >= 500 else "unset"
    row = ("t", f"s{len(buffer.spans)}", None, "GET", "server", status, None, None, http, None, "{}")
    buffer.spans.append((at, at + took * MS, name, *row))


def sample(buffer: TelemetryBuffer, name: str, at: int, cores: float, memory: float) -> None:
    for metric, value in (("process.cpu.utilization", cores), ("process.memory.usage", memory)):
        buffer.metrics.append((at, at, name, metric, "1", "gauge", value, None, None, None, "{}"))


def onsets(buffer: TelemetryBuffer) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in first_anomalies(buffer.tables(), HEADER).items()}


def test_nothing_is_early_where_nothing_happens() -> None:
    buffer = calm()
    buffer.events.append((END + 100 * MS, NAMES[0], "deployment", "1.2.3", "{}"))
    assert onsets(buffer) == {}
    assert onsets(TelemetryBuffer()) == {}


def test_the_first_failure_late_answer_complaint_or_sample_counts() -> None:
    buffer = calm()
    span(buffer, NAMES[0], END + 400 * MS, http=503)
    span(buffer, NAMES[0], END + 700 * MS, http=503)
    span(buffer, NAMES[1], END + 300 * MS, took=80)
    buffer.logs.append((END + 350 * MS, NAMES[1], 17, "ERROR", "timed out", None, None, "{}"))
    sample(buffer, NAMES[2], END + 600 * MS, 0.9, 80 * 2**20)
    sample(buffer, NAMES[2], END + 500 * MS, 0.1, 160 * 2**20)
    assert onsets(buffer) == {NAMES[0]: 0.41, NAMES[1]: 0.35, NAMES[2]: 0.5}


def test_what_was_usual_before_is_no_anomaly() -> None:
    buffer = calm()
    for at in (START + 500 * MS, END + 200 * MS):
        span(buffer, NAMES[0], at, http=503)
        span(buffer, NAMES[1], at, took=60)
        buffer.logs.append((at, NAMES[2], 13, "WARN", "slow query", None, None, "{}"))
    sample(buffer, NAMES[2], END + 200 * MS, 0.3, 90 * 2**20)
    assert onsets(buffer) == {}


def test_what_others_than_components_say_does_not_count() -> None:
    buffer = calm()
    span(buffer, "edge", END + 100 * MS, http=503)
    span(buffer, NAMES[0], END + 1600 * MS, http=503)  # after the incident window
    assert onsets(buffer) == {}
