"""A Document: one text on its way into a corpus, or the reason why it is none."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Document"]


class Document(NamedTuple):
    """What a source yields."""

    id: str
    """Where it stands in its source."""
    text: str
    prose: bool = True
    """Written by people; telemetry is not, and no filter of language or style judges it."""
    skip: str = ""
    """Why the source itself leaves it out."""
