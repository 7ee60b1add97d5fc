"""What `chaosgym corpus build` needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from chaosgym.document import Strict

__all__ = ["CorpusConfig", "EpisodeSource", "ExchangeSource", "HubSource", "Source", "TextSource"]


class _Source(Strict):
    """Shared by all sources."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,60}$")] = ""
    """What the corpus calls it; its kind when not given."""
    documents: Annotated[int, Field(ge=1)] | None = None
    """Read the first so many."""


class EpisodeSource(_Source):
    """Recorded episodes of split train: log lines, traces and both renderings of the report; no truth."""

    kind: Literal["episodes"]
    path: Path


class TextSource(_Source):
    """A file, or all of a folder: .txt, .md, .jsonl and .parquet, the first three also as .gz."""

    kind: Literal["text"]
    path: Path
    column: str = "text"
    """Field of JSONL, column of Parquet."""


class ExchangeSource(_Source):
    """`Posts.xml` of a StackExchange dump: questions with their accepted answers."""

    kind: Literal["stackexchange"]
    path: Path


class HubSource(_Source):
    """A dataset of the hub, or of local files, streamed."""

    kind: Literal["hub"]
    dataset: str
    """A hub id such as HuggingFaceFW/fineweb-edu, a folder, or a format such as json with `files`."""
    subset: str | None = None
    split: str = "train"
    column: str = "text"
    files: tuple[str, ...] = ()
    """Of the dataset, or anywhere when `dataset` is a format."""

    @property
    def path(self) -> str:
        """What messages call it."""
        return self.dataset


Source = Annotated[EpisodeSource | TextSource | ExchangeSource | HubSource, Field(discriminator="kind")]


class CorpusConfig(Strict):
    """Text from several sources, cleaned."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Each with a `kind`: episodes, text, stackexchange or hub."""
    out: Path
    """Folder of the corpus."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes that prose may be written in."""
    shortest: Annotated[int, Field(ge=1)] = 20
    """Words of prose."""
    near: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of five-word sequences in common from which on two texts are the same."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the permutations of MinHash and the examples shown."""

    @model_validator(mode="after")
    def _names(self) -> CorpusConfig:
        names = [source.name or source.kind for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} sources are called {name!r}: give each a `name` of its own")
        return self
