"""How services word what happens to them: several phrasings of each event, one drawn per service."""

from __future__ import annotations

import random
from collections.abc import Mapping

__all__ = ["PHRASES", "draw_phrases"]

PHRASES: Mapping[str, tuple[str, ...]] = {
    "starting": ("starting {name} {version}", "{name} version {version} booting", "initializing service {name}, version {version}"),
    "listening": (
        "listening on {address}",
        "server started, address={address}",
        "HTTP server ready at {address}",
        "accepting connections on {address}",
    ),
    "subscribed": ("subscribed to {stream} as {group}", "consumer group {group} attached to {stream}", "polling stream {stream}"),
    "stopping": ("received SIGTERM, shutting down", "shutdown requested, draining connections", "termination signal received, stopping"),
    "stopped": ("shutdown complete", "server stopped", "bye"),
    "access": (
        "{method} {path} {status} {ms}ms",
        "{method} {path} -> {status} in {ms} ms",
        "request completed: {method} {path} status {status} took {ms}ms",
        "handled {method} {path} ({status}, {ms} ms)",
    ),
    "retry": (
        "retrying {method} {target} (attempt {attempt} of {attempts}): {error}",
        "attempt {attempt}/{attempts} to {target} failed: {error}; will retry",
        "request to {target} failed on attempt {attempt} of {attempts}, backing off: {error}",
    ),
    "call_failed": (
        "call to {target} failed: {error}",
        "upstream {target} error: {error}",
        "could not reach {target}: {error}",
        "{method} {target} failed with {error}",
    ),
    "degraded": (
        "continuing without {target}: {error}",
        "{target} unavailable, serving reduced response: {error}",
        "skipping optional call to {target}: {error}",
    ),
    "breaker_open": (
        "circuit breaker for {target} opened",
        "circuit for {target} is now OPEN",
        "too many failures, tripping breaker for {target}",
    ),
    "breaker_closed": ("circuit breaker for {target} closed", "circuit for {target} is now CLOSED", "{target} recovered, breaker reset"),
    "query_failed": (
        "query on {table} failed: {error}",
        "database error on {table}: {error}",
        "{operation} {table} failed: {error}",
        "db: {operation} on {table}: {error}",
    ),
    "query_slow": ("slow query on {table}: {ms} ms", "{operation} {table} took {ms}ms", "query exceeded {ms} ms on {table}"),
    "cache_failed": (
        "redis {operation} failed: {error}",
        "cache error on {operation}: {error}",
        "{operation} {key}: {error}",
        "redis command {operation} error: {error}",
    ),
    "cache_bypassed": (
        "cache unavailable, reading through: {error}",
        "redis {operation} failed, falling back to origin: {error}",
        "ignoring cache error: {error}",
    ),
    "publish_failed": (
        "could not publish to {stream}: {error}",
        "publish to {stream} failed: {error}",
        "failed to enqueue on {stream}: {error}",
    ),
    "consume_failed": ("reading {stream} failed: {error}", "consumer error on {stream}: {error}", "poll of {stream} failed: {error}"),
    "handled": (
        "processed message {message} from {stream} in {ms} ms",
        "message {message} done ({ms}ms)",
        "{stream}: handled {message}, {ms} ms",
    ),
    "message_failed": (
        "message {message} from {stream} failed: {error}",
        "could not process {message}: {error}",
        "giving up on message {message}: {error}",
    ),
    "rate_limited": (
        "rate limit of {limit}/s exceeded, rejecting {method} {path}",
        "too many requests: {method} {path} over the limit of {limit} per second",
        "throttling {method} {path}: more than {limit} rps",
    ),
    "too_large": (
        "request body of {size} bytes exceeds the limit of {limit}",
        "rejecting payload too large: {size} > {limit} bytes",
        "body too large ({size} bytes, limit {limit})",
    ),
    "not_ready": (
        "not ready yet, warming up for another {seconds} s",
        "still starting: caches are loading, {seconds} s to go",
        "readiness check failed: warm-up not finished ({seconds} s left)",
    ),
    "giving_up": (
        "fatal: cannot continue, exiting",
        "panic: bootstrap failed, terminating with status 1",
        "startup hook failed, giving up (exit 1)",
    ),
    "debug": ("{step}.{key} = {value}", "step={step} {key}={value!r}", "dump {step}: {key} -> {value}"),
    "unhandled": (
        "unhandled exception in {method} {path}",
        "internal error while serving {method} {path}",
        "exception handling request {method} {path}",
        "uncaught error on {method} {path}",
    ),
}
"""Event -> templates; a service uses one of each for its whole life."""


def draw_phrases(seed: int) -> dict[str, str]:
    """One template per event."""
    draw = random.Random(f"phrases:{seed}")
    return {event: draw.choice(templates) for event, templates in PHRASES.items()}
