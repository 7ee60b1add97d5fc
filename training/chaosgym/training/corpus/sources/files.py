"""Local text: plain files whole, JSONL and Parquet row by row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from chaosgym.errors import InputError, did_you_mean
from chaosgym.training.corpus.document import Document

__all__ = ["read_files"]

_WHOLE = (".txt", ".md")
_KNOWN = (*_WHOLE, ".jsonl", ".parquet", *(f"{suffix}.gz" for suffix in (*_WHOLE, ".jsonl")))


def read_files(path: Path, column: str) -> Iterator[Document]:
    """A file, or those of a folder in the order of their names. Raises InputError with file, line and what is allowed."""
    for file in _list(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        kind = file.name.removesuffix(".gz").rpartition(".")[2]
        try:
            if kind == "parquet":
                yield from _rows(file, name, column)
            else:
                with _open(file) as stream:
                    yield from [Document(name, stream.read())] if kind != "jsonl" else _lines(file, stream, name, column)
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start}); convert it, as with iconv") from error
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{file}: cannot be read ({why}); check its permissions, or fetch it again") from error


def _list(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.name.endswith(_KNOWN) and file.is_file())
        if not found:
            raise InputError(f"{path}: holds none of {', '.join(_KNOWN)}; name another folder, or a file")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check `path`")
    if not path.name.endswith(_KNOWN):
        raise InputError(f"{path}: of a kind that is not read; allowed: {', '.join(_KNOWN)}")
    return [path]


def _open(file: Path) -> IO[str]:
    return gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8")


def _lines(file: Path, stream: IO[str], name: str, column: str) -> Iterator[Document]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield Document(f"{name}:{number}", _field(line, f"{file}:{number}", column))


def _field(line: str, place: str, column: str) -> str:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not valid JSON ({error}); each line is to be one object") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: holds a {type(row).__name__}, not an object with the field {column!r}")
    text: Any = row.get(column)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(text, str):
        fields = [str(key) for key in row]  # pyright: ignore[reportUnknownVariableType]
        what = "holds no text" if column in row else "is missing"
        hint = did_you_mean(column, fields)
        raise InputError(f"{place}: field {column!r} {what}; set `column` to one of: {', '.join(fields)}{hint}")
    return text


def _rows(file: Path, name: str, column: str) -> Iterator[Document]:
    with pq.ParquetFile(file) as table:
        columns = table.schema_arrow.names
        if column not in columns:
            hint = did_you_mean(column, columns)
            raise InputError(f"{file}: column {column!r} is missing; set `column` to one of: {', '.join(columns)}{hint}")
        if not pa.types.is_string(kind := table.schema_arrow.field(column).type) and not pa.types.is_large_string(kind):
            raise InputError(f"{file}: column {column!r} holds {kind}, not text; set `column` to one that does")
        number = 0
        for batch in table.iter_batches(1024, columns=[column]):
            for text in batch.column(0).to_pylist():
                yield Document(f"{name}:{number}", text or "")
                number += 1
