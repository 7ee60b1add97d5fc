"""What travels through a service with one request or message."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.context import Context

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """`item` is what it is about: a product, an order, a user."""

    item: int
    parent: Context
    """Of the spans that it causes."""
    trace: tuple[str, str]
    """Trace id and span id for the log."""
