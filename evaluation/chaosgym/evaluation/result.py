"""An EvaluationResult: every answer of one agent and of the rails beside it, on the same episodes.

    result.json      who, which episodes were left out and why, examples, provenance, and the summary
    episodes.jsonl   a row per agent and episode
    report.md        tables
    report.html      tables and plots in one self-contained page
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from chaosgym.document import Strict
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.evaluation.asking import asking_summary, by_budget
from chaosgym.evaluation.calibration import calibration_error
from chaosgym.evaluation.ceiling import best_shortcuts
from chaosgym.evaluation.measures import by_label, latency, summarise
from chaosgym.evaluation.page import render_page
from chaosgym.evaluation.provenance import Provenance
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.tables import result_markdown

__all__ = ["RESULT_FILE", "ROWS_FILE", "EvaluationResult", "Example", "Excluded", "read_result"]

RESULT_FILE = "result.json"
ROWS_FILE = "episodes.jsonl"


class Excluded(Strict):
    """Episodes that nobody is scored on."""

    unscorable: dict[str, str]
    """Id -> why the machinery spoiled it."""
    invisible: tuple[str, ...]
    """Ids of those whose fault left no visible trace."""


class Example(Strict):
    """One incident to look at."""

    episode: str
    report: str
    """The readable rendering."""


class EvaluationResult(Strict):
    """What an evaluation found; everything reported is computed from the rows."""

    schema_version: Literal[1] = 1
    agent: str
    rows: tuple[Row, ...]
    """Of the agent, in the order of the episodes."""
    rails: dict[str, tuple[Row, ...]]
    """Of the rails, on the same episodes in the same order."""
    excluded: Excluded
    examples: tuple[Example, ...] = ()
    provenance: Provenance

    @property
    def agents(self) -> dict[str, tuple[Row, ...]]:
        """The rows of the agent and, after it, of the rails."""
        return {self.agent: self.rows, **self.rails}

    @property
    def given(self) -> int:
        """How many episodes there were, those left out included."""
        return len(self.rows) + len(self.excluded.unscorable) + len(self.excluded.invisible)

    def named(self, name: str) -> EvaluationResult:
        """The same result under another name, as `sft` in place of the path of a model."""
        rows = tuple(row.model_copy(update={"agent": name}) for row in self.rows)
        return self.model_copy(update={"agent": name, "rows": rows, "rails": {rail: of for rail, of in self.rails.items() if rail != name}})

    def rail(self, name: str) -> EvaluationResult:
        """A rail as a result of its own, to be compared with. Raises InputError for one that was not run."""
        if name not in self.rails:
            raise InputError(f"no rail {name!r} in this result; it has {', '.join(self.rails) or 'none'}")
        rails = {rail: rows for rail, rows in self.rails.items() if rail != name}
        return self.model_copy(update={"agent": name, "rows": self.rails[name], "rails": rails})

    def to_json(self) -> dict[str, Any]:
        """The summary: measures with intervals of every agent, over all episodes, per split and per fault."""
        splits = sorted({row.split for row in self.rows})
        return {
            "agent": self.agent,
            "episodes": {
                "given": self.given,
                "scored": len(self.rows),
                "unscorable": len(self.excluded.unscorable),
                "invisible": len(self.excluded.invisible),
            },
            "agents": {name: _summary(rows) for name, rows in self.agents.items()},
            "splits": {s: {name: _summary([r for r in rows if r.split == s]) for name, rows in self.agents.items()} for s in splits},
            "faults": {label: _summary(rows) for label, rows in by_label(self.rows).items()},
            **({"asking": asking_summary(self.rows)} if by_budget(self.rows) else {}),
            "shortcuts": {best.split: best.to_json() for best in best_shortcuts(self.agents)},
            "provenance": self.provenance.model_dump(mode="json"),
        }

    def to_markdown(self) -> str:
        """Tables: the agent beside the rails, its measures with both intervals, splits and faults."""
        return result_markdown(self)

    def to_html(self) -> str:
        """The self-contained page."""
        return render_page([self], title=f"Evaluation of {self.agent}")

    def write(self, folder: Path | str) -> None:
        """Write all four files; `result.json` comes last, so that where it stands the rest does too.

        Raises InfrastructureError when the file system refuses.
        """
        out = Path(folder)
        document = {**self.model_dump(mode="json", exclude={"rows", "rails"}), "rails": list(self.rails), "summary": self.to_json()}
        lines = "".join(row.model_dump_json() + "\n" for rows in self.agents.values() for row in rows)
        texts = {"report.md": self.to_markdown() + "\n", "report.html": self.to_html(), ROWS_FILE: lines}
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / RESULT_FILE).unlink(missing_ok=True)
            for name, text in texts.items():
                (out / name).write_text(text, encoding="utf-8")
            (out / RESULT_FILE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise InfrastructureError(f"{out}: cannot write the result ({error.strerror or error}); check space and permissions") from error


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    p50, p95 = latency(rows)
    measures = {name: m.to_json() for name, m in summarise(rows).items()}
    return {**measures, "calibration_error": calibration_error(rows), "latency_s": {"p50": p50, "p95": p95}}


def read_result(path: Path | str) -> EvaluationResult:
    """Read what `EvaluationResult.write` wrote: its folder or the `result.json` in it. Raises InputError."""
    file = Path(path) / RESULT_FILE if Path(path).is_dir() else Path(path)
    document = _load(file)
    version = document.get("schema_version")
    if isinstance(version, int) and version > 1:
        raise InputError(f"{file}: schema version {version} is newer than 1, the newest known here: upgrade chaosgym")
    rows = _read_rows(file.with_name(ROWS_FILE))
    document.pop("summary", None)
    names = document.pop("rails", [])
    try:
        agent = document["agent"]
        rails = {name: [row for row in rows if row.agent == name] for name in names}
        return EvaluationResult.model_validate({**document, "rows": [row for row in rows if row.agent == agent], "rails": rails})
    except (KeyError, TypeError, ValidationError) as error:
        raise InputError(f"{file}: not a result of `chaosgym eval --out` ({_first_line(error)}); evaluate again") from error


def _load(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); `chaosgym eval AGENT --out FOLDER` writes results") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not valid JSON ({error}); it is truncated or foreign: evaluate again") from error
    if not isinstance(document, dict):
        raise InputError(f"{file}: holds a {type(document).__name__}, not an object; evaluate again")
    return document  # pyright: ignore[reportUnknownVariableType]


def _read_rows(file: Path) -> list[Row]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); a result is a folder with {RESULT_FILE} and {ROWS_FILE}") from error
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{file}:{number}: not a row of an evaluation ({_first_line(error)}); evaluate again") from error
    return rows


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'object'}: {first['msg']}"
    return f"{type(error).__name__} {error}"
