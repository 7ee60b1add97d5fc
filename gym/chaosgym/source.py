"""A Source: one YAML file as plain data, with the line and column of every key and value.

The YAML accepted here is the part on which YAML 1.1 (PyYAML) and YAML 1.2 (editors) agree: plain
mappings, lists and scalars. Anchors, aliases, tags, merge keys, duplicate keys and words that the two
read differently (`on`, `012`, `12:30`, `1e3`) are refused with the way to write them. The tree is built
from parser events, not by recursion, so that neither depth nor aliases can exhaust the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from chaosgym.errors import InputError, did_you_mean

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Loc", "Mark", "Source", "parse_source", "read_source"]

MAX_BYTES = 2**20
MAX_DEPTH = 60

Loc = tuple[str | int, ...]
"""Where in a document: keys and list indices from the top."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = yaml.resolver.Resolver()
_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_ONLY_IN_YAML_1_2 = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+|0o[0-7]+")


class Mark(NamedTuple):
    """A place in the file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Source:
    """What a file says and where it says it."""

    name: str
    """How messages call the file."""
    data: dict[str, Any]
    keys: dict[Loc, Mark]
    """Of each mapping entry, where its key stands."""
    values: dict[Loc, Mark]
    """Of each value, where it begins."""

    def where(self, loc: Loc, *, key: bool = False) -> Mark:
        """The mark of the deepest part of `loc` that is in the file; parts that are not are skipped."""
        found = self.known(loc)
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        return first.get(found) or second.get(found) or Mark(1, 1)

    def known(self, loc: Loc) -> Loc:
        """`loc` without the parts that are not in the file (a missing key, a union's tag)."""
        found: Loc = ()
        for part in loc:
            if (*found, part) in self.values:
                found = (*found, part)
        return found

    def at(self, loc: Loc) -> Any:
        """The value at the known part of `loc`."""
        value: Any = self.data
        for part in self.known(loc):
            value = value[part]
        return value

    def message(self, loc: Loc, text: str, *, key: bool = False) -> str:
        """`file:line:column: path: text`."""
        mark = self.where(loc, key=key)
        path = ".".join(str(part) for part in self.known(loc))
        return f"{self.name}:{mark.line}:{mark.column}: {path}: {text}" if path else f"{self.name}:{mark.line}:{mark.column}: {text}"


@dataclass
class _Frame:
    """A mapping or list that is still open."""

    loc: Loc
    value: dict[str, Any] | list[Any]
    key: str | None = None


@dataclass
class _Builder:
    """Turns parser events into data and marks; notes problems and goes on where it can."""

    name: str
    frames: list[_Frame] = field(default_factory=list[_Frame])
    keys: dict[Loc, Mark] = field(default_factory=dict[Loc, Mark])
    values: dict[Loc, Mark] = field(default_factory=dict[Loc, Mark])
    problems: list[str] = field(default_factory=list[str])
    root: Any = None
    documents: int = 0

    def note(self, mark: Mark, text: str) -> None:
        self.problems.append(f"{self.name}:{mark.line}:{mark.column}: {text}")

    def stop(self, mark: Mark, text: str) -> NoReturn:
        self.note(mark, text)
        raise InputError("\n".join(self.problems))

    def feed(self, event: yaml.Event) -> None:
        mark = _mark(event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.stop(mark, "a second document begins here; write one document to a file")
        elif isinstance(event, yaml.AliasEvent):
            self.stop(mark, f"alias '*{event.anchor}' is not allowed; write the value out")
        elif isinstance(event, yaml.ScalarEvent):
            self.refuse_extras(event.anchor, event.tag, mark)
            self.scalar(event.value, bool(event.implicit[0]), mark)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self.refuse_extras(event.anchor, event.tag, mark)
            self.open({} if isinstance(event, yaml.MappingStartEvent) else [], mark)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.frames.pop()

    def refuse_extras(self, anchor: str | None, tag: str | None, mark: Mark) -> None:
        if anchor is not None:
            self.stop(mark, f"anchor '&{anchor}' is not allowed; write the value out where it is used")
        if tag is not None:
            self.stop(mark, f"tag '{tag}' is not allowed; write plain values (quote a text that looks like a number)")

    def open(self, value: dict[str, Any] | list[Any], mark: Mark) -> None:
        if len(self.frames) >= MAX_DEPTH:
            self.stop(mark, f"nested more than {MAX_DEPTH} levels deep")
        frame = self.frames[-1] if self.frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self.stop(mark, "a key must be a text, not a mapping or a list")
        self.frames.append(_Frame(self.place(value, mark), value))

    def scalar(self, text: str, plain: bool, mark: Mark) -> None:
        frame = self.frames[-1] if self.frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            frame.key = self.key(frame, text, plain, mark)
            return
        value, problem = _value(text) if plain else (text, "")
        if problem:
            self.note(mark, problem)
        self.place(value, mark)

    def key(self, frame: _Frame, text: str, plain: bool, mark: Mark) -> str:
        value, problem = _value(text) if plain else (text, "")
        if problem or not isinstance(value, str):
            self.note(mark, problem if text == "<<" else f"key {_known(text) or 'null'} is not read as a text; quote it: '{_known(text)}'")
        if text in frame.value:
            first = self.keys[(*frame.loc, text)]
            self.note(mark, f"key '{text}' stands twice; it is already on line {first.line}")
        self.keys[(*frame.loc, text)] = mark
        return text

    def place(self, value: Any, mark: Mark) -> Loc:
        """Put a finished or opened value where it belongs; return its location."""
        if not self.frames:
            self.root = value
            loc: Loc = ()
        elif isinstance((frame := self.frames[-1]).value, dict):
            assert frame.key is not None
            loc = (*frame.loc, frame.key)
            frame.value[frame.key], frame.key = value, None
        else:
            loc = (*frame.loc, len(frame.value))
            frame.value.append(value)
        self.values[loc] = mark
        return loc


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)


def _known(text: str) -> str:
    """A scalar for a message."""
    return text if len(text) <= 40 else text[:37] + "..."


def _value(text: str) -> tuple[Any, str]:
    """(value, problem) of a plain scalar; a problem says how to write it instead."""
    tag = str(_RESOLVER.resolve(yaml.ScalarNode, text, (True, False))).removeprefix(_TAG)
    known = _known(text)
    if tag == "str" and not _ONLY_IN_YAML_1_2.fullmatch(text):
        return text, ""
    if tag == "null":
        return None, ""
    if tag == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true", ""
    if tag == "bool":
        reading = text.lower() in ("yes", "on")
        return text, f"YAML 1.1 reads {known} as {str(reading).lower()}; write {str(reading).lower()}, or quote it: '{known}'"
    if tag == "int" and _DECIMAL.fullmatch(text):
        return int(text), ""
    if tag == "float" and _REAL.fullmatch(text):
        return float(text), ""
    if tag == "merge":
        return text, "merge keys ('<<') are not allowed; write the keys out"
    return text, f"{known} is read differently by different YAML readers; write a plain decimal number, or quote it: '{known}'"


def _syntax_error(name: str, error: yaml.YAMLError, text: str) -> InputError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        at = int(getattr(error, "position", 0) or 0)
        before = text[:at]
        place = Mark(before.count("\n") + 1, at - before.rfind("\n"))
        reason = str(getattr(error, "reason", None) or error).splitlines()[0]
    else:
        place = _mark(mark)
        reason = ", ".join(str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part)
    return InputError(f"{name}:{place.line}:{place.column}: not valid YAML: {reason}{_syntax_hint(text, place)}")


def _syntax_hint(text: str, place: Mark) -> str:
    """What most often is behind a syntax error on such a line."""
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if "\t" in line[: max(place.column, len(line) - len(line.lstrip()))]:
        return "; indent with spaces, not tabs"
    return "; within braces quote a reference: '${name}'" if re.search(r"\{.*\$\{", line) else ""


def parse_source(text: str, name: str) -> Source:
    """Read YAML text; every problem found, one a line, is raised as InputError."""
    builder = _Builder(name)
    try:
        events: Iterable[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        for event in events:
            builder.feed(event)
    except yaml.YAMLError as error:
        raise _syntax_error(name, error, text) from None
    if builder.problems:
        raise InputError("\n".join(builder.problems))
    if not isinstance(builder.root, dict):
        found = "nothing" if builder.root is None else "a list" if isinstance(builder.root, list) else f"{builder.root!r:.60}"
        raise InputError(f"{name}:1:1: expected a mapping of keys to values at the top, found {found}")
    return Source(name, builder.root, builder.keys, builder.values)


def read_source(path: str | Path) -> Source:
    """Read a YAML file of at most 1 MiB of UTF-8; InputError names the file and what is wrong."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{did_you_mean(path.name, near)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 2**20} MiB, the most a document may have; split it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise InputError(f"{path}:{line}:{column}: not UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8") from None
    return parse_source(text, str(path))
