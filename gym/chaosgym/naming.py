"""The public names of one episode: a made-up company with habits, and exceptions to them.

Every name is unique in its episode, and none is contained in another, so that a reader of the
telemetry can tell (and mask) them without doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from chaosgym import vocabulary as words

__all__ = ["Company", "draw_version", "next_version"]

LOG_STYLES = ("json", "logfmt", "plain")
_TRIES = 200
_RUNS_AS = {"worker": "worker", "postgres": "store", "redis": "store"}
_VERSION_STYLES = ("semver", "vsemver", "calver", "build", "short", "candidate")


@dataclass
class Company:
    """Draws names by the habits of one made-up company; remembers what it gave out."""

    random: Random
    used: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        """Settle the habits."""
        draw = self.random
        self.prefix = draw.choice(words.PREFIXES)
        self.prefixes = draw.random() < 0.25
        self.separator = "-" if draw.random() < 0.85 else "_"
        self.suffixes = {kind: draw.choice(options) for kind, options in words.SUFFIXES.items()}
        self.domain = draw.choice(words.DOMAINS).format(
            namespace=draw.choice(words.NAMESPACES),
            environment=draw.choice(words.ENVIRONMENTS),
            datacentre=draw.choice(words.DATACENTRES),
            prefix=draw.choice(words.PREFIXES),
        )
        self.route_base = draw.choice(words.ROUTE_BASES)
        self.table_prefix = draw.choice(words.TABLE_PREFIXES)
        self.log_style = draw.choice(LOG_STYLES)
        self.version_style = draw.choice(_VERSION_STYLES)

    def habit(self, usual: str, options: Sequence[str], share: float = 0.7) -> str:
        """The company's way, or now and then another."""
        return usual if self.random.random() < share else self.random.choice(options)

    def component(self, vocabulary: str, kind: str) -> str:
        """A service name such as `billing-api` or `nova_stockd`: lower case, one word of two parts or more."""
        runs = _RUNS_AS.get(kind, "http")
        for _ in range(_TRIES):
            name = self._component(words.NAME_STEMS[vocabulary], runs)
            if not self._clashes(name):
                break
        else:  # a very large app has used the list up
            name = next(n for i in range(1000) if not self._clashes(n := f"{self.random.choice(words.PREFIXES)}{i:03d}-{vocabulary}"))
        self.used.add(name)
        return name

    def _component(self, stems: Sequence[str], runs: str) -> str:
        stem = self.random.choice(stems)
        suffix = self.habit(self.suffixes[runs], words.SUFFIXES[runs])
        name = stem + ("-srv" if suffix == "d" and not stem.isalpha() else suffix)
        if self.prefixes != (self.random.random() < 0.15):
            name = f"{self.habit(self.prefix, words.PREFIXES, 0.8)}-{name}"
        return name.replace("-", self.separator)

    def _clashes(self, name: str) -> bool:
        return any(name in other or other in name for other in self.used)

    def host(self, name: str) -> str:
        """What clients call it by: DNS labels, so `_` becomes `-`."""
        return f"{name.replace('_', '-')}.{self.domain}"

    def route(self, endpoint: str, taken: set[str]) -> str:
        """A route with one `{id}` whose word no other endpoint of the component has, so that none shadows another."""
        options = [w for w in words.NOUNS.get(endpoint, words.GENERIC_NOUNS) if w not in taken]
        noun = self.random.choice(options or [w for w in words.GENERIC_NOUNS if w not in taken])
        taken.add(noun)
        base = self.habit(self.route_base, words.ROUTE_BASES, 0.75)
        return f"{base}/{noun}/{{id}}{self.random.choice(words.ROUTE_TAILS)}"

    def table(self, table: str, taken: set[str]) -> str:
        """A table name that SQL needs no quotes for."""
        options = words.TABLE_WORDS.get(table, words.GENERIC_NOUNS)
        for _ in range(_TRIES):
            name = self.table_prefix + self.random.choice(options)
            if name not in taken and name not in _RESERVED:
                break
        else:
            name = f"{self.table_prefix}{self.random.choice(words.GENERIC_NOUNS)}_{len(taken)}"
        taken.add(name)
        return name

    def stream(self, taken: set[str]) -> str:
        """The key of a Redis stream."""
        while (name := self.random.choice(words.STREAM_SUBJECTS) + self.random.choice(words.STREAM_ENDINGS)) in taken:
            pass
        taken.add(name)
        return name

    def port(self, kind: str, taken: set[int]) -> int:
        """A port that no other component of the episode has."""
        options = [p for p in words.PORTS.get(kind, words.HTTP_PORTS) if p not in taken]
        usual = [p for p in options[:4] if self.random.random() < 0.5]
        port = usual[0] if usual else self.random.choice(options or [p for p in range(10_000, 20_000) if p not in taken])
        taken.add(port)
        return port

    def version(self, kind: str) -> str:
        """A version in the company's style, or now and then another; of a datastore one that was released."""
        if kind in words.RELEASES:
            return self.random.choice(words.RELEASES[kind])
        return draw_version(self.random, self.habit(self.version_style, _VERSION_STYLES, 0.8))

    def log_style_of(self, kind: str) -> str:
        """How it writes log lines; datastores write their own."""
        return kind if kind in words.PORTS else self.habit(self.log_style, LOG_STYLES)


_RESERVED = frozenset({"user", "order", "group", "table", "values", "references", "offers", "grant", "grants"})


def draw_version(random: Random, style: str) -> str:
    """A version such as `3.14.2`, `v1.8.0`, `2025.11.3`, `1842`, `2.7` or `1.9.0-rc2`."""
    major, minor, patch = random.randint(0, 9), random.randint(0, 30), random.randint(0, 20)
    if style == "calver":
        return f"{random.randint(2021, 2026)}.{random.randint(1, 12)}.{patch}"
    if style == "build":
        return str(random.randint(120, 9800))
    if style == "short":
        return f"{major}.{minor}"
    if style == "candidate":
        return f"{major}.{minor}.{patch}-rc{random.randint(1, 9)}"
    return f"{'v' if style == 'vsemver' else ''}{major}.{minor}.{patch}"


def next_version(version: str, random: Random) -> str:
    """A later version in the style of `version`: one of its numbers goes up, those after it start again."""
    parts: list[str] = []
    for character in version:
        if parts and character.isdigit() == parts[-1].isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return f"{version}.1"
    weights = [1, 3, 9, 12][-len(numbers) :] if len(numbers) <= 4 else [1] * len(numbers)
    raised = random.choices(numbers, weights)[0]
    for index in numbers:
        if index == raised:
            parts[index] = str(int(parts[index]) + (random.randint(1, 40) if len(numbers) == 1 else random.choice((1, 1, 1, 2))))
        elif index > raised:
            parts[index] = "1" if parts[index - 1].endswith("rc") else "0"
    return "".join(parts)
