"""`chaosgym scenario check --live`: run scenarios, and put every gate to what happened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from chaosgym.cli.dry_run import announce
from chaosgym.cli.output import print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.gates import Verdict
    from chaosgym.sandbox.choice import SandboxChoice
    from chaosgym.scenario import Scenario

__all__ = ["check_live"]


def check_live(
    scenarios: Sequence[Scenario], app: str | None, choice: SandboxChoice, seeds: int, workers: int, out: Path, report: Path | None,
    *, as_json: bool,
) -> None:
    """Record what is missing under `out`, judge, print; exit 1 when a gate failed."""
    from datetime import UTC, datetime

    from chaosgym.cli.record import recording_bar
    from chaosgym.gates import as_row, count_episodes, plan_exams, run_gates, write_report
    from chaosgym.recording.pool import Pool
    from chaosgym.scenarios import load_app

    exams = plan_exams(scenarios, {name: load_app(app or name) for name in {s.spec.app for s in scenarios}}, seeds)
    announce(choice)
    with Pool(workers, choice) as pool, recording_bar(count_episodes(exams)) as on_done:
        proof = run_gates(exams, pool, out, on_done)
    if report is not None:
        write_report(report, proof, datetime.now(UTC).date())
        talk(f"wrote {report}")
    if as_json:
        print_json([as_row(verdict) for verdict in proof.verdicts])
    else:
        _print_verdicts(proof.verdicts)
    if proof.unscorable == proof.episodes:
        talk("error: every episode is unscorable; the reasons stand above, and `chaosgym doctor` may name the fix")
        raise typer.Exit(3)
    if any(verdict.passed is False for verdict in proof.verdicts):
        raise typer.Exit(1)


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A table of all, then what failed and why."""
    words = {True: "pass", False: "FAIL", None: "-"}
    rows: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        rows.setdefault(verdict.scenario, {"scenario": verdict.scenario})[verdict.gate] = words[verdict.passed]
    print_rows(list(rows.values()), ("scenario", *dict.fromkeys(verdict.gate for verdict in verdicts)))
    for verdict in verdicts:
        if verdict.passed is False:
            print(f"\n{verdict.scenario} fails {verdict.gate}: {verdict.evidence}\n  {verdict.advice}")
