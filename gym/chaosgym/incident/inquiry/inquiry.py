"""An Inquiry: one incident under investigation, from the page that opens it to the diagnosis that ends it.

    opening ──> ask ──> Reply ──> ask ──> ... ──> submit, or the budget is overrun

It knows the telemetry and nothing of the truth: whoever holds that scores the diagnosis. With `handles` it speaks the
language of the compact report, where components go by handles in questions, answers and the diagnosis alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaosgym.diagnosis import Diagnosis
from chaosgym.errors import InputError
from chaosgym.incident.answer import read_answer
from chaosgym.incident.inquiry.compact import alert_row, compact_page
from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.page import CHARACTERS_PER_TOKEN, cut
from chaosgym.incident.inquiry.tools import REFUSED, Call, Refusal, Submission, read_action
from chaosgym.incident.readable import alert_sentence
from chaosgym.incident.vocabulary import probability_word

__all__ = ["Budget", "Inquiry", "Reply"]

_STATUS = 120
"""Characters kept for the line that tells what is left of the budget."""


@dataclass(frozen=True)
class Budget:
    """What an investigation may use up; `submit` takes nothing of it."""

    calls: int = 20
    """Actions beside `submit`, those that were refused included."""
    cost: int = 30
    """Sum of what tools cost."""
    tokens: int = 600
    """Of one answer, at 3.5 characters each."""

    def __post_init__(self) -> None:
        """Raises InputError for a budget that leaves no room."""
        for name, value, least in (("calls", self.calls, 1), ("cost", self.cost, 1), ("tokens", self.tokens, 100)):
            if value < least:
                raise InputError(f"{name}={value}: an investigation needs at least {least}")

    @property
    def characters(self) -> int:
        """Of one answer."""
        return int(self.tokens * CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Reply:
    """What comes back from one action."""

    text: str
    tool: str = ""
    """The tool that answered, or an empty string for an action that was refused."""
    over: bool = False
    """Whether this ended the investigation."""


@dataclass
class Inquiry:
    """The state of an investigation; `ask` moves it on."""

    evidence: Evidence
    budget: Budget = field(default_factory=Budget)
    handles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Handle -> name for compact pages; without them pages are readable."""
    answered: list[tuple[Call, str]] = field(default_factory=list[tuple[Call, str]])
    """Questions with the text of their answers, in their order."""
    calls: int = 0
    spent: int = 0
    diagnosis: Diagnosis | None = None
    """What was submitted."""
    overrun: bool = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.overrun or self.diagnosis is not None

    @property
    def share(self) -> float:
        """Part of the cost budget that is spent, 0 to 1."""
        return min(1.0, self.spent / self.budget.cost)

    def opening(self) -> str:
        """The page that one is woken up with: the alert and the budget."""
        if self.handles:
            return f"{alert_row(self.evidence, self.handles)}\n{self._left()}"
        return (
            f"Alert: {alert_sentence(self.evidence.findings.alert)} (before -> now). Find the root cause, or that nothing is broken. "
            f"You have {self.budget.calls} calls, which may cost {self.budget.cost} together; beyond that, no answer counts."
        )

    def ask(self, action: object) -> Reply:
        """Answer one action within the budget. Raises nothing but InputError when the investigation has ended."""
        if self.over:
            raise InputError("this investigation has ended: begin another")
        named = read_answer(action, self.handles) if self.handles and isinstance(action, str) else action
        found = read_action(named, self.evidence.names)
        if isinstance(found, Submission):
            self.diagnosis = found.diagnosis
            return Reply("Submitted.", "submit", over=True)
        self.calls += 1
        self.spent += found.tool.cost if isinstance(found, Call) else REFUSED
        if self.calls > self.budget.calls or self.spent > self.budget.cost:
            self.overrun = True
            return Reply(f"Over budget: {self._left()}. The investigation ends without an answer.", over=True)
        return self._answer(found)

    def _answer(self, found: Call | Refusal) -> Reply:
        return self._answer_compactly(found) if self.handles else self._answer_readably(found)

    def _answer_compactly(self, found: Call | Refusal) -> Reply:
        if isinstance(found, Refusal):  # its text would name components
            return Reply(f"error\n{self._left()}")
        page = compact_page(self.evidence, self.handles, found.tool.name, found.query, self.budget.tokens)
        self.answered.append((found, page))
        return Reply(f"{page}\n{self._left()}", found.tool.name)

    def _answer_readably(self, found: Call | Refusal) -> Reply:
        room = self.budget.characters - _STATUS
        if isinstance(found, Refusal):
            told = f"error: {found.text}"
            return Reply(f"{told if len(told) <= room else f'{told[: room - 2]} …'}\n[{self._left()}]")
        lines = found.tool.answer(self.evidence, found.query) or ["nothing matches"]
        page = cut(lines, room, found.tool.narrower)
        self.answered.append((found, page))
        return Reply(f"{page}\n[{self._left()}]", found.tool.name)

    def _left(self) -> str:
        if self.handles:
            return f"= {probability_word(max(self.calls / self.budget.calls, self.share))}"
        return f"{self.calls} of {self.budget.calls} calls made, {self.spent} of {self.budget.cost} spent"
