"""Example incidents for the page: the report, what was true, and what everybody answered."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from chaosgym.evaluation.lineup import Lineup
from chaosgym.evaluation.row import Pair, Row

if TYPE_CHECKING:
    from chaosgym.evaluation.result import Example

__all__ = ["example_html"]


def example_html(example: Example, lineup: Lineup) -> str:
    """One incident that unfolds; its head line tells the truth and who found it."""
    answers = {name: row for name, rows in lineup.everyone.items() for row in rows if row.episode == example.episode}
    truth = next(iter(answers.values()))
    marks = " ".join(_mark(name, answers[name]) for name in lineup.agents)
    return (
        f"<details><summary><strong>{_pairs(truth.causes)}</strong> &nbsp; {marks}</summary>"
        f'<div class="scroll"><table><thead><tr><th>who</th><th class="wrap">answer</th><th>reward</th></tr></thead>'
        f"<tbody>{''.join(_lines(truth, answers, lineup))}</tbody></table></div>"
        f'<p class="note">The report of episode <code>{escape(example.episode)}</code>, as people read it:</p>'
        f"<pre>{escape(example.report)}</pre></details>"
    )


def _lines(truth: Row, answers: dict[str, Row], lineup: Lineup) -> Iterator[str]:
    yield f'<tr><th>the truth</th><td class="wrap">{_pairs(truth.causes)}</td><td></td></tr>'
    for name, row in answers.items():
        rail = ' class="rail"' if name in lineup.rails else ""
        yield f'<tr{rail}><th>{escape(name)}</th><td class="wrap">{_said(row)} {_word(row)}</td><td>{row.reward:.2f}</td></tr>'


def _pairs(pairs: tuple[Pair, ...]) -> str:
    return ", then ".join(f"{escape(pair.fault)} at {escape(pair.component)}" for pair in pairs) or "healthy"


def _said(row: Row) -> str:
    if row.said is None:
        return f"not readable: <code>{escape(row.answer[:200])}</code>"
    return _pairs(row.named) + (" (names a component that is not there)" if row.hallucinated else "")


def _word(row: Row) -> str:
    if row.both1:
        return '<span class="right-word">right</span>'
    if row.verdict == "fault" and (row.component1 or row.fault1):
        return f'<span class="wrong-word">only the {"component" if row.component1 else "fault"} is right</span>'
    return '<span class="wrong-word">wrong</span>'


def _mark(name: str, row: Row) -> str:
    kind, sign = ("right-word", "✓") if row.both1 else ("wrong-word", "✗")
    return f'<span class="{kind}">{sign} {escape(name)}</span>'
