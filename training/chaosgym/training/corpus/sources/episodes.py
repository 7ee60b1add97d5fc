"""Recorded episodes as text: what stands in the telemetry, and the reports compiled from it.

Of `truth.json` the split alone is looked at, since an episode's header tells nobody which it is of.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaosgym.episode import Episode, list_episodes, read_episode
from chaosgym.errors import InputError
from chaosgym.incident import analyse, render_incident
from chaosgym.training.corpus.document import Document
from chaosgym.training.tasks import SPLIT
from chaosgym.truth import read_truth

__all__ = ["read_episodes"]

_BUDGET = 350
_LINES = 60
"""Of a document of log lines or traces, so that one episode gives several."""


def read_episodes(folder: Path, seed: int) -> Iterator[Document]:
    """Log lines, traces and both reports of each. InputError for an episode of any split but train, before anything is read."""
    paths = list_episodes(folder)
    if not paths:
        raise InputError(f"{folder}: holds no episodes; `chaosgym record --out {folder}` makes some")
    for path in paths:
        split = read_truth(path).split
        if split != SPLIT:
            raise InputError(f"{path}: is of split {split}, which is kept to be judged on; name a folder with split {SPLIT} alone")
    for number, path in enumerate(paths):
        yield from _texts(read_episode(path), seed * 1_000_003 + number)


def _texts(episode: Episode, seed: int) -> Iterator[Document]:
    identity = episode.header.id
    if episode.header.status != "ok":
        yield Document(identity, "", prose=False, skip="unscorable episode")
        return
    for kind, lines in (("logs", _log_lines(episode)), ("traces", _trace_lines(episode))):
        for start in range(0, len(lines), _LINES):
            yield Document(f"{identity}/{kind}/{start}", "\n".join(lines[start : start + _LINES]), prose=False)
    incident = render_incident(analyse(episode), identity, seed, _BUDGET)
    yield Document(f"{identity}/compact", incident.compact, prose=False)
    yield Document(f"{identity}/readable", incident.readable, prose=False)


def _log_lines(episode: Episode) -> list[str]:
    columns = ("time_unix_nano", "severity_text", "service_name", "body")
    rows = episode.tables["logs"].select(columns).to_pylist()
    return [f"{_clock(row[columns[0]])} {row[columns[1]]} {row[columns[2]]}: {row[columns[3]]}" for row in rows]


def _clock(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]


def _trace_lines(episode: Episode) -> list[str]:
    """Every trace as a tree, its spans indented below their parents."""
    children: dict[str, list[dict[str, Any]]] = {}
    spans = episode.tables["spans"].to_pylist()
    known = {span["span_id"] for span in spans}
    for span in spans:
        parent = span["parent_span_id"]
        children.setdefault(parent if parent in known and parent != span["span_id"] else "", []).append(span)
    lines: list[str] = []
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    while waiting:
        span, depth = waiting.pop()
        lines.append("  " * depth + _span(span))
        waiting += [(child, depth + 1) for child in reversed(children.pop(span["span_id"], []))]
    return lines


def _span(span: dict[str, Any]) -> str:
    took = (span["end_time_unix_nano"] - span["start_time_unix_nano"]) / 1e6
    status = [str(span[key]) for key in ("http_status_code", "error_type") if span[key] is not None]
    return " ".join([span["service_name"], span["kind"], span["name"], f"{took:.1f}ms", span["status_code"], *status])
