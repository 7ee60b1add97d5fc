"""Where episodes are read from: a folder, or the address of a store, of which a copy is kept in the cache."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PLACE", "find_place"]

PLACE = "FOLDER|URL"


def find_place(text: str) -> Path:
    """The folder that holds the episodes of `text`, fetched first if need be; a `parser` of Typer."""
    from chaosgym.recording.store import fetch_episodes, is_address

    if not is_address(text):
        return Path(text)
    from chaosgym.recording.pool import cache_folder

    return fetch_episodes(text, cache_folder() / "episodes")
