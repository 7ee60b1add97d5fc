"""The tables of benchmarks/results.py, from the evaluations that it has made so far.

A mean is over all seeds and episodes of a split; its interval draws scenarios again (paired bootstrap, 95 %), so it is about other
scenarios like these. A difference is between two stages of the same seed on the same episode.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaosgym.evaluation import EvaluationResult, read_result
from chaosgym.evaluation.asking import by_budget, mean_of, right_within
from chaosgym.evaluation.calibration import calibration_error
from chaosgym.evaluation.measures import MEASURES, latency
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.statistics import paired_bootstrap

SPLITS = {"seeds": "accuracy", "apps": "accuracy", "backend": "accuracy", "faults": "family@1"}
"""What is asked of each split: of faults that training never showed, component and family."""
WHOLE = ("hallucination", "false_alarm", "missed")
COSTS = (10, 15, 20)
"""Of the questions of an investigation, by which it may have ended."""


def write_tables(
    out: Path, stages: Mapping[str, str | None], seeds: int, docs: Path, asking: Mapping[str, str | None] | None = None
) -> None:
    """Write docs/results.json, and the tables between the marks of docs/results.md.

    `stages` and those of investigations, `asking`, say what each is compared with.
    """
    found = {stage: _read(out, stage, seeds) for stage in stages}
    found = {"pretrain": _read(out, "base", None), **found}
    found = {stage: results for stage, results in found.items() if results}
    if not found:
        return
    summary = _summary(out, found, stages)
    asked = {stage: results for stage in asking or () if (results := _read(out, stage, seeds))}
    summary["investigations"] = _asked_summary(out, asked, asking or {})
    _write(docs / "results.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    page = docs / "results.md"
    tables = {"stages": _stages(summary), "differences": _differences(summary), "investigations": _asked(summary["investigations"])}
    empty = "".join(f"<!-- {mark} -->\n<!-- end -->\n" for mark in tables)
    text = page.read_text(encoding="utf-8") if page.is_file() else empty
    for mark, table in tables.items():
        text = re.sub(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
    _write(page, text)


def _read(out: Path, stage: str, seeds: int | None) -> dict[int, EvaluationResult]:
    paths = {0: out / "eval" / stage} if seeds is None else {seed: out / "eval" / f"{stage}-{seed}" for seed in range(seeds)}
    return {seed: read_result(path) for seed, path in paths.items() if (path / "result.json").is_file()}


def _summary(out: Path, found: Mapping[str, Mapping[int, EvaluationResult]], beside: Mapping[str, str | None]) -> dict[str, Any]:
    first = next(iter(next(iter(found.values())).values()))
    rails = {name: {0: rows} for name, rows in first.rails.items() if name in ("oracle", "rules", "majority", "null")}
    models = {stage: {seed: result.rows for seed, result in results.items()} for stage, results in found.items()}
    counted = {split: sum(row.split == split for row in first.rows) for split in SPLITS}
    return {
        "schema_version": 1,
        "made": datetime.now(UTC).date().isoformat(),
        "command": "python benchmarks/results.py",
        "revision": first.provenance.model_dump(mode="json").get("revision"),
        "episodes": {split: count for split, count in counted.items() if count},
        "stages": {name: {**_figures(rows), "training": _trained(out, name, rows)} for name, rows in models.items()},
        "rails": {name: _figures(rows) for name, rows in rails.items()},
        "differences": {
            f"{stage} - {start}": _difference(models[start], rows)
            for stage, rows in models.items() if (start := beside.get(stage)) in models
        },
        "beside_rules": {stage: _difference(dict.fromkeys(rows, rails["rules"][0]), rows) for stage, rows in models.items()},
    }  # fmt: skip


def _asked_summary(
    out: Path, found: Mapping[str, Mapping[int, EvaluationResult]], beside: Mapping[str, str | None]
) -> dict[str, Any]:
    models = {stage: {seed: result.rows for seed, result in results.items()} for stage, results in found.items()}
    return {
        "stages": {name: {**_figures(rows), **_costs(rows), "training": _trained(out, name, rows)} for name, rows in models.items()},
        "differences": {
            f"{stage} - {start}": _asked_difference(models[start], rows)
            for stage, rows in models.items() if (start := beside[stage]) in models
        },
    }  # fmt: skip


def _costs(rows: Mapping[int, Sequence[Row]]) -> dict[str, Any]:
    every = [row for of in rows.values() for row in of]
    reached = {point.most: point.accuracy for point in by_budget(every)}
    most = max(reached.values(), default=0.0)  # of a cost that all have ended by
    within = {str(cost): round(reached.get(cost, most), 4) for cost in COSTS}
    return {"calls": round(mean_of(every, "calls"), 2), "spent": round(mean_of(every, "spent"), 2), "right_within": within}


def _trained(out: Path, stage: str, seeds: Iterable[int]) -> dict[str, Any]:
    """Steps and seconds of each seed."""
    folders = [out / ("base" if stage == "pretrain" else f"{stage}-{seed}") for seed in seeds]
    read = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in folders]
    return {name: [summary[name] for summary in read] for name in ("steps", "seconds", "tokens")}


def _figures(rows: Mapping[int, Sequence[Row]]) -> dict[str, Any]:
    every = [row for of in rows.values() for row in of]
    nameable = [row for row in every if row.split != "faults"]
    return {
        **{split: _mean(rows, name, lambda row, split=split: row.split == split) for split, name in SPLITS.items()},
        **{name: _mean(rows, name, lambda row: True) for name in WHOLE},
        "calibration_error": calibration_error(nameable),
        "latency_p95_s": round(latency(every)[1], 5),
    }


def _mean(rows: Mapping[int, Sequence[Row]], name: str, chosen: Callable[[Row], bool]) -> dict[str, Any] | None:
    kind = MEASURES[name]
    of = {seed: [row for row in own if chosen(row) and kind.of(row)] for seed, own in rows.items()}
    values = [float(kind.value(row)) for own in of.values() for row in own]
    if not values:
        return None
    interval = paired_bootstrap(values, [row.scenario for own in of.values() for row in own])
    each = [round(sum(float(kind.value(row)) for row in own) / len(own), 4) for own in of.values()]
    return {"value": round(sum(values) / len(values), 4), "ci95": _ends(interval), "seeds": each, "episodes": len(values) // len(of)}


def _difference(a: Mapping[int, Sequence[Row]], b: Mapping[int, Sequence[Row]]) -> dict[str, Any]:
    """B minus A on each split, pair by pair, over the seeds that both have."""
    found: dict[str, Any] = {}
    for split, name in SPLITS.items():
        kind = MEASURES[name]
        pairs = [(seed, x, y) for seed, x, y in _pairs(a, b) if x.split == split and kind.of(x)]
        if pairs:
            found[split] = _change(pairs, lambda row, kind=kind: float(kind.value(row)))
    return found


def _asked_difference(a: Mapping[int, Sequence[Row]], b: Mapping[int, Sequence[Row]]) -> dict[str, Any]:
    """B minus A over all episodes: what is right at no more than the least of `COSTS`, questions, and what they cost."""
    pairs = _pairs(a, b)
    return {
        **_difference(a, b),
        "right_within": {str(COSTS[0]): _change(pairs, lambda row: float(right_within(row, COSTS[0])))},
        "calls": _change(pairs, lambda row: float(row.calls or 0)),
        "spent": _change(pairs, lambda row: float(row.spent or 0)),
    }


def _pairs(a: Mapping[int, Sequence[Row]], b: Mapping[int, Sequence[Row]]) -> list[tuple[int, Row, Row]]:
    """(seed, A's row, B's row) of the same episode, over the seeds that both have."""
    shared = sorted(a.keys() & b.keys())
    return [(seed, x, y) for seed in shared for x, y in zip(_sorted(a[seed]), _sorted(b[seed]), strict=True)]


def _change(pairs: Sequence[tuple[int, Row, Row]], value: Callable[[Row], float]) -> dict[str, Any]:
    changes = [(seed, x.scenario, value(y) - value(x)) for seed, x, y in pairs]
    interval = paired_bootstrap([change for _, _, change in changes], [scenario for _, scenario, _ in changes])
    each = [[change for of, _, change in changes if of == seed] for seed in sorted({seed for seed, _, _ in changes})]
    seeds = [round(sum(own) / len(own), 4) for own in each]
    return {"value": round(sum(change for _, _, change in changes) / len(changes), 4), "ci95": _ends(interval), "seeds": seeds}


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.episode)


def _ends(interval: Iterable[float] | None) -> list[float] | None:
    return [round(end, 4) for end in interval] if interval else None


def _stages(summary: Mapping[str, Any]) -> str:
    heads = {"seeds": "unseen seeds", "apps": "unseen apps", "backend": "in containers", "faults": "unseen faults (family)"}
    present = [split for split in heads if split in summary["episodes"]]
    titles = [f"{heads[split]} ({summary['episodes'][split]})" for split in present]
    lines = [["", "runs", *titles, "halluc.", "false alarms", "ECE", "p95"]]
    for name, of in {**summary["stages"], **summary["rails"]}.items():
        cells = [_cell(of[split], "") for split in present]
        rest = [found["value"] if (found := of[measure]) else None for measure in ("hallucination", "false_alarm")]
        rest = ["-" if value is None else f"{value:.3f}" for value in (*rest, of["calibration_error"])]
        lines.append([name, _runs(of), *cells, *rest, f"{of['latency_p95_s'] * 1e3:.3g} ms"])
    return _markdown(lines)


def _asked(summary: Mapping[str, Any]) -> str:
    beside = "beside SFT"
    titles = [f"within {cost}" for cost in COSTS]
    lines = [["", "runs", "right", beside, titles[0], beside, *titles[1:], "calls", beside, "cost", "halluc.", "false alarms"]]
    for name, of in summary["stages"].items():
        change = next((found for pair, found in summary["differences"].items() if pair.startswith(f"{name} - ")), {})
        least, *within = (f"{value:.3f}" for value in of["right_within"].values())
        sooner = change.get("right_within", {}).get(str(COSTS[0]))
        rest = [f"{found['value']:.3f}" if (found := of[measure]) else "-" for measure in ("hallucination", "false_alarm")]
        right = [_cell(of["seeds"], ""), _cell(change.get("seeds"), "+"), least, _cell(sooner, "+"), *within]
        lines.append([name, _runs(of), *right, f"{of['calls']:.1f}", _cell(change.get("calls"), "+"), f"{of['spent']:.1f}", *rest])
    return _markdown(lines)


def _differences(summary: Mapping[str, Any]) -> str:
    lines = [["", *(split for split in SPLITS if split in summary["episodes"])]]
    rows = {**summary["differences"], **{f"{stage} - rules": of for stage, of in summary["beside_rules"].items() if stage != "pretrain"}}
    lines += [[name, *(_cell(of.get(split), "+") for split in lines[0][1:])] for name, of in rows.items()]
    return _markdown(lines)


def _runs(of: Mapping[str, Any]) -> str:
    return str(len(of["training"]["steps"])) if "training" in of else "-"


def _cell(found: Mapping[str, Any] | None, sign: str) -> str:
    if found is None:
        return "-"
    ends = found["ci95"]
    return f"{found['value']:{sign}.3f}" + (f" [{ends[0]:{sign}.2f}, {ends[1]:{sign}.2f}]" if ends else "")


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in lines[0][1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
