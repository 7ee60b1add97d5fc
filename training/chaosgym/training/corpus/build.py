"""`chaosgym corpus build`: every source through every step, into a folder that appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaosgym.document import digest
from chaosgym.errors import InfrastructureError, InputError, PrerequisiteError
from chaosgym.extras import missing_modules
from chaosgym.training.corpus.config import CorpusConfig, Source
from chaosgym.training.corpus.document import Document
from chaosgym.training.corpus.duplicates import Duplicates
from chaosgym.training.corpus.quality import fault_of, normalise
from chaosgym.training.corpus.report import Tally, markdown
from chaosgym.training.corpus.scrub import scrub
from chaosgym.training.corpus.shards import REPORT_FILE, ShardWriter
from chaosgym.training.corpus.sources import read_source

__all__ = ["build_corpus"]

OnDocument = Callable[[str, Tally], None]
"""Called after each document with the name of its source and what is counted of it so far."""


def build_corpus(config: CorpusConfig, on_document: OnDocument = lambda name, tally: None) -> dict[str, Any]:
    """Build it and return its report; a finished one of the same configuration is not built again.

    Raises InputError for a source that cannot be read, a folder that holds something else, and when nothing is kept.
    """
    if missing := missing_modules("corpus"):
        raise PrerequisiteError(f"a corpus needs {', '.join(missing)}; run: pip install 'chaosgym[corpus]'")
    mark = digest(config.model_copy(update={"out": Path()}))
    if (finished := _finished(config.out, mark)) is not None:
        return finished
    partial = config.out.with_name(f".{config.out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
        partial.mkdir(parents=True)
        report = _fill(config, mark, partial, on_document)
        partial.rename(config.out)
    except OSError as error:
        raise InfrastructureError(f"{config.out}: cannot be written ({error.strerror}); name another `out` or free some space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _finished(out: Path, mark: str) -> dict[str, Any] | None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        report = json.loads((out / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    if report.get("digest") == mark:
        return report
    what = "a corpus of another configuration" if "digest" in report else "something that is no corpus"
    raise InputError(f"{out}: holds {what}; name another `out` or remove it")


def _fill(config: CorpusConfig, mark: str, folder: Path, on_document: OnDocument) -> dict[str, Any]:
    writer, seen, tallies = ShardWriter(folder), Duplicates(config.near, config.seed), dict[str, Tally]()
    for source in config.sources:
        name = source.name or source.kind
        tallies[name] = _take(config, source, name, seen, writer, on_document)
    writer.flush()
    kept = sum(tally.kept for tally in tallies.values())
    if not kept:
        why = sum((tally.dropped for tally in tallies.values()), start=type(next(iter(tallies.values())).dropped)())
        said = ", ".join(f"{count} {reason}" for reason, count in why.most_common()) or "no documents came in"
        raise InputError(f"{config.out}: no document is left ({said}); loosen languages, shortest or near, or name other sources")
    report = {
        "digest": mark, "documents": sum(tally.documents for tally in tallies.values()), "kept": kept, "bytes": writer.bytes,
        "config": config.model_dump(mode="json", exclude={"out"}), "sources": {name: tally.to_json() for name, tally in tallies.items()},
    }
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    return report


def _take(
    config: CorpusConfig, source: Source, name: str, seen: Duplicates, writer: ShardWriter, on_document: OnDocument
) -> Tally:
    """All documents of one source."""
    tally = Tally()
    for document in read_source(source, config.seed):
        document = document._replace(text=normalise(document.text))
        tally.documents += 1
        tally.characters += len(document.text)
        clean = _clean(config, document, seen, tally)
        if clean:
            tally.kept += 1
            tally.kept_characters += len(clean)
            writer.add(clean, name, document.id)
        on_document(name, tally)
    return tally


def _clean(config: CorpusConfig, document: Document, seen: Duplicates, tally: Tally) -> str:
    """What is kept of it; nothing when it is dropped."""
    reason = document.skip or fault_of(document, config.languages, config.shortest)
    safe = scrub(document.text)  # of dropped ones too: their first words stand in the report
    reason = reason or seen.reason_against(safe.text)
    if reason:
        tally.drop(reason, document.id, safe.text)
        return ""
    tally.scrub(document.id, safe.found)
    return safe.text
