"""An Equivalence as tables: fault by fault, column by column, agent by agent; as Markdown, as JSON, and within a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chaosgym.errors import InfrastructureError, InputError
from chaosgym.evaluation.equivalence import AGENTS, Equivalence, FaultPair, Series
from chaosgym.evaluation.likeness import COLUMNS, Agreement, agreements, distance
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.statistics import Interval, mcnemar, paired_bootstrap
from chaosgym.evaluation.tables import NONE, Table

__all__ = ["BEGIN", "END", "equivalence_json", "equivalence_markdown", "write_between"]

BEGIN, END = "<!-- chaosgym sandbox compare: begin -->", "<!-- chaosgym sandbox compare: end -->"
"""What is between them in a page is written by the command."""
_NOTE = """\
Scorable: runs that went through, on {reference} both of each plan. Seen: share of them in which a declared symptom was in the \
telemetry. Symptoms alike: mean overlap (Jaccard) of the declared symptoms that were seen, plan by plan. Reports apart: share of the \
cells of the component rows in which a report says something and the other does not say the same. In brackets the same figure for two \
runs of one plan on {reference}: what chance does by itself. A symptom that every run of the one shows and no run of the other is \
named, with the reason that the fault declares."""


def equivalence_markdown(found: Equivalence, day: date) -> str:
    """Everything, for people."""
    names = [series.name for series in found.series]
    runs = sum(len(series.runs) for series in (*found.series, found.again))
    lead = (
        f"{day.isoformat()}, chaosgym {version('chaosgym')}: {runs} runs, {found.seeds} seeds of each scenario on {', '.join(names)}, "
        f"on {names[0]} twice."
    )
    seen = f"**Fault types seen at work**: {'; '.join(map(_faults, found.series))}."
    parts = [lead, seen, *(part for other in found.series[1:] for part in _pair_parts(found, other)), _elsewhere(found)]
    return "\n\n".join(part for part in parts if part)


def _faults(series: Series) -> str:
    seen, tried = series.faults()
    missed = f" (not {', '.join(sorted(tried - seen))})" if tried - seen else ""
    return f"{series.name} {len(seen)} of {len(tried)}{missed}"


def _pair_parts(found: Equivalence, other: Series) -> list[str]:
    a = found.reference.name
    pairs = found.fault_pairs(other)
    head = (
        "fault", "scenarios", f"scorable {a}", other.name, f"seen {a}", other.name, "symptoms alike", "reports apart", "differs",
    )  # fmt: skip
    rows = tuple(_fault_line(pair, a, other.name) for pair in pairs)
    return [
        f"{_sentence(found, other)}",
        Table(f"{other.name} beside {a}, fault by fault", head, rows, _NOTE.format(reference=a)).to_markdown(),
        _columns_table(found, other).to_markdown(),
        _agents_table(found, other).to_markdown(),
    ]


def _sentence(found: Equivalence, other: Series) -> str:
    excess = _excess(found, other)
    if excess is None:
        return f"**{other.name} beside {found.reference.name}**: no plan went through on both."
    near, far, span, count = excess
    reference = found.reference.name
    within = span is not None and span.low <= 0 <= span.high
    said = f" [{span.low:+.3f}, {span.high:+.3f}]" if span else ""
    word = "not shown to be farther than chance" if within else "farther than chance" if far > near else "nearer than chance"
    return (
        f"**{other.name} beside {reference}**: {count} plans went through on both. Their reports are {far:.3f} apart, those of two runs "
        f"on {reference} {near:.3f}; difference {far - near:+.3f}{said} (95 %, by scenario): {word}."
    )


def _excess(found: Equivalence, other: Series) -> tuple[float, float, Interval | None, int] | None:
    """(mean distance of two runs on the reference, to the other, interval of the difference, plans)."""
    triples = found.shared(other)
    if not triples:
        return None
    near = [distance(x.cells, y.cells) for x, y, _ in triples]
    far = [distance(x.cells, z.cells) for x, _, z in triples]
    span = paired_bootstrap([f - n for f, n in zip(far, near, strict=True)], [x.key[0] for x, _, _ in triples])
    return sum(near) / len(near), sum(far) / len(far), span, len(triples)


def _fault_line(pair: FaultPair, a: str, b: str) -> tuple[str, ...]:
    return (
        pair.fault, str(len(pair.scenarios)), *(f"{went} of {runs}" for went, runs in zip(pair.scorable, pair.runs, strict=True)),
        *(_percent(share) for share in pair.visible),
        _beside(pair.alike, pair.alike_chance), _beside(pair.distance, pair.distance_chance), _differs(pair, a, b),
    )  # fmt: skip


def _differs(pair: FaultPair, a: str, b: str) -> str:
    said = [f"only {name}: {', '.join(only)}" for name, only in zip((a, b), pair.only, strict=True) if only]
    if pair.differs and not said:
        said = ["seen far more often on one"]
    return "; ".join([*said, *([pair.declared] if pair.declared else ["not declared"] if pair.differs else [])]) or NONE


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{share:.0%}"


def _beside(value: float | None, chance: float | None) -> str:
    return NONE if value is None or chance is None else f"{value:.2f} ({chance:.2f})"


def _column_agreements(found: Equivalence, other: Series) -> tuple[dict[str, Agreement], dict[str, Agreement]]:
    """(between two runs on the reference, between the reference and the other)."""
    triples = found.shared(other)
    return (
        agreements((x.cells, y.cells, x.components) for x, y, _ in triples),
        agreements((x.cells, z.cells, x.components) for x, _, z in triples),
    )


def _columns_table(found: Equivalence, other: Series) -> Table:
    chance, there = _column_agreements(found, other)
    a = found.reference.name
    rows = tuple(
        (
            column, f"{chance[column].share:.1%}", f"{there[column].share:.1%}",
            f"{_percent(chance[column].notable_share)} of {chance[column].notable}",
            f"{_percent(there[column].notable_share)} of {there[column].notable}",
        )
        for column in COLUMNS
    )  # fmt: skip
    head = ("column", f"rows alike: {a} twice", f"{a} and {other.name}", f"notable alike: {a} twice", f"{a} and {other.name}")
    note = (
        "Share of the components' rows that say the same in a column, `as usual` included, and of those in which at least one report "
        "says something. The columns are those of the report: err, lat, flow, ebb as a component sees its requests; fail, wait, gap, "
        "again as its callers do; cpu to full what is used up."
    )
    return Table(f"{other.name} beside {a}, column by column", head, rows, note)


def _agents_table(found: Equivalence, other: Series) -> Table:
    rows = tuple(_agent_line(agent, found, other) for agent in AGENTS)
    a = found.reference.name
    head = ("agent", "episodes", f"reward {a}", f"{a} again", other.name, "difference", "95 % by scenario", f"right {a}", other.name, "p")
    note = (
        "Mean reward on the plans that could be scored on both; `rules` is the informed solver. Right: component and fault, or rightly "
        "healthy. p: McNemar's exact test."
    )
    return Table(f"{other.name} beside {a}, agent by agent", head, rows, note)


def _paired_rows(found: Equivalence, other: Series, agent: str) -> list[tuple[Row, Row, Row]]:
    first, again, there = (series.rows[agent] for series in (found.reference, found.again, other))
    return [(first[key], again[key], there[key]) for key in sorted(first.keys() & again.keys() & there.keys())]


def _agent_line(agent: str, found: Equivalence, other: Series) -> tuple[str, ...]:
    rows = _paired_rows(found, other, agent)
    if not rows:
        return (agent, "0", *(NONE,) * 8)
    rewards = [_mean([row.reward for row in column]) for column in zip(*rows, strict=True)]
    span = _span(rows)
    only = [sum(x.both1 and not z.both1 for x, _, z in rows), sum(z.both1 and not x.both1 for x, _, z in rows)]
    return (
        agent, str(len(rows)), *(f"{reward:.3f}" for reward in rewards), f"{rewards[2] - rewards[0]:+.3f}",
        NONE if span is None else f"[{span.low:+.2f}, {span.high:+.2f}]",
        _percent(_mean([row[0].both1 for row in rows])), _percent(_mean([row[2].both1 for row in rows])), f"{mcnemar(*only):.2g}",
    )  # fmt: skip


def _span(rows: Sequence[tuple[Row, Row, Row]]) -> Interval | None:
    return paired_bootstrap([z.reward - x.reward for x, _, z in rows], [x.scenario for x, _, _ in rows])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _elsewhere(found: Equivalence) -> str:
    """Which scenarios cannot be compared everywhere."""
    lines: list[str] = []
    for on in sorted(set(found.elsewhere.values())):
        names = sorted(scenario for scenario, able in found.elsewhere.items() if able == on)
        where = f"only on {', '.join(on)}" if on else "on none of them"
        lines.append(f"- {where}: {', '.join(f'`{name}`' for name in names)}")
    return "\n".join(["Not on every sandbox, because a fault needs what one cannot do:", "", *lines]) if lines else ""


def equivalence_json(found: Equivalence) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "sandboxes": [series.name for series in found.series],
        "seeds": found.seeds,
        "elsewhere": {scenario: list(on) for scenario, on in sorted(found.elsewhere.items())},
        "pairs": [_pair_json(found, other) for other in found.series[1:]],
    }


def _pair_json(found: Equivalence, other: Series) -> dict[str, Any]:
    excess = _excess(found, other)
    chance, there = _column_agreements(found, other)
    reports = None
    if excess is not None:
        near, far, span, count = excess
        reports = {"plans": count, "distance": far, "distance_chance": near, "excess": far - near, "ci95": list(span) if span else None}
    return {
        "name": f"{found.reference.name}/{other.name}",
        "reports": reports,
        "faults": [_fault_json(pair) for pair in found.fault_pairs(other)],
        "columns": {
            column: {"alike": there[column].share, "alike_chance": chance[column].share, "notable": there[column].notable,
                     "notable_alike": there[column].notable_share, "notable_alike_chance": chance[column].notable_share}
            for column in COLUMNS
        },
        "agents": {agent: _agent_json(_paired_rows(found, other, agent)) for agent in AGENTS},
    }  # fmt: skip


def _fault_json(pair: FaultPair) -> dict[str, Any]:
    return {
        "name": pair.fault, "scenarios": list(pair.scenarios), "runs": list(pair.runs), "scorable": list(pair.scorable),
        "visible": list(pair.visible), "symptoms": [list(each) for each in pair.symptoms], "only": [list(each) for each in pair.only],
        "symptoms_alike": pair.alike, "symptoms_alike_chance": pair.alike_chance,
        "distance": pair.distance, "distance_chance": pair.distance_chance, "differs": pair.differs, "declared": pair.declared,
    }  # fmt: skip


def _agent_json(rows: Sequence[tuple[Row, Row, Row]]) -> dict[str, Any]:
    if not rows:
        return {"episodes": 0}
    reward = [_mean([row.reward for row in column]) for column in zip(*rows, strict=True)]
    right = [_mean([row.both1 for row in column]) for column in zip(*rows, strict=True)]
    span = _span(rows)
    return {"episodes": len(rows), "reward": reward, "right": right, "difference_ci95": list(span) if span else None}


def write_between(path: Path, text: str) -> None:
    """Put `text` between the markers of a page; a page that is not there becomes one with nothing else.

    Raises InputError for a page without them, InfrastructureError when the file system refuses.
    """
    block = f"{BEGIN}\n\n{text.strip()}\n\n{END}"
    try:
        page = path.read_text(encoding="utf-8") if path.exists() else f"# Sandboxes compared\n\n{BEGIN}\n{END}\n"
        before, begun, rest = page.partition(BEGIN)
        _, ended, after = rest.partition(END)
        if not (begun and ended):
            raise InputError(f"{path}: no place for the tables; write the lines {BEGIN} and {END} where they belong, or name a new file")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(before + block + after, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InfrastructureError(f"{path}: cannot write the report ({error.strerror or error}); check space and permissions") from error
