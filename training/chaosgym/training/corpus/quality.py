"""Whether a text is worth reading: in a wanted language, and in the manner of prose.

The rules are those of Gopher (Rae et al. 2021, table A1) that need no list of words, with room for code among the prose.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from chaosgym.training.corpus.document import Document
from chaosgym.training.tokenizer import GLUE

__all__ = ["fault_of", "normalise"]

_MARKS = re.compile(r"<\|(?=\w+\|>)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]|" + GLUE)
_SAMPLE = 2000
"""Characters that tell a language."""


def normalise(text: str) -> str:
    """One form of each character and line; nothing that a tokenizer takes for a mark of its own."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _MARKS.sub("< |", _CONTROL.sub("", text)).strip()


def fault_of(document: Document, languages: Collection[str], shortest: int) -> str:
    """Why it is to be dropped; an empty string for what may stay."""
    if not document.text:
        return "empty"
    if not document.prose:
        return ""
    return _style(document.text, shortest) or _language(document.text, languages)


def _style(text: str, shortest: int) -> str:
    words = text.split()
    if len(words) < shortest:
        return "too short"
    if not 3 <= sum(map(len, words)) / len(words) <= 10:
        return "odd words"
    if sum(any(c.isalpha() for c in word) for word in words) < 0.7 * len(words):
        return "few letters"
    if (text.count("#") + text.count("...") + text.count("…")) > 0.1 * len(words):
        return "symbols"
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return "repeated lines" if len(lines) - len(set(lines)) > 0.3 * len(lines) else ""


def _language(text: str, languages: Collection[str]) -> str:
    import py3langid  # pyright: ignore[reportMissingTypeStubs]

    found = str(py3langid.classify(text[:_SAMPLE])[0])
    return "" if found in languages else f"language {found}"
