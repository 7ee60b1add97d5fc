"""Writes docs/faults.md from the fault classes: `python -m chaosgym.faults.docs [FILE]`; and what is said of them elsewhere."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from chaosgym.faults import FAULTS
from chaosgym.faults.base import Fault, Symptom
from chaosgym.taxonomy import FAULT_TYPES

__all__ = ["first_paragraph", "main", "render", "symptom_text"]

_HEAD = """# Faults

What chaosgym breaks, how it shows, and what each takes. Written by `python -m chaosgym.faults.docs` from the
fault classes under `gym/chaosgym/faults/`; change those, then run it again.

Each fault is real: it acts on the running processes, links and servers, is read back independently of the
call that made it, and is undone on every way out. An episode in which none of a fault's symptoms is seen
is marked `invisible` and counts for nothing.
"""
_TAIL = """
## A fault of your own

One file of about 40 lines: `chaosgym faults new dependency.slow_disk` writes one that works, `chaosgym faults check` says what
is wrong with it, `chaosgym --faults slow_disk.py run SCENARIO` runs it, and an entry point of the group `chaosgym.faults`
installs it. [authoring.md](authoring.md) goes through it.
"""
_WHERE = {"component": "the component", "callers": "its callers", "edge": "the edge"}


def render() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *_overview(), *(line for label in FAULTS for line in _section(FAULTS[label])), _TAIL.strip("\n"), ""])


def _overview() -> Iterator[str]:
    yield "| fault | what | fits | the sandbox must be able to |"
    yield "|---|---|---|---|"
    for label, fault in FAULTS.items():
        anchor = label.replace(".", "")
        yield f"| [`{label}`](#{anchor}) | {FAULT_TYPES[label].summary} | {_listed(fault.kinds)} | {_listed(fault.needs)} |"


def first_paragraph(fault: type[Fault]) -> str:
    """What a fault does, in one line."""
    return " ".join((inspect.getdoc(fault) or "").split("\n\n")[0].split())


def _section(fault: type[Fault]) -> Iterator[str]:
    yield f"\n## {fault.label}\n"
    yield inspect.getdoc(fault) or ""
    synonyms = ", ".join(f"`{word}`" for word in FAULT_TYPES[fault.label].synonyms)
    yield f"\nAlso known as: {synonyms}.\n"
    yield "Seen when any of these comes up: " + "; ".join(symptom_text(symptom) for symptom in fault.symptoms) + "."
    if fault.documented:
        yield f"\nIn reality: <{fault.documented}>."
    yield from (f"\nDiffers on {sandbox}: {reason}." for sandbox, reason in fault.differs.items())
    fields = fault.Parameters.model_fields
    if fields:
        yield "\n| parameter | default | meaning |\n|---|---|---|"
        yield from (f"| `{name}` | {_default(field)} | {field.description} |" for name, field in fields.items())


def symptom_text(symptom: Symptom) -> str:
    """A symptom in a few words, as in `its callers: latency up`."""
    where = _WHERE[symptom.where]
    if symptom.signal == "log":
        pattern = symptom.pattern.removeprefix("(?i)")
        return f"{where}: log lines match `{pattern}`"
    if symptom.signal == "down":
        return f"{where}: silent or gone"
    return f"{where}: {symptom.signal} {symptom.direction}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "-" if field.default is None else f"`{_plain(field.default)}`"


def _plain(value: Any) -> str:
    """A size in MiB where it comes out even, anything else as it is."""
    if isinstance(value, int) and value >= 2**20 and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(words: frozenset[Any]) -> str:
    return ", ".join(sorted(words))


def main(arguments: list[str]) -> None:
    """Write the page to the file named, docs/faults.md by default."""
    target = Path(arguments[0] if arguments else "docs/faults.md")
    target.write_text(render(), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
