"""The Tally of a corpus: what came in, what was kept, what was dropped and why, with examples."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Tally", "markdown", "mask"]

_EXAMPLES = 3
_LENGTH = 160


def mask(value: str) -> str:
    """A secret as it may be shown: its shape, no more than its first character."""
    return value[:1] + re.sub(r"\w", "*", value[1:24])


@dataclass
class Tally:
    """Of one source."""

    documents: int = 0
    characters: int = 0
    kept: int = 0
    kept_characters: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    scrubbed: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict[str, list[dict[str, str]]])

    def drop(self, reason: str, identity: str, text: str) -> None:
        """Count one that is left out; `text` is scrubbed already."""
        self.dropped[reason] += 1
        self._show(reason, {"id": identity, "before": text[:_LENGTH]})

    def scrub(self, identity: str, found: tuple[tuple[str, str], ...]) -> None:
        """Count what was replaced."""
        for kind, value in found:
            self.scrubbed[kind] += 1
            self._show(f"scrubbed {kind}", {"id": identity, "before": mask(value), "after": f"<{kind}>"})

    def _show(self, reason: str, example: dict[str, str]) -> None:
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append(example)

    def to_json(self) -> dict[str, Any]:
        """All of it, reasons in order."""
        return {
            "documents": self.documents, "characters": self.characters, "kept": self.kept, "kept_characters": self.kept_characters,
            "dropped": dict(sorted(self.dropped.items())), "scrubbed": dict(sorted(self.scrubbed.items())),
            "examples": dict(sorted(self.examples.items())),
        }


def markdown(report: dict[str, Any]) -> str:
    """The same for people."""
    lines = ["# Corpus", "", f"{report['kept']} of {report['documents']} documents kept, {report['bytes']} bytes.", ""]
    lines += ["| source | documents | kept | characters | kept | dropped | scrubbed |", "|---|---|---|---|---|---|---|"]
    for name, row in report["sources"].items():
        said = [", ".join(f"{reason}: {count}" for reason, count in row[key].items()) for key in ("dropped", "scrubbed")]
        cells = [name, *(str(row[key]) for key in ("documents", "kept", "characters", "kept_characters")), *said]
        lines.append(f"| {' | '.join(cells)} |")
    for name, row in report["sources"].items():
        for reason, shown in row["examples"].items():
            lines += ["", f"## {name}: {reason}", ""]
            lines += [_line(each) for each in shown]
    return "\n".join(lines) + "\n"


def _line(example: dict[str, str]) -> str:
    after = f" → `{example['after']}`" if "after" in example else ""
    return f"- `{example['id']}`: {_quoted(example['before'])}{after}"


def _quoted(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
