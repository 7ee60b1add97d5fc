"""The gates: a scenario counts when it is proven steady, visible, solvable, healing, leak-free, repeatable and un-hackable.

    exams = plan_exams(scenarios, apps, seeds=5)
    with LocalPool(4) as pool:
        verdicts = run_gates(exams, pool, Path("runs/gates"), on_done)
"""

from __future__ import annotations

from chaosgym.gates.run import count_episodes, plan_exams, run_gates
from chaosgym.gates.verdict import Verdict

__all__ = ["Verdict", "count_episodes", "plan_exams", "run_gates"]
