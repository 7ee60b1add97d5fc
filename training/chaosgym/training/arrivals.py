"""Episodes that come while training goes on: recorded beside it, on this machine or another, into the folders it learns from.

    chaosgym record, chaosgym fleet ──> folders ──looked at before each batch──> curriculum

An incident does not depend on the model that is asked about it, so sandboxes need not wait for the model, nor the model for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from chaosgym.episode import list_episodes
from chaosgym.errors import InputError
from chaosgym.training.processes import gather
from chaosgym.training.tasks import Source, read_source

__all__ = ["Arrivals", "everywhere"]

_log = logging.getLogger(__name__)


class Arrivals:
    """Finds what has come into folders since it was last asked."""

    def __init__(self, folders: Sequence[Path], known: Sequence[Source], wanted: Callable[[str], bool]) -> None:
        """`known` is there already; of the others those ids are taken that are `wanted`."""
        self._folders, self._wanted = folders, wanted
        self._seen = {source.id for source in known}

    def __call__(self) -> list[Source]:
        """New episodes that may be trained on, by id; of several processes those that all can read, and all must call it."""
        paths = (path for folder in self._folders for path in list_episodes(folder))
        found = {path.name: _read(path) for path in paths if path.name not in self._seen and self._wanted(path.name)}
        told = gather([(name, source is not None) for name, source in found.items()])
        self._seen.update(name for part in told for name, good in part if not good)
        shared = set[str].intersection(*({name for name, good in part if good} for part in told)) - self._seen
        self._seen.update(shared)
        return [source for name in sorted(shared) if (source := found[name])]


def everywhere(sources: Sequence[Source]) -> list[Source]:
    """Those of `sources` that all processes have: they have looked into the folders at different times."""
    shared = set[str].intersection(*map(set, gather([source.id for source in sources])))
    return [source for source in sources if source.id in shared]


def _read(path: Path) -> Source | None:
    """An episode that may be trained on. One that cannot be read is left out: training would end by what others do."""
    try:
        found = read_source(path)
    except InputError as error:
        _log.warning("left out: %s", error)
        return None
    return None if isinstance(found, str) else found
