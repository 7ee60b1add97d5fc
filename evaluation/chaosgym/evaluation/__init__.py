"""How good is an agent, how sure is that, and is it better than another?

    evaluate ──> EvaluationResult ──> compare ──> Comparison
                        └─────────────────┴─────> write_page

Every result has the rails (oracle, rules, majority, null, shortcuts) beside the agent, and an interval beside every rate.
"""

from __future__ import annotations

from chaosgym.evaluation.ceiling import CEILING, Shortcut, best_shortcuts
from chaosgym.evaluation.compare import Comparison, Paired, compare
from chaosgym.evaluation.curves import Curve, read_curve
from chaosgym.evaluation.page import render_page, write_page
from chaosgym.evaluation.profile import Profile, make_profile
from chaosgym.evaluation.result import EvaluationResult, Example, Excluded, read_result
from chaosgym.evaluation.row import Pair, Row, make_row
from chaosgym.evaluation.run import RAILS, evaluate

__all__ = [
    "CEILING",
    "RAILS",
    "Comparison",
    "Curve",
    "EvaluationResult",
    "Example",
    "Excluded",
    "Pair",
    "Paired",
    "Profile",
    "Row",
    "Shortcut",
    "best_shortcuts",
    "compare",
    "evaluate",
    "make_profile",
    "make_row",
    "read_curve",
    "read_result",
    "render_page",
    "write_page",
]
