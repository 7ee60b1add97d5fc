"""The telemetry of one episode: gathered as row tuples, kept as Arrow tables, written as Parquet.

Rows are tuples in the column order of `chaosgym.telemetry.schema`; what is absent is None (a root span has no
`parent_span_id`, a log line outside a trace no `trace_id`). Every table is sorted by its first column, a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chaosgym.errors import InputError
from chaosgym.telemetry.schema import SIGNALS

__all__ = ["Row", "TelemetryBuffer", "empty_tables", "read_table", "read_tables", "table_from_rows", "write_tables"]

Row = tuple[Any, ...]
"""One row in the order of its schema."""

_COMPRESSION = "zstd"  # measured on 3,400 rows: 2.7 ms and 109 kB; snappy 1.7 ms and 201 kB


@dataclass
class TelemetryBuffer:
    """Where receivers and samplers append; a list append is atomic, so threads may share one."""

    logs: list[Row] = field(default_factory=list[Row])
    spans: list[Row] = field(default_factory=list[Row])
    metrics: list[Row] = field(default_factory=list[Row])
    events: list[Row] = field(default_factory=list[Row])

    def clear(self) -> None:
        """Forget everything, in place: the lists stay the same objects."""
        for rows in (self.logs, self.spans, self.metrics, self.events):
            rows.clear()

    def tables(self, window: tuple[int, int] | None = None) -> dict[str, pa.Table]:
        """Arrow tables by signal, sorted by time; with `window` only rows with start <= time < end (Unix ns)."""
        made: dict[str, pa.Table] = {}
        for name in SIGNALS:
            rows: list[Row] = getattr(self, name)
            if window is not None:
                rows = [row for row in rows if window[0] <= row[0] < window[1]]
            made[name] = table_from_rows(name, rows)
        return made


def table_from_rows(signal: str, rows: list[Row]) -> pa.Table:
    """Rows of one signal as a table sorted by time. Raises pyarrow.ArrowException on values of a wrong type."""
    schema = SIGNALS[signal]
    if not rows:
        return schema.empty_table()
    columns = zip(*sorted(rows, key=itemgetter(0)), strict=True)
    return pa.Table.from_arrays([pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def empty_tables() -> dict[str, pa.Table]:
    """A table without rows for every signal."""
    return {name: schema.empty_table() for name, schema in SIGNALS.items()}


def write_tables(directory: Path, tables: Mapping[str, pa.Table]) -> None:
    """Write `<signal>.parquet` for every signal; one that is not in `tables` becomes empty.

    Raises OSError as the file system gives it, and InputError when a table has other columns.
    """
    for name, schema in SIGNALS.items():
        table = tables.get(name, None)
        table = schema.empty_table() if table is None else table
        path = directory / f"{name}.parquet"
        _check_columns(path, table, schema)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression=_COMPRESSION, use_dictionary=False, write_statistics=False)
        path.write_bytes(sink.getvalue())


def read_table(directory: Path, signal: str) -> pa.Table:
    """Read one signal's table; InputError naming the file when it is missing, truncated or something else."""
    path = directory / f"{signal}.parquet"
    try:
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; an episode holds {signal}.parquet: record or copy it again") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({_first_line(error)}); record or copy the episode again") from error
    _check_columns(path, table, SIGNALS[signal])
    return table


def read_tables(directory: Path) -> dict[str, pa.Table]:
    """Read every signal's table, as `read_table`."""
    return {name: read_table(directory, name) for name in SIGNALS}


def _check_columns(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    if not table.schema.equals(schema):
        raise InputError(f"{path}: has columns ({_columns(table.schema)}), but an episode has ({_columns(schema)}); convert the file")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in schema) or "none"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
