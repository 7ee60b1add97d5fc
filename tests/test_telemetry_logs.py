"""The log reader: the five styles, records of many lines, and whatever bytes a broken program writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.errors import InputError
from chaosgym.telemetry.log_styles import STYLES, severity_number
from chaosgym.telemetry.logs import MAX_BODY, parse_log
from chaosgym.telemetry.schema import LOGS
from chaosgym.telemetry.store import TelemetryBuffer

T0 = int(datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC).timestamp()) * 10**9
TRACE = "5b8efff798038103d269b633813fc60c"


def only(text: str, style: str) -> dict[str, Any]:
    """The one record of `text`, by column, attributes decoded."""
    (row,) = parse_log(text, "cart", style)
    found = dict(zip(LOGS.names, row, strict=True))
    return found | {"attributes": json.loads(found["attributes"])}


@pytest.mark.parametrize(
    ("style", "line", "level", "number", "body", "attributes"),
    [
        ("json", '{"timestamp": "2026-11-21T10:00:00.250Z", "level": "warn", "msg": "slow", "ms": 12}', "warn", 13, "slow", {"ms": 12}),
        ("json", '{"ts": 1795255200.25, "severity": "ERROR", "message": "no", "n": NaN}', "ERROR", 17, "no", {"n": "NaN"}),
        ("logfmt", 'time=2026-11-21T10:00:00.250Z level=info msg="a \\"b\\" c" path=/x?y=1', "info", 9, 'a "b" c', {"path": "/x?y=1"}),
        ("plain", "2026-11-21T10:00:00.250Z ERROR boom: 503", "ERROR", 17, "boom: 503", {}),
        ("plain", "2026-11-21 10:00:00,250 [WARNING] boom", "WARNING", 13, "boom", {}),
        ("plain", "[2026-11-21 11:00:00.250+01:00] cart.http INFO - done", "INFO", 9, "cart.http INFO - done", {}),
        ("plain", "[2026-11-21T10:00:00.250+00:00] [12] [WARN] slow", "WARN", 13, "slow", {"process.pid": 12}),
        ("plain", "2026-11-21T10:00:00.250Z INFO    [cart] a", "INFO", 9, "a", {}),
        ("plain", "2026-11-21 10:00:00,250 INFO cart: a", "INFO", 9, "a", {}),
        ("postgres", "2026-11-21 10:00:00.250 UTC [77] FATAL:  too many clients", "FATAL", 21, "too many clients", {"process.pid": 77}),
        ("redis", "9:M 21 Nov 2026 10:00:00.250 # OOM", "WARNING", 13, "OOM", {"process.pid": 9}),
        ("redis", "9:M 21 Nov 2026 10:00:00.250 * Ready", "NOTICE", 10, "Ready", {"process.pid": 9}),
    ],
)  # fmt: skip
def test_each_style(style: str, line: str, level: str, number: int, body: str, attributes: dict[str, Any]) -> None:
    row = only(line + "\n", style)
    assert (row["time_unix_nano"], row["service_name"]) == (T0 + 250_000_000, "cart")
    assert (row["severity_text"], row["severity_number"], row["body"], row["attributes"]) == (level, number, body, attributes)


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ("json", json.dumps({"time": "2026-11-21T10:00:00Z", "message": "x", "trace_id": TRACE, "span_id": "0a" * 8})),
        ("logfmt", f"ts=2026-11-21T10:00:00Z level=info msg=x trace_id={TRACE} span_id={'0a' * 8}"),
        ("plain", f"2026-11-21T10:00:00Z INFO x trace_id={TRACE}"),
    ],
)
def test_trace_ids_link_logs_to_spans(style: str, line: str) -> None:
    row = only(line, style)
    assert row["trace_id"] == TRACE
    assert row["span_id"] == (None if style == "plain" else "0a" * 8)


def test_a_traceback_belongs_to_the_line_before() -> None:
    text = (
        "2026-11-21 10:00:00,250 ERROR request failed\nTraceback (most recent call last):\n"
        '  File "cart.py", line 3, in total\n    return price["amount"]\n           ~~~~~^^^^^\nKeyError: \'amount\'\n'
        "\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
        '  File "cart.py", line 9, in handle\nshop.errors.TotalError: no total for 7\n2026-11-21 10:00:01,000 INFO next\n'
    )
    first, second = parse_log(text, "cart", "plain")
    assert (first[2], second[4]) == (17, "next")
    assert first[4].startswith("request failed\nTraceback")
    assert first[4].endswith("no total for 7")
    assert json.loads(first[7]) == {"exception.type": "shop.errors.TotalError", "exception.message": "no total for 7"}


def test_a_stack_in_a_field_is_read_alike() -> None:
    stack = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: bad'
    row = only(json.dumps({"time": "2026-11-21T10:00:00Z", "level": "error", "msg": "failed", "exception": stack}), "json")
    assert row["body"] == f"failed\n{stack}"
    assert row["attributes"] == {"exception.type": "ValueError", "exception.message": "bad"}


@pytest.mark.parametrize("style", ["json", "logfmt", "plain"])
def test_an_unannounced_traceback_is_an_error_of_its_own(style: str) -> None:
    line = {
        "json": '{"time":"2026-11-21T10:00:00Z","level":"info","msg":"ok"}',
        "logfmt": "ts=2026-11-21T10:00:00Z level=info msg=ok",
        "plain": "2026-11-21T10:00:00Z INFO ok",
    }[style]
    fine, crash = parse_log(f'{line}\nTraceback (most recent call last):\n  File "a.py"\nMemoryError\n', "cart", style)
    assert (fine[4], fine[2], crash[2], crash[0]) == ("ok", 9, 17, T0)
    assert json.loads(crash[7]) == {"exception.type": "MemoryError", "exception.message": ""}


def test_postgres_details_join_their_message() -> None:
    prefix = "2026-11-21 10:00:00.250 UTC [77] "
    text = f"{prefix}ERROR:  canceling statement\n{prefix}DETAIL:  waited\n{prefix}STATEMENT:  select 1\n\tfrom carts\n{prefix}LOG:  next\n"
    first, second = parse_log(text, "db", "postgres")
    assert first[4] == "canceling statement\nDETAIL:  waited\nSTATEMENT:  select 1\n\tfrom carts"
    assert (second[3], second[4]) == ("LOG", "next")


def test_records_without_a_time_take_their_neighbours() -> None:
    rows = parse_log('warming up\n{"level":"info","msg":"a"}\n{"time":"2026-11-21T10:00:00Z","msg":"b"}\n', "cart", "json")
    assert [(row[0], row[4]) for row in rows] == [(T0, "warming up"), (T0, "a"), (T0, "b")]
    assert parse_log("no time at all", "cart", "plain", fallback_ns=7)[0][0] == 7


def test_bodies_are_bounded() -> None:
    row = only("2026-11-21T10:00:00Z ERROR " + "a" * 100_000 + "\nlast words", "plain")
    assert len(row["body"]) < MAX_BODY + 10
    assert row["body"].endswith("last words")


def test_an_unknown_style_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown log style 'jsonl' - did you mean 'json'.*logfmt"):
        parse_log("", "cart", "jsonl")


@pytest.mark.parametrize(("level", "number"), [("warn", 13), ("Error", 17), ("CRITICAL", 21), ("LOG", 9), ("nonsense", 0)])
def test_severities_are_opentelemetrys(level: str, number: int) -> None:
    assert severity_number(level) == number


PIECES = [
    "2026-11-21T10:00:00.250Z ", "2026-11-21 10:00:00.250 UTC [1] ", "9999-12-31 23:59:59,999-23:59 ", "0001-01-01T00:00:00+23:59 ",
    "1:M 21 Nov 2026 10:00:00.250 * ", "9:C 99 Nov 0000 99:99:99.999 # ", "LOG:  ", "DETAIL:  ", "ERROR ", "[", "ts=", 'msg="', "level=",
    '{"', '"time":', '"ts":1e400', "}", '{"time": -1, "msg": "\\ud800"}', '{"ts": 1e18, "level": ["x"], "msg": {"a": 1}}',
    "Traceback (most recent call last):\n", "KeyError: 'x'\n", "trace_id=", "\\", '"', "\n", "\r\n", "\t", "\x00", "\u2028", "\udcff",
]  # fmt: skip
FRAGMENTS = st.one_of(st.text(max_size=12), st.sampled_from(PIECES))


@given(style=st.sampled_from(sorted(STYLES)), parts=st.lists(FRAGMENTS, max_size=15))
def test_any_text_gives_rows_of_the_schema(style: str, parts: list[str]) -> None:
    text = "".join(parts)
    rows = parse_log(text, "cart", style)
    assert TelemetryBuffer(logs=rows).tables()["logs"].num_rows == len(rows)
    assert bool(rows) or not text.strip() or text.isspace()
    assert all(isinstance(json.loads(row[7], parse_constant=pytest.fail), dict) for row in rows)


@given(style=st.sampled_from(sorted(STYLES)), data=st.binary(max_size=300))
def test_any_bytes_give_rows_of_the_schema(style: str, data: bytes) -> None:
    rows = parse_log(data, "cart", style)
    assert TelemetryBuffer(logs=rows).tables()["logs"].num_rows == len(rows)


@given(style=st.sampled_from(["json", "logfmt"]), body=st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_messages_round_trip(style: str, body: str) -> None:
    escaped = body.replace("\\", "\\\\").replace('"', '\\"')
    line = {
        "json": json.dumps({"time": "2026-11-21T10:00:00Z", "level": "info", "msg": body}),
        "logfmt": f'ts=2026-11-21T10:00:00Z level=info msg="{escaped}" k=v',
    }[style]
    assert only(line, style)["body"] == body


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("line", ["a" * 200_000, "a=" * 100_000, '"' * 200_000, '{"a":' * 50_000, " " * 200_000, 'a="' + "\\" * 99_999])
def test_long_lines_take_no_long_time(style: str, line: str) -> None:
    assert all(len(row[4]) < MAX_BODY + 10 for row in parse_log(line, "cart", style))
