"""The compact rendering: closed words in fixed columns, components under handles drawn for this report.

    alert fail3 server c8
    components
    c23 service down ebb4 fail4 refused killed c23
    c8 gateway up err3 fail3 server c8
    c5 postgres up c5
    edges
    c8 > c23 fail4 refused
    c23 > c5
    logs
    c8 error new n3 refused c23 could not reach cannot connect to

A component's row ends with its handle again: what follows a row of bad words is then the handle of the answer, which
a small model learns to answer with sooner. Rows come most surprising first, jittered by the seed; edges as usual are
gathered by caller. A section that does not fit its part of the budget ends with `more`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from chaosgym.incident.findings import Findings, LogFinding
from chaosgym.incident.rows import alert_words, kind_word, surprise
from chaosgym.incident.vocabulary import CLOSED_WORDS, HANDLES, level
from chaosgym.telemetry.signals import EDGE

__all__ = ["Handles", "draw_handles", "estimate_tokens", "log_rows", "render_compact"]

Handles = Mapping[str, str]
"""Handle -> component name."""

_CLOSED = frozenset(CLOSED_WORDS)
_JITTER = 0.15
_LOG_LINES = 8
_TEXT_WORDS = 7
_SHARES = {"components": 0.5, "edges": 0.25, "logs": 1.0}
_WORD = re.compile(r"⟨([^⟩]*)⟩|(?<!\S)/\S*|(?<![\w])(50[0-4]|40[1349]|429)(?![\w])|[^\W\d_]{2,}")


def estimate_tokens(text: str) -> int:
    """Tokens of a compact report: one for a closed word or a line end, about one for four letters of anything else."""
    words = text.replace("\n", " \n ").split(" ")
    return sum(1 if word in _CLOSED else (len(word) + 3) // 4 for word in words if word)


def draw_handles(findings: Findings, key: str) -> dict[str, str]:
    """Handle -> name for every component (the 40 most surprising ones), drawn at random from `key`."""
    names = sorted(findings.signals.components)
    if len(names) > len(HANDLES):
        names = sorted(sorted(names, key=lambda name: -surprise(findings.rows[name]))[: len(HANDLES)])
    return dict(zip(random.Random(key).sample(HANDLES, len(names)), names, strict=True))


def render_compact(findings: Findings, handles: Handles, key: str, budget: int = 700) -> str:
    """Write the report in at most about `budget` tokens; the same findings, handles and key give the same text."""
    rng = random.Random(f"order {key}")
    named = {name: handle for handle, name in handles.items()}
    lines = [" ".join(["alert", *alert_words(findings.alert), *([named[findings.alert.entry]] if findings.alert.entry in named else [])])]
    left = budget - estimate_tokens(lines[0]) - 8
    components, edges, logs = (write(findings, named, rng) for write in (_components, _edges, log_rows))
    sections = {"components": components, "edges": edges, "logs": logs}
    for head, rows in sections.items():
        kept, used = _fit(rows, int(left * _SHARES[head]))
        left -= used
        lines += [head, *(kept or ["none"])]
    return "\n".join(lines)


def _fit(rows: Sequence[str], budget: int) -> tuple[list[str], int]:
    """As many rows from the front as fit, and their tokens; `more` where some are left."""
    kept: list[str] = []
    used = 0
    for row in rows:
        cost = estimate_tokens(row) + 1
        if used + cost > budget:
            return [*kept, "more"], used + 2
        kept.append(row)
        used += cost
    return kept, used


def _jittered(rows: Iterable[tuple[float, str]], rng: random.Random) -> list[str]:
    """Rows by descending weight, each weight moved by some percent, ties in random order."""
    weighed = [(weight * (1 + _JITTER * rng.uniform(-1, 1)), rng.random(), row) for weight, row in rows]
    return [row for _, _, row in sorted(weighed, reverse=True)]


def _components(findings: Findings, named: Mapping[str, str], rng: random.Random) -> list[str]:
    rows: list[tuple[float, str]] = []
    for name, handle in named.items():
        words = findings.rows[name]
        kind = kind_word(findings.signals.components[name].kind)
        rows.append((surprise(words), " ".join([handle, kind, *words, handle])))
    return _jittered(rows, rng)


def _edges(findings: Findings, named: Mapping[str, str], rng: random.Random) -> list[str]:
    """Edges with something notable, then all the others gathered by caller."""
    notable: list[tuple[float, str]] = []
    usual: dict[str, list[str]] = {}
    for (source, target), words in findings.edge_rows.items():
        if source == EDGE or source not in named or target not in named:
            continue
        if words:
            notable.append((surprise(words), " ".join([named[source], ">", named[target], *words])))
        else:
            usual.setdefault(named[source], []).append(named[target])
    gathered = [" ".join([source, ">", *rng.sample(targets, len(targets))]) for source, targets in usual.items()]
    return [*_jittered(notable, rng), *rng.sample(gathered, len(gathered))]


def log_rows(findings: Findings, named: Mapping[str, str], rng: random.Random) -> list[str]:
    """A line for each thing that logs say more often than before; `named` maps names to handles."""
    groups: dict[tuple[str, ...], list[LogFinding]] = {}
    for log in findings.logs:
        if log.component in named:
            key = (log.component, log.severity, log.sign, log.peer) if log.sign else (log.component, log.severity, log.template)
            groups.setdefault(key, []).append(log)
    lines = [(alike[0].surprise, _log(alike, named)) for alike in list(groups.values())[:_LOG_LINES]]
    return _jittered(lines, rng)


def _log(alike: Sequence[LogFinding], named: Mapping[str, str]) -> str:
    """One line for templates of one component that say the same; the text is that of the most surprising."""
    log = alike[0]
    words = [named[log.component], log.severity, "surge" if log.before else "new", level("n", sum(x.after for x in alike))]
    words += [word for word in (log.sign, named.get(log.peer, "")) if word]
    return " ".join([*words, *_text(log, named)])


def _text(log: LogFinding, named: Mapping[str, str]) -> list[str]:
    """The first words of the template: lower case, other names by handle, variable parts left out."""
    said = {log.component, log.peer}
    words: list[str] = []
    for found in _WORD.finditer(log.template):
        if found[1] is not None:
            words += [named[found[1]]] if found[1] in named and found[1] not in said else []
        elif not found[0].startswith("/"):
            words.append(found[0].lower())
    return words[:_TEXT_WORDS]
