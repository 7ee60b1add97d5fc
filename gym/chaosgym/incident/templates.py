"""Log lines as templates: what is new or came much more often in the incident window.

    body ──> names marked, numbers masked ──> drain3 per component ──> counts before and after ──> LogFinding

Component names and hosts become `⟨name⟩`, so that a rendering can put a handle there; variable parts become `<*>`.
Only the distinct masked texts go through drain3: a few dozen of some hundred lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from drain3.drain import Drain, LogCluster

from chaosgym.episode import EpisodeHeader
from chaosgym.incident.findings import LogFinding
from chaosgym.incident.signs import sign_of

__all__ = ["mark_names", "mask", "mine_logs"]

_MAX_TEXT = 500
_MAX_LINES = 5000
_EXAMPLE = 300
_VARIABLE = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"  # uuid
    r"|\b0x[0-9a-fA-F]+\b"
    r"|\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"  # hex id
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"
    r"|(?<![\w.])(?:50[0-4]|40[1349]|429)(?![\w.]|\s?m?s\b)"  # HTTP statuses stay: see _keep
    r"|(?<![A-Za-z_])[-+]?\d+(?:[.,:]\d+)*(?:[a-zA-Z]{1,3}\b|%)?"
    r"|(?<=[A-Za-z_])\d+(?=\b|[-_])"
)
_SERVER = re.compile(r"\b50[0-4]\b")
_STATUS = re.compile(r"50[0-4]|40[1349]|429")
_NAME = re.compile(r"⟨([^⟩]*)⟩")
_SEVERITIES = ((21, "fatal"), (17, "error"), (13, "warn"), (9, "info"))
_WEIGHTS = {"fatal": 4.0, "error": 3.0, "warn": 2.0, "info": 0.6, "debug": 0.3}


@dataclass
class _Group:
    """Lines of one component with the same masked text: how many in the baseline, and from its end on."""

    counts: list[int] = field(default_factory=lambda: [0, 0])
    severity: int = 0
    example: str = ""


def mark_names(header: EpisodeHeader) -> Callable[[str], str]:
    """A function that turns each component name or host, standing as a word, into `⟨name⟩`."""
    known = {word: c.name for c in header.components for word in (c.host, c.name) if word}
    if not known:
        return lambda text: text
    words = "|".join(re.escape(word) for word in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.-])(?:(?<!/)|(?<=//))(?:{words})(?![\w-])")
    return lambda text: pattern.sub(lambda found: f"⟨{known[found[0]]}⟩", text)


def mask(text: str) -> str:
    """Replace ids, addresses, times and numbers by `<*>`; usual HTTP error statuses stay, and so do marked names."""
    if "⟨" not in text:
        return " ".join(_VARIABLE.sub(_keep, text).split())
    pieces = _NAME.split(text)
    pieces[::2] = [_VARIABLE.sub(_keep, piece) for piece in pieces[::2]]
    pieces[1::2] = [f"⟨{piece}⟩" for piece in pieces[1::2]]
    return " ".join("".join(pieces).split())


def _keep(found: re.Match[str]) -> str:
    return found[0] if _STATUS.fullmatch(found[0]) else "<*>"


def mine_logs(logs: pa.Table, header: EpisodeHeader, limit: int = 24) -> tuple[LogFinding, ...]:
    """The most surprising templates in `logs` (schema LOGS), at most `limit`; lines beyond the newest 5000 are not read."""
    lengths = [(b - a) / 1e9 for a, b in (header.baseline, (header.baseline.end, header.incident.end))]
    found: list[LogFinding] = []
    for component, groups in sorted(_groups(logs, header).items()):
        found += (_finding(component, template, group, lengths) for template, group in _mined(groups))
    kept = sorted((f for f in found if f.surprise > 0), key=lambda f: (-f.surprise, f.component, f.template))
    return tuple(kept[:limit])


def _groups(logs: pa.Table, header: EpisodeHeader) -> dict[str, dict[str, _Group]]:
    part = logs.slice(max(logs.num_rows - _MAX_LINES, 0)).select(["time_unix_nano", "service_name", "severity_number", "body"])
    masked: dict[str, str] = {}
    marker = mark_names(header)
    components = {c.name for c in header.components}
    groups: dict[str, dict[str, _Group]] = {}
    for time, component, severity, body in zip(*(part[i].to_pylist() for i in range(4)), strict=True):
        if not header.baseline.start <= time < header.incident.end or component not in components or not body:
            continue
        when = int(time >= header.baseline.end)
        text = masked.get(body)
        if text is None:
            text = masked[body] = mask(marker(_gist(body)[:_MAX_TEXT]))
        group = groups.setdefault(component, {}).setdefault(text, _Group())
        group.counts[when] += 1
        group.severity = max(group.severity, severity or 0)
        if when == 1 or not group.example:
            group.example = body[:_EXAMPLE]
    return groups


def _gist(body: str) -> str:
    """Of several lines (a traceback) the first and the last that says something."""
    if "\n" not in body:
        return body
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}" if lines else ""


def _mined(groups: Mapping[str, _Group]) -> Iterable[tuple[str, _Group]]:
    """Merge masked texts of one component into drain3's templates; texts that name different components stay apart."""
    drains: dict[tuple[str, ...], Drain] = {}
    merged: dict[tuple[tuple[str, ...], int], tuple[LogCluster, _Group]] = {}
    for text, group in groups.items():
        names = tuple(_NAME.findall(text))
        drain = drains.setdefault(names, Drain(depth=4, sim_th=0.6, max_children=50, param_str="<*>"))
        cluster, _ = drain.add_log_message(text)
        _, into = merged.setdefault((names, cluster.cluster_id), (cluster, _Group()))
        into.counts = [a + b for a, b in zip(into.counts, group.counts, strict=True)]
        into.severity = max(into.severity, group.severity)
        into.example = group.example if group.counts[1] or not into.example else into.example
    return [(cluster.get_template(), group) for cluster, group in merged.values()]


def _finding(component: str, template: str, group: _Group, lengths: Sequence[float]) -> LogFinding:
    severity = next((name for bound, name in _SEVERITIES if group.severity >= bound), "debug" if group.severity else "info")
    sign = sign_of(f"{template} {group.example}") or ("server" if _SERVER.search(template) else "")
    peer = next((name for name in _NAME.findall(template) if name != component), "")
    return LogFinding(
        component=component,
        template=template,
        severity=severity,
        before=group.counts[0],
        after=group.counts[1],
        sign=sign,
        peer=peer,
        example=group.example,
        surprise=_surprise(group.counts, lengths, _WEIGHTS[severity] + (0.5 if sign else 0.0)),
    )


def _surprise(counts: Sequence[int], lengths: Sequence[float], weight: float) -> float:
    """Weight times the octaves by which a template became more frequent; 0 below one octave, or where it just vanished."""
    before, after = (count / length for count, length in zip(counts, lengths, strict=True))
    octaves = math.log2((after + 0.3) / (before + 0.3))
    return weight * octaves if counts[1] and octaves >= 1.0 else 0.0
