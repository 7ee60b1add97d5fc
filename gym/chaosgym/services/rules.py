"""Business rules with a bug: small functions that throw real exceptions on some of the records they are given.

Each flavour is a bug of a kind that reviews miss - a missing case, an empty list, a null - with names drawn
from a vocabulary. Which items have the awkward record is a hash of the item, so the same input always fails.
"""

from __future__ import annotations

import hashlib
import linecache
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from chaosgym.services.trace import application_folder

__all__ = ["BUGS", "Bug", "Rule", "compile_rule", "compile_settings", "is_affected"]


_NOUNS = ("discount", "tax", "loyalty", "shipping", "quota", "rebate", "margin", "bundle", "credit", "voucher", "tariff", "surcharge")
_VERBS = ("resolve", "apply", "compute", "derive", "normalize", "lookup", "prepare", "validate")
_MODULES = ("pricing", "rules", "policy", "mapping", "enrichment", "validation", "normalizers", "calculator", "eligibility")


@dataclass(frozen=True)
class Rule:
    """`rule.apply(rule.record(item))` is a business computation on the item of a request."""

    record: Callable[[int], Mapping[str, object]]
    apply: Callable[[Mapping[str, object]], object]


@dataclass(frozen=True)
class Bug:
    """`source` defines `{verb}_{noun}(record)`; it works on a record with `usual` and throws on one with `awkward`."""

    source: str
    usual: object
    awkward: object


BUGS: tuple[Bug, ...] = (
    Bug('''
FACTORS = {{"standard": 1.0, "member": 0.92, "partner": 0.85}}

def {inner}(record):
    return FACTORS[record["{noun}"]]

def {outer}(record):
    return round(record["amount"] * {inner}(record), 2)
''', "member", "trial"),
    Bug('''
def {inner}(entry):
    return entry["rate"] if entry["active"] else 0.0

def {outer}(record):
    return record["amount"] * (1 - {inner}(record["{noun}"]))
''', {"rate": 0.1, "active": True}, None),
    Bug('''
def {inner}(value):
    return int(value)

def {outer}(record):
    return record["amount"] + {inner}(record["{noun}"]) / 100
''', "250", "12.50"),
    Bug('''
def {outer}(record):
    units = sum(record["{noun}"])
    return record["amount"] / units
''', (1, 2), (0, 0)),
    Bug('''
def {inner}(entries):
    latest = sorted(entries)[-1]
    return latest

def {outer}(record):
    return record["amount"] - {inner}(record["{noun}"])
''', (3, 1), ()),
    Bug('''
import json

def {inner}(text):
    return json.loads(text)

def {outer}(record):
    options = {inner}(record["{noun}"])
    return record["amount"] * options.get("factor", 1)
''', '{"factor": 1}', ""),
    Bug('''
def {inner}(owner):
    return owner.strip().lower()

def {outer}(record):
    return {inner}(record["{noun}"]), record["amount"]
''', " Acme ", None),
    Bug('''
def {inner}(raw):
    return raw.decode("utf-8")

def {outer}(record):
    return len({inner}(record["{noun}"])) + record["amount"]
''', b"cafe", b"caf\xe9"),
    Bug('''
from decimal import Decimal

def {outer}(record):
    extra = Decimal(record["{noun}"])
    return float(extra) + record["amount"]
''', "1234.50", "1.234,50"),
    Bug('''
from datetime import date

def {inner}(text):
    return date.fromisoformat(text)

def {outer}(record):
    return {inner}(record["{noun}"]).toordinal() + record["amount"]
''', "2026-02-28", "2026-02-30"),
)  # fmt: skip

_ENVIRONMENT = """
import os

def load_{noun}_settings(record):
    key = os.environ["{name}"]
    return key, record["amount"]
"""
_UNFINISHED = """
def {outer}(record):
    if record["{noun}"]:
        raise NotImplementedError("{words} is not available yet")
    return record["amount"]
"""


def is_affected(item: int, share: float, flavour: int) -> bool:
    """Whether the record of `item` is awkward: the same answer always, for about `share` of all items."""
    digest = hashlib.blake2b(f"{flavour}:{item}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) < share * 2**32


def compile_rule(service: str, flavour: int, share: float) -> Rule:
    """The rule of one flavour as code of `service`, which throws on `share` of the items."""
    draw = random.Random(f"rule:{flavour}")
    bug, noun, verbs = BUGS[flavour % len(BUGS)], draw.choice(_NOUNS), draw.sample(_VERBS, 2)
    source = bug.source.format(outer=f"{verbs[0]}_{noun}", inner=f"_{verbs[1]}_{noun}", noun=noun)
    return Rule(_records(bug, noun, share, flavour), _defined(service, source, f"{verbs[0]}_{noun}", draw))


def compile_settings(service: str, environment: str, unfinished: float) -> tuple[Rule, ...]:
    """The rules that a configuration adds: one reads a variable of the environment, one takes a path that is not written yet."""
    draw = random.Random(f"settings:{service}")
    noun, verb = draw.choice(_NOUNS), draw.choice(_VERBS)
    rules: list[Rule] = []
    if environment:
        source = _ENVIRONMENT.format(name=environment, noun=noun)
        rules.append(Rule(_records(Bug(source, 1, 1), noun, 0.0, 0), _defined(service, source, f"load_{noun}_settings", draw)))
    if unfinished:
        bug = Bug(_UNFINISHED.format(outer=f"{verb}_{noun}", noun=noun, words=f"{noun} {verb}"), False, True)
        rules.append(Rule(_records(bug, noun, unfinished, draw.randrange(1_000)), _defined(service, bug.source, f"{verb}_{noun}", draw)))
    return tuple(rules)


def _records(bug: Bug, noun: str, share: float, flavour: int) -> Callable[[int], Mapping[str, object]]:
    def record(item: int) -> Mapping[str, object]:
        value = bug.awkward if is_affected(item, share, flavour) else bug.usual
        return {"id": item, "amount": item * 7 % 400 + 1, noun: value}

    return record


def _defined(service: str, source: str, name: str, draw: random.Random) -> Callable[[Mapping[str, object]], object]:
    """The function `name` of `source`, as if it stood somewhere in the code of `service`."""
    text = "\n" * draw.randrange(8, 90) + source.lstrip("\n")
    scope: dict[str, Any] = {}
    exec(_code(text, f"{application_folder(service)}/{draw.choice(_MODULES)}.py"), scope)  # source of this module, not of a user
    return scope[name]


def _code(source: str, filename: str) -> CodeType:
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)  # tracebacks quote the lines
    return compile(source, filename, "exec")
