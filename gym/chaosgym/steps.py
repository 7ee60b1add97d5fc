"""What a service does to answer a request or a worker to handle a message: steps, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, Tag

from chaosgym.document import Strict
from chaosgym.source import Loc
from chaosgym.units import Count, Duration, Name, within

__all__ = ["CacheStep", "CallStep", "ComputeStep", "PublishStep", "QueryStep", "Step", "StepAt", "Timeout", "walk_steps"]

Timeout = Annotated[Duration, within(0.001, 60)]


class CallStep(Strict):
    """An HTTP request to an endpoint of another component."""

    call: Name
    """The component called."""
    endpoint: Name
    """Which of its endpoints."""
    timeout: Timeout = 0.3
    """Of one attempt."""
    retries: Annotated[Count, Field(ge=0, le=10)] = 1
    """Further attempts after a failed one, with backoff."""
    optional: bool = False
    """True: when it fails, the request goes on without (degraded)."""


class QueryStep(Strict):
    """A SQL statement on a table of a postgres component."""

    query: Name
    """The postgres component."""
    table: Name
    """Which of its tables."""
    operation: Literal["get", "list", "search", "insert", "update"] = "get"
    """One row by key, some rows, rows by pattern, a new row, or a changed row."""
    timeout: Timeout = 0.3
    """Of the statement, waiting for a connection included."""


class CacheStep(Strict):
    """A Redis command; a miss of `get` runs `otherwise` and stores the result."""

    cache: Name
    """The redis component."""
    operation: Literal["get", "set", "increment", "delete"] = "get"
    """The command."""
    key: Name
    """The kind of key; the item of the request is appended."""
    ttl: Annotated[Duration, within(0.001, 3600)] = 1.0
    """How long a stored value lives."""
    otherwise: Annotated[tuple[Step, ...], Field(max_length=20)] = ()
    """Only with `get`: where the value comes from on a miss."""
    timeout: Timeout = 0.2
    """Of the command."""


class PublishStep(Strict):
    """Append the request to a Redis stream, with trace context."""

    publish: Name
    """The redis component."""
    stream: Name
    """The stream that a worker consumes."""
    timeout: Timeout = 0.2
    """Of the command."""


class ComputeStep(Strict):
    """Real work on the CPU."""

    compute: Annotated[Duration, within(0, 1)]
    """About how long, on an idle core."""


_KINDS = {"call": CallStep, "query": QueryStep, "cache": CacheStep, "publish": PublishStep, "compute": ComputeStep}


def _kind(value: Any) -> str | None:
    """The tag of a step: the first key that names a kind (tags are not keys, so that locations stay unambiguous)."""
    if isinstance(value, dict):
        return next((f"<{kind}>" for kind in _KINDS if kind in value), None)
    return next((f"<{kind}>" for kind, model in _KINDS.items() if isinstance(value, model)), None)


Step = Annotated[
    Annotated[CallStep, Tag("<call>")]
    | Annotated[QueryStep, Tag("<query>")]
    | Annotated[CacheStep, Tag("<cache>")]
    | Annotated[PublishStep, Tag("<publish>")]
    | Annotated[ComputeStep, Tag("<compute>")],
    Discriminator(
        _kind, custom_error_type="union_tag_step", custom_error_message="a step has one of the keys call, query, cache, publish, compute"
    ),
]
CacheStep.model_rebuild()


class StepAt(NamedTuple):
    """A step and where it stands, relative to the list it was found from."""

    loc: Loc
    step: CallStep | QueryStep | CacheStep | PublishStep | ComputeStep


def walk_steps(steps: Sequence[Step], loc: Loc = ()) -> Iterator[StepAt]:
    """Every step in order, those under `otherwise` of a cache step after it."""
    for index, step in enumerate(steps):
        yield StepAt((*loc, index), step)
        if isinstance(step, CacheStep):
            yield from walk_steps(step.otherwise, (*loc, index, "otherwise"))
