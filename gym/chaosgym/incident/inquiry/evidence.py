"""Evidence: all that the telemetry of one episode can be asked about, up to the end of its incident window.

    episode ──> gather ──> Evidence ──> one function per tool ──> lines of text

Times that an agent reads or writes are seconds from the end of the baseline window; negative ones lie within it. What came
after the incident window (a fault undone, services that recover) is cut off here, once for all tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute

from chaosgym.episode import Episode, EpisodeHeader
from chaosgym.errors import InputError
from chaosgym.incident.analysis import analyse
from chaosgym.incident.findings import Findings
from chaosgym.incident.inquiry.lines import LogLine, read_lines
from chaosgym.incident.inquiry.spans import Span, read_spans
from chaosgym.telemetry.gauges import Gauges, read_gauges

__all__ = ["Evidence", "gather"]

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers
_TIME_COLUMN = {"spans": "end_time_unix_nano"}
"""A span belongs to the time at which it ended."""


@dataclass(frozen=True)
class Evidence:
    """Public facts, telemetry and what was measured from it; rows are read into Python on first use."""

    header: EpisodeHeader
    tables: Mapping[str, pa.Table]
    """By signal, as `chaosgym.telemetry.schema` has them, within the two windows and what lies between."""
    findings: Findings

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all components, in their order."""
        return tuple(component.name for component in self.header.components)

    @property
    def kinds(self) -> Mapping[str, str]:
        """Kind of each component by its name."""
        return {component.name: component.kind for component in self.header.components}

    @cached_property
    def lines(self) -> tuple[LogLine, ...]:
        """Log lines in order of time."""
        return read_lines(self.tables["logs"], self.header)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Spans in order of their start."""
        return read_spans(self.tables["spans"], self.header)

    @cached_property
    def gauges(self) -> Gauges:
        """Series of all metrics but histograms."""
        return read_gauges(self.tables["metrics"], self.header)

    @cached_property
    def units(self) -> Mapping[str, tuple[str, str]]:
        """Type (`gauge`, `sum`) and unit of each metric by its name."""
        columns = self.tables["metrics"].select(["name", "type", "unit"]).to_pydict()
        return {name: (kind or "", unit or "") for name, kind, unit in zip(*columns.values(), strict=True)}


def gather(episode: Episode) -> Evidence:
    """Read an episode's telemetry and measure it. Raises InputError for an unscorable or broken episode."""
    header = episode.header
    if header.status != "ok":
        raise InputError(f"{episode.path}: nothing to ask of an unscorable episode ({header.reason}); record it again or leave it out")
    tables = {signal: _within(signal, table, header) for signal, table in episode.tables.items()}
    return Evidence(header, tables, analyse(episode))


def _within(signal: str, table: pa.Table, header: EpisodeHeader) -> pa.Table:
    times = table[_TIME_COLUMN.get(signal, "time_unix_nano")]
    seen = pc.less(times, header.incident.end)
    # Events from before the baseline stay: a deploy of a minute ago is something that people would be told.
    return table.filter(seen if signal == "events" else pc.and_(seen, pc.greater_equal(times, header.baseline.start)))
