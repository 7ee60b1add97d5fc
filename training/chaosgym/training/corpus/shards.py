"""Shards: the Parquet files of a corpus, with the columns `text`, `source` and `id`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chaosgym.errors import InputError

__all__ = ["REPORT_FILE", "ShardWriter", "read_corpus"]

REPORT_FILE = "report.json"
_SCHEMA = pa.schema([("text", pa.string()), ("source", pa.string()), ("id", pa.string())])
_SHARD = 64 * 2**20
"""Bytes of text in a shard."""


class ShardWriter:
    """Collects rows, and writes a shard whenever there is enough of them."""

    def __init__(self, folder: Path) -> None:
        """`folder` is there."""
        self._folder = folder
        self._rows: list[dict[str, str]] = []
        self._waiting = self._shards = self.bytes = 0

    def add(self, text: str, source: str, identity: str) -> None:
        """One document."""
        self._rows.append({"text": text, "source": source, "id": identity})
        size = len(text.encode())
        self._waiting += size
        self.bytes += size
        if self._waiting >= _SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=_SCHEMA)
            pq.write_table(table, self._folder / f"part-{self._shards:05d}.parquet", compression="zstd")
            self._shards += 1
        self._rows, self._waiting = [], 0


def read_corpus(folder: Path) -> Iterator[str]:
    """The texts of a corpus in the order of its shards. Raises InputError when it is none, or broken."""
    try:
        report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        shards = sorted(folder.glob("part-*.parquet"))
        rows = 0
        for shard in shards:
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(1024, columns=["text"]):
                    rows += batch.num_rows
                    yield from batch.column(0).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: is no whole corpus ({why}); `chaosgym corpus build` makes one") from error
    if rows != report.get("kept"):
        raise InputError(f"{folder}: holds {rows} documents where its report says {report.get('kept')}; build the corpus again")
