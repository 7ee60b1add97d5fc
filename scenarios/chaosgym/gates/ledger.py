"""The ledger: a file with one line of JSON for each verdict, written as verdicts come, so that a check can be looked at while it runs.

A new verdict takes the place of the old one of the same scenario and gate; those of other scenarios stay. The file
is replaced as a whole, so that no reader finds half a line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaosgym.errors import InfrastructureError
from chaosgym.gates.verdict import Verdict

__all__ = ["LEDGER_FILE", "as_row", "note"]

LEDGER_FILE = "verdicts.jsonl"


def as_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as an object of a listing."""
    return {"name": f"{verdict.scenario}/{verdict.gate}", **asdict(verdict)}


def note(folder: Path, verdicts: Sequence[Verdict], seeds: int) -> None:
    """Write `verdicts` of a check with `seeds` into the ledger of `folder`. Raises InfrastructureError when it cannot be written."""
    file = folder / LEDGER_FILE
    partial = file.with_name(f".{file.name}.partial")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    rows = {row["name"]: row for row in _read(file)}
    rows |= {row["name"]: {**row, "seeds": seeds, "at": at} for row in map(as_row, verdicts)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows.values()), encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise InfrastructureError(f"{file}: cannot write the verdicts ({error.strerror or error}); check space and permissions") from error


def _read(file: Path) -> list[dict[str, Any]]:
    """What was noted before; a file of somebody else's is written anew."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return [row for row in rows if isinstance(row, dict) and "name" in row]
