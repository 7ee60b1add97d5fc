"""A Profile: difficulty as it was measured on recorded episodes, scenario by scenario, and not as an author sees it.

    episodes ──> cases ──> rails and agents answer ──> pass@1, pass@k, confusion
                     └──> the best single-feature rule, split by split
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from chaosgym.agents import Agent
from chaosgym.errors import InputError, did_you_mean
from chaosgym.evaluation.ceiling import CEILING, Shortcut, best_shortcuts
from chaosgym.evaluation.confusion import confusion_counts, confusion_table
from chaosgym.evaluation.result import Excluded
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.rule import Rule, best_rule
from chaosgym.evaluation.run import RAILS, Case, answer_cases, load_cases, make_rail
from chaosgym.evaluation.statistics import pass_at_k
from chaosgym.evaluation.tables import Table
from chaosgym.truth import read_truth

__all__ = ["FINDABLE", "Profile", "ScenarioProfile", "make_profile"]

FINDABLE: Mapping[str, float] = {"easy": 0.8, "medium": 0.6, "hard": 0.3}
"""Share of seeds in which the informed solver must name component and fault, by difficulty."""
_SOLVER = "rules"


@dataclass(frozen=True)
class ScenarioProfile:
    """One scenario: how many of its episodes each agent got right."""

    name: str
    split: str
    difficulty: str
    """As its author sees it."""
    faults: tuple[str, ...]
    episodes: int
    right: Mapping[str, int]
    """By agent: component and fault both, or rightly called healthy."""

    def passes(self, agent: str, k: int) -> float | None:
        """How likely one of `k` tries of `agent` is right, over the seeds; None with fewer seeds than that."""
        return pass_at_k(self.episodes, self.right[agent], k)

    @property
    def measured(self) -> str:
        """The difficulty that the informed solver finds: the easiest whose share it reaches."""
        share = self.passes(_SOLVER, 1) or 0.0
        return next((word for word, least in FINDABLE.items() if share >= least), "unsolved")


@dataclass(frozen=True)
class Profile:
    """Of all scenarios of a recording."""

    scenarios: tuple[ScenarioProfile, ...]
    rows: Mapping[str, tuple[Row, ...]]
    """By agent: those asked for first, then the rails."""
    rules: Mapping[str, Rule]
    """By split: the best single-feature rule."""
    shortcuts: tuple[Shortcut, ...]
    excluded: Excluded
    k: int

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        return {
            "episodes": sum(s.episodes for s in self.scenarios),
            "unscorable": len(self.excluded.unscorable),
            "invisible": len(self.excluded.invisible),
            "k": self.k,
            "scenarios": [self._scenario_json(s) for s in self.scenarios],
            "rules": {split: {**rule.to_json(), "ceiling": CEILING} for split, rule in self.rules.items()},
            "shortcuts": {best.split: best.to_json() for best in self.shortcuts},
            "confusion": {agent: confusion_counts(rows) for agent, rows in self.rows.items()},
        }

    def _scenario_json(self, s: ScenarioProfile) -> dict[str, Any]:
        rates = {
            agent: {"right": right, "pass@1": s.passes(agent, 1), f"pass@{self.k}": s.passes(agent, self.k)}
            for agent, right in s.right.items()
        }
        about = {"name": s.name, "split": s.split, "difficulty": s.difficulty, "measured": s.measured, "faults": list(s.faults)}
        return {**about, "episodes": s.episodes, "agents": rates}

    def to_markdown(self, *, confusion: Sequence[str] = (_SOLVER,)) -> str:
        """Tables, with the confusion of the agents named."""
        out = self.excluded
        count = sum(s.episodes for s in self.scenarios)
        lead = f"{count} episodes of {len(self.scenarios)} scenarios; {len(out.unscorable)} unscorable, {len(out.invisible)} invisible"
        parts = [f"## Difficulty, measured\n\n{lead}", self._table().to_markdown(), "\n".join(self._bounds())]
        parts += [confusion_table(agent, self.rows[agent]).to_markdown() for agent in confusion if agent in self.rows]
        return "\n\n".join(parts)

    def _table(self) -> Table:
        agents = [agent for agent in self.rows if agent not in ("oracle", "null")]
        head = ("scenario", "faults", "split", "declared", "measured", "episodes", *agents)
        lines = tuple((*_about(s), *(self._cell(s, agent) for agent in agents)) for s in self.scenarios)
        note = (
            f"pass@1, and after the stroke pass@{self.k}, over the seeds of a scenario (- where there are fewer). Measured: the easiest "
            f"difficulty of which `{_SOLVER}` reaches the share ({', '.join(f'{word} {share:.0%}' for word, share in FINDABLE.items())})."
        )
        return Table("Scenario by scenario", head, lines, note)

    def _cell(self, s: ScenarioProfile, agent: str) -> str:
        one, many = s.passes(agent, 1), s.passes(agent, self.k)
        return f"{one:.2f} / {'-' if many is None else f'{many:.2f}'}"

    def _bounds(self) -> list[str]:
        """What the simplest readers get, split by split."""
        rules = (
            f"- best single-feature rule on {split}: {rule.sentence}: right in {rule.share:.1%} of {rule.episodes} broken episodes"
            for split, rule in self.rules.items()
        )
        return [*(f"- {best.sentence}" for best in self.shortcuts), *(f"{line} (ceiling {CEILING:.0%})" for line in rules)]


def _about(s: ScenarioProfile) -> tuple[str, ...]:
    return (s.name, ", ".join(s.faults) or "healthy", s.split, s.difficulty, s.measured, str(s.episodes))


def make_profile(episodes: Sequence[Path], agents: Sequence[Agent] = (), *, pattern: str = "*", k: int = 5, seed: int = 0) -> Profile:
    """Let the rails and `agents` answer every scorable episode of a scenario that `pattern` matches.

    Raises InputError when there is none, or a broken one, and InfrastructureError when none may be scored.
    """
    cases, excluded = load_cases(_chosen(episodes, pattern), seed)
    rails = [make_rail(name, cases, cases, seed) for name in RAILS if name not in {agent.name for agent in agents}]
    rows = {agent.name: answer_cases(agent, cases) for agent in (*agents, *rails)}
    return Profile(
        scenarios=_scenarios(cases, rows),
        rows=rows,
        rules={split: rule for split, of in _by_split(cases).items() if (rule := best_rule([(c.incident, c.truth) for c in of]))},
        shortcuts=tuple(best_shortcuts(rows)),
        excluded=excluded,
        k=k,
    )


def _chosen(episodes: Sequence[Path], pattern: str) -> list[Path]:
    names = {path: read_truth(path).scenario for path in episodes}
    chosen = [path for path, name in names.items() if fnmatchcase(name, pattern)]
    if episodes and not chosen:
        known = sorted(set(names.values()))
        raise InputError(f"no episode of a scenario that matches {pattern!r}{did_you_mean(pattern, known)}; there are {', '.join(known)}")
    return chosen


def _by_split(cases: Sequence[Case]) -> dict[str, list[Case]]:
    return {split: [c for c in cases if c.truth.split == split] for split in sorted({case.truth.split for case in cases})}


def _scenarios(cases: Sequence[Case], rows: Mapping[str, Sequence[Row]]) -> tuple[ScenarioProfile, ...]:
    found: list[ScenarioProfile] = []
    for name in sorted({case.truth.scenario for case in cases}):
        places = [place for place, case in enumerate(cases) if case.truth.scenario == name]
        truth = cases[places[0]].truth
        right = {agent: sum(of[place].both1 for place in places) for agent, of in rows.items()}
        faults = tuple(dict.fromkeys(cause.fault for place in places for cause in cases[place].truth.causes))
        found.append(ScenarioProfile(name, truth.split, truth.difficulty, faults, len(places), right))
    return tuple(found)
