"""What the catalogue itself says of a fault: its declared log patterns, and the rollout that it comes with.

Whoever adds a fault gets this for it without another line; faults whose telltale is no message have a function of
their own in `chaosgym.agents.signatures`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from chaosgym.agents.suspect import Suspect
from chaosgym.faults.base import Fault
from chaosgym.faults.rollout import RolloutFault

__all__ = ["telltale"]

_SAID, _SUFFERED, _ROLLED_OUT = 0.6, 0.2, 0.2


def telltale(fault: type[Fault]) -> Callable[[Suspect], float]:
    """How well what is seen of a component fits what `fault` declares, 0 to 1; 0 for one of a kind that it does not fit."""
    own = [s.pattern for s in fault.symptoms if s.signal == "log" and s.where == "component"]
    others = [s.pattern for s in fault.symptoms if s.signal == "log" and s.where == "callers"]
    told = [s.pattern for s in fault.symptoms if s.signal == "event"]
    event = None if not issubclass(fault, RolloutFault) else "deployment" if fault.new_version else "config_change"

    def fits(x: Suspect) -> float:
        if x.signals.kind not in fault.kinds:
            return 0.0
        if told:  # the platform says it in so many words
            return max(x.reported(pattern) for pattern in told)
        said = max([*(x.shows(x.logs, p) for p in own), *(x.shows(x.near, p) for p in others)], default=0.0)
        came = 1.0 if event is None else float(x.happened(event))
        return said * (_SAID + _SUFFERED * _suffered(x, own=bool(own)) + _ROLLED_OUT * came) * (0.3 + 0.7 * came)

    return fits


def _suffered(x: Suspect, *, own: bool) -> float:
    """0 to 1: whether it, or the calls to it, fail more than before."""
    growth = [edge.calls.errors.growth for edge in x.incoming] + ([x.signals.served.errors.growth] if own else [])
    return min(1.0, max((g for g in growth if not math.isnan(g)), default=0.0) / 0.2)
