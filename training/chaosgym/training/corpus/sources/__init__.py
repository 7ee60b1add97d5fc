"""Readers: one module per kind of source, each a generator of Documents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from chaosgym.training.corpus.config import EpisodeSource, ExchangeSource, HubSource, Source
from chaosgym.training.corpus.document import Document
from chaosgym.training.corpus.sources.episodes import read_episodes
from chaosgym.training.corpus.sources.exchange import read_exchange
from chaosgym.training.corpus.sources.files import read_files
from chaosgym.training.corpus.sources.hub import read_hub

__all__ = ["read_source"]


def read_source(source: Source, seed: int) -> Iterator[Document]:
    """Its documents in their order, `source.documents` at most. Raises InputError for what cannot be read."""
    if isinstance(source, EpisodeSource):
        found = read_episodes(source.path, seed)
    elif isinstance(source, ExchangeSource):
        found = read_exchange(source.path)
    elif isinstance(source, HubSource):
        found = read_hub(source)
    else:
        found = read_files(source.path, source.column)
    return islice(found, source.documents)
