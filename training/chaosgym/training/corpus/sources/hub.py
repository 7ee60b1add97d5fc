"""Datasets of the hub through `datasets`, streamed: nothing but what is read is fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from chaosgym.errors import ChaosgymError, InfrastructureError, InputError, PrerequisiteError, did_you_mean
from chaosgym.extras import install_line
from chaosgym.training.corpus.config import HubSource
from chaosgym.training.corpus.document import Document

__all__ = ["read_hub"]


def read_hub(source: HubSource) -> Iterator[Document]:
    """Row by row. InputError for what is not there, InfrastructureError when the download breaks off."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise PrerequisiteError(f"{source.dataset}: needs the package datasets; run: {install_line('datasets')}") from error
    number = -1
    try:
        files: Any = list(source.files) or None
        rows: Any = load_dataset(source.dataset, source.subset, data_files=files, split=source.split, streaming=True)
        for number, row in enumerate(rows):
            yield Document(f"{source.split}:{number}", _text(source, row))
    except ChaosgymError:
        raise
    except Exception as error:  # `datasets` lets through the errors of every file system and format beneath it
        raise _failure(source, error, number + 1) from error


def _text(source: HubSource, row: Mapping[str, Any]) -> str:
    text = row.get(source.column)
    if isinstance(text, str):
        return text
    names = list(row)
    what = "holds no text" if source.column in row else "is missing"
    hint = did_you_mean(source.column, names)
    raise InputError(f"{source.dataset}: column {source.column!r} {what}; set `column` to one of: {', '.join(names)}{hint}")


def _failure(source: HubSource, error: Exception, rows: int) -> ChaosgymError:
    why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if rows or isinstance(error, ConnectionError | TimeoutError):
        remedy = "check the network and run the same again"
        return InfrastructureError(f"{source.dataset}: the download broke off after {rows} rows ({why}); {remedy}")
    return InputError(f"{source.dataset}: cannot be opened ({why}); check dataset, subset, split and files, and the network")
