"""The incident report: what an agent sees of an episode.

`compile_incident` turns an episode into an `Incident` with two renderings, compact (closed words, handles) and
readable (names, numbers); `analyse` gives the findings behind both. `vocabulary` and `answer` hold the words that
a small model's tokenizer knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaosgym.incident.analysis import analyse
    from chaosgym.incident.findings import Findings, Incident
    from chaosgym.incident.report import compile_incident, render_incident

__all__ = ["Findings", "Incident", "analyse", "compile_incident", "render_incident"]

_HOMES = {"Findings": "findings", "Incident": "findings", "analyse": "analysis", "compile_incident": "report", "render_incident": "report"}


def __getattr__(name: str) -> Any:
    """Import on first use: the words alone must not cost an import of pyarrow and drain3."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
