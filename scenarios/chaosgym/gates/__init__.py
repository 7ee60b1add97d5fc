"""The gates: a scenario counts when it is proven.

Steady, visible, calibrated, solvable, healing, leak-free, repeatable and un-hackable; `docs/gates.md` explains each.

    exams = plan_exams(scenarios, apps, seeds=5)
    with Pool(4) as pool:
        proof = run_gates(exams, pool, Path("runs/gates"), on_done)
"""

from __future__ import annotations

from chaosgym.gates.ledger import as_row
from chaosgym.gates.report import write_report
from chaosgym.gates.run import Proof, count_episodes, plan_exams, run_gates
from chaosgym.gates.verdict import Verdict

__all__ = ["Proof", "Verdict", "as_row", "count_episodes", "plan_exams", "run_gates", "write_report"]
