"""`Posts.xml` of a StackExchange dump, streamed: questions with their accepted answers.

A dump is sorted by id and an answer is younger than its question, so that a question is held only until its answer comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import ParseError, iterparse

from chaosgym.errors import InputError
from chaosgym.training.corpus.document import Document

__all__ = ["read_exchange"]

_QUESTION, _ANSWER = "1", "2"
_BREAKS = frozenset(("p", "br", "li", "pre", "h1", "h2", "h3", "blockquote", "ul", "ol", "hr", "tr"))


def read_exchange(path: Path) -> Iterator[Document]:
    """Each question with its accepted answer as one text, in the order of the answers. Raises InputError."""
    waiting: dict[str, tuple[str, str]] = {}
    seen = 0
    try:
        for row in _rows(path):
            seen += 1
            identity = row.get("Id", "")
            if row.get("PostTypeId") == _QUESTION:
                text = f"{row.get('Title', '')}\n\n{_plain(row.get('Body', ''))}"
                if accepted := row.get("AcceptedAnswerId"):
                    waiting[accepted] = (identity, text)
                else:
                    yield Document(identity, text, skip="no accepted answer")
            elif row.get("PostTypeId") == _ANSWER and identity in waiting:
                question, text = waiting.pop(identity)
                yield Document(question, f"{text}\n\n{_plain(row.get('Body', ''))}")
    except ParseError as error:
        raise InputError(f"{path}: not whole XML ({error}); extract Posts.xml from the dump again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name the file Posts.xml of a dump") from error
    if not seen:
        raise InputError(f"{path}: holds no <row>; name the file Posts.xml of a dump")
    for identity, text in waiting.values():
        yield Document(identity, text, skip="its accepted answer is not there")


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with path.open("rb") as file:
        events = iterparse(file, events=("start", "end"))
        root = next(events)[1]
        for event, element in events:
            if event == "end" and element.tag == "row":
                yield dict(element.attrib)
                root.clear()  # else the whole dump stays in memory


class _Text(HTMLParser):
    """The text of a post, code as it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BREAKS:
            self.parts.append("\n")


def _plain(html: str) -> str:
    parser = _Text()
    parser.feed(html)
    parser.close()
    return "".join(parser.parts).strip()
