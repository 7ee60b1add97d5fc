"""The report of a check: every scenario with the verdict of every gate and the figures behind, as Markdown."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

from chaosgym.errors import InfrastructureError
from chaosgym.evaluation.confusion import confusion_table
from chaosgym.evaluation.tables import Table
from chaosgym.gates.run import Proof
from chaosgym.gates.verdict import Verdict
from chaosgym.scenario import Scenario

__all__ = ["GATES", "report_markdown", "write_report"]

GATES = ("steady", "visible", "calibrated", "solvable", "heals", "leak-free", "repeatable", "un-hackable")
"""Of one scenario, in the order of tables."""
WORDS: Mapping[bool | None, str] = {True: "pass", False: "FAIL", None: "-"}

_HEAD = """# Scenarios

Written by `chaosgym scenario check --live --report FILE`; the gates are explained in [docs/gates.md](../docs/gates.md).

{day}, chaosgym {version}, Python {python}: {scenarios} scenarios with {seeds} seeds each, {episodes} live episodes, of which
{unscorable} ({share:.1%}) unscorable. **{passed} of {scenarios} scenarios pass every gate.**
"""
_NOTE = """\
Seen: share of the seeds in which a declared symptom tells the run from the same one without the fault. Solved: share in which the \
informed solver (`rules`, which knows the catalogue and sees what any agent sees) names component and fault, or rightly says that all \
is well. Shortcut: the one-line heuristic that does best here, and its share. Unscorable: share of all runs of the scenario."""


def write_report(path: Path, proof: Proof, day: date) -> None:
    """Write `report_markdown` to a file, whole or not at all. Raises InfrastructureError when the file system refuses."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(report_markdown(proof, day), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InfrastructureError(f"{path}: cannot write the report ({error.strerror or error}); check space and permissions") from error


def report_markdown(proof: Proof, day: date) -> str:
    """The whole page."""
    of = {s.metadata.name: {v.gate: v for v in proof.verdicts if v.scenario == s.metadata.name} for s in proof.scenarios}
    parts = [
        _HEAD.format(
            day=day.isoformat(), version=version("chaosgym"), python=platform.python_version(), scenarios=len(of), seeds=proof.seeds,
            episodes=proof.episodes, unscorable=proof.unscorable, share=proof.unscorable / max(proof.episodes, 1),
            passed=sum(all(v.passed is not False for v in verdicts.values()) for verdicts in of.values()),
        ),
        Table("Scenario by scenario", _COLUMNS, tuple(_line(s, of[s.metadata.name]) for s in proof.scenarios), _NOTE).to_markdown(),
        "### All of them together\n\n" + "\n".join(_said(v) for v in proof.verdicts if v.scenario == "*"),
        "### What fails\n\n" + ("\n".join(_failures(proof.verdicts)) or "Nothing."),
        "### Doses\n\n" + ("\n".join(_doses(of)) or "No fault of these scenarios has a numeric parameter that is drawn."),
        confusion_table("rules", proof.solver).to_markdown() if proof.solver else "",
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


_COLUMNS = ("scenario", "faults", "split", "difficulty", *GATES, "seen", "solved", "shortcut", "unscorable")


def _line(scenario: Scenario, verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    meta, figures = scenario.metadata, {key: value for verdict in verdicts.values() for key, value in verdict.figures.items()}
    shares = verdicts["un-hackable"].figures if "un-hackable" in verdicts else {}
    best = max(shares, key=lambda agent: shares[agent], default="")
    return (
        meta.name, ", ".join(fault.fault for fault in scenario.spec.faults) or "healthy", meta.split, meta.difficulty,
        *(WORDS[verdicts[gate].passed] if gate in verdicts else "-" for gate in GATES),
        _share(figures.get("seen")), _share(figures.get("solved")), f"{best} {shares[best]:.0%}" if best else "-",
        _share(figures.get("unscorable")),
    )  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _said(verdict: Verdict) -> str:
    return f"- **{verdict.gate}**: {WORDS[verdict.passed]}. {verdict.evidence}" + (f": {verdict.advice}" if verdict.advice else "")


def _failures(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        if verdict.passed is False:
            yield f"- `{verdict.scenario}` fails **{verdict.gate}**: {verdict.evidence}. {verdict.advice}."


def _doses(of: Mapping[str, Mapping[str, Verdict]]) -> Iterator[str]:
    for name, verdicts in of.items():
        found = verdicts.get("calibrated")
        if found is not None and found.figures:
            yield f"- `{name}`: {found.evidence}"
