"""A document: a YAML file that a pydantic model describes, with errors that point at the place.

    orders.yaml:12:7: spec.components.orders: unknown key 'kindd'; allowed: consumes, endpoints, ... - did you mean 'kind'?

Every problem is reported, one a line. Models of documents derive from `Strict`; what a model checks
across its fields it reports as `Problem`s, which carry their own location.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from chaosgym.errors import InputError, did_you_mean
from chaosgym.source import Loc, Source, read_source

__all__ = ["Problem", "Strict", "digest", "explain", "parse_document", "raise_problems", "read_document"]

M = TypeVar("M", bound=BaseModel)
_MOST_ERRORS = 50


class Strict(BaseModel):
    """Unknown keys are errors; nothing changes after reading; the docstring under a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Problem(NamedTuple):
    """What a check across fields found, and where."""

    loc: Loc
    message: str
    key: bool = False
    """It is about the key at `loc`, not about its value."""


def raise_problems(title: str, problems: Iterable[Problem]) -> None:
    """Inside a pydantic validator: raise all problems, each with its location; nothing when there are none."""
    errors = [InitErrorDetails(type=_custom(problem), loc=problem.loc, input=None) for problem in problems]
    if errors:
        raise ValidationError.from_exception_data(title, errors)


def _custom(problem: Problem) -> PydanticCustomError:
    return PydanticCustomError("cross_check_key" if problem.key else "cross_check", "{message}", {"message": problem.message})


def digest(model: BaseModel) -> str:
    """SHA-256 (hex) of what a document means: comments, order of keys and spelling of units don't matter."""
    canonical = json.dumps(model.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_document(path: str | Path, model: type[M]) -> M:
    """Read a YAML file into `model`; InputError with one line `file:line:column: path: message` per problem."""
    return parse_document(read_source(path), model)


def parse_document(source: Source, model: type[M]) -> M:
    """As `read_document`, of a source that was read already."""
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        raise InputError("\n".join(explain(source, model, error))) from None


def explain(source: Source, model: type[BaseModel], error: ValidationError) -> list[str]:
    """One line per error, in the order of the file; at most 50, and then how many more."""
    schema = model.model_json_schema(by_alias=True)
    texts: dict[tuple[int, int, Loc, bool], list[str]] = {}
    for detail in error.errors(include_url=False):
        loc = tuple(detail["loc"])
        about_key = detail["type"] in ("extra_forbidden", "missing", "cross_check_key") or "[key]" in loc
        mark = source.where(loc, key=about_key)
        texts.setdefault((mark.line, mark.column, source.known(loc), about_key), []).append(_text(source, schema, detail))
    places = sorted(texts, key=lambda place: place[:2])
    lines = [source.message(place[2], text, key=place[3]) for place in places for text in _alternatives(texts[place])]
    more = len(lines) - _MOST_ERRORS
    return [*lines[:_MOST_ERRORS], f"{source.name}: and {more} more"] if more > 0 else lines


def _alternatives(texts: list[str]) -> list[str]:
    """What the members of a union say of one value, in one line."""
    texts = list(dict.fromkeys(texts))
    parts = [re.fullmatch(r"should be (a valid \w+)(?:,.*)?(, not .*)", text) for text in texts]
    if len(texts) == 1 or not all(parts):
        return texts
    kinds = [part[1] for part in parts if part is not None]
    return [f"should be {', '.join(kinds[:-1])} or {kinds[-1]}{texts[-1][texts[-1].rindex(', not ') :]}"]


def _text(source: Source, schema: dict[str, Any], detail: ErrorDetails) -> str:
    """One error in our words: what, the offending value, what is allowed, the nearest allowed word."""
    loc, kind = tuple(detail["loc"]), detail["type"]
    if kind == "extra_forbidden":
        allowed = allowed_keys(source, schema, loc[:-1])
        return f"unknown key '{loc[-1]}'; allowed: {', '.join(allowed) or 'none'}{did_you_mean(str(loc[-1]), allowed)}"
    if kind == "missing":
        return f"key '{loc[-1]}' is missing" if isinstance(loc[-1], str) else f"item {loc[-1] + 1} is missing"
    if kind in ("cross_check", "cross_check_key", "value_error"):
        return re.sub(r"^Value error, ", "", detail["msg"])
    value = detail["input"]
    text = detail["msg"].replace("Input should be", "should be").replace("Input should", "should")
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
        return f"{text}, not {_short(value)}{did_you_mean(str(value), words)}"
    if kind == "string_pattern_mismatch":
        return f"{_short(value)} should match the pattern {detail.get('ctx', {}).get('pattern')}"
    if kind.startswith("union_tag"):
        return text + (_near_key(value, text) if isinstance(value, dict) else f", not {_short(value)}")
    return text if value is None or (isinstance(value, dict | list | tuple) and kind.startswith("too_")) else f"{text}, not {_short(value)}"


def _near_key(value: dict[str, Any], text: str) -> str:
    words = re.findall(r"[a-z]+", text)
    return next((hint for key in value if (hint := did_you_mean(str(key), words))), "")


def _short(value: Any) -> str:
    """A value for a message: in one line, of bounded length, containers by their kind."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = "nothing (null)" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def allowed_keys(source: Source, schema: dict[str, Any], loc: Sequence[str | int]) -> list[str]:
    """The keys that the JSON Schema allows in the mapping at `loc`, sorted."""
    states = _expand(schema, [schema], source.data)
    at: Loc = ()
    for part in loc:
        if (*at, part) not in source.values:
            continue  # the tag of a union is part of pydantic's location but not of the file
        at = (*at, part)
        states = _expand(schema, [s for state in states if (s := _child(state, part)) is not None], source.at(at))
    return sorted({key for state in states for key in state.get("properties", {})})


def _child(state: dict[str, Any], part: str | int) -> dict[str, Any] | None:
    """The schema of one entry or item (the models of this project have no tuples of mixed items)."""
    others = [*state.get("patternProperties", {}).values(), state.get("additionalProperties")]
    found = state.get("items") if isinstance(part, int) else state.get("properties", {}).get(part, others[0])
    return found if isinstance(found, dict) else None


def _expand(root: dict[str, Any], states: list[dict[str, Any]], value: Any) -> list[dict[str, Any]]:
    """Follow references and unions; of several members keep those that need the most of the keys that `value` has."""
    done: list[dict[str, Any]] = []
    waiting = list(states)
    while waiting:
        state = waiting.pop()
        if "$ref" in state:
            waiting.append(root["$defs"][state["$ref"].rsplit("/", 1)[-1]])
        elif members := state.get("oneOf", state.get("anyOf", state.get("allOf"))):
            waiting.extend(members)
        else:
            done.append(state)
    given = set(value) if isinstance(value, dict) else set[str]()
    fit = [len(given & set(state.get("required", ()))) for state in done]
    return [state for state, score in zip(done, fit, strict=True) if score == max(fit)]
