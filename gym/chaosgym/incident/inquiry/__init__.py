"""Asking instead of reading: tools that answer from the telemetry of one episode, within a budget.

`gather` opens an episode, an `Inquiry` takes actions and answers them, `learned` tells what the answers have shown. All of
it reads the public header and the telemetry; the truth is not known here.
"""

from __future__ import annotations

from chaosgym.incident.inquiry.evidence import Evidence, gather
from chaosgym.incident.inquiry.inquiry import Budget, Inquiry, Reply
from chaosgym.incident.inquiry.learned import learned
from chaosgym.incident.inquiry.tools import SUBMIT, TOOLS, manual, write_action

__all__ = ["SUBMIT", "TOOLS", "Budget", "Evidence", "Inquiry", "Reply", "gather", "learned", "manual", "write_action"]
