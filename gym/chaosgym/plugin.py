"""A Plugin: something that another distribution adds to chaosgym by an entry point.

    [project.entry-points."chaosgym.faults"]     # in the pyproject.toml of that distribution
    slow-disk = "my_faults:SlowDisk"

The scan takes tens of milliseconds and the plug-ins run code of their own, so both happen when something asks
for a name that chaosgym itself does not have, and once in a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from chaosgym.errors import InputError

__all__ = ["FAULTS_GROUP", "Plugin", "installed"]

FAULTS_GROUP = "chaosgym.faults"
"""Each entry point names a class on `chaosgym.faults.base.Fault`."""


@dataclass(frozen=True)
class Plugin:
    """What an entry point leads to, and where it comes from, for messages."""

    value: Any
    where: str
    """As in `entry point 'slow-disk' of my-faults 0.1 (my_faults:SlowDisk)`."""


@cache
def installed(group: str) -> tuple[Plugin, ...]:
    """Everything that is installed for `group`, in the order of names. InputError names the one that cannot be loaded."""
    found = sorted(entry_points(group=group), key=lambda point: (point.name, point.value))
    return tuple(Plugin(_load(point), _where(point)) for point in found)


def _where(point: EntryPoint) -> str:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"
    return f"entry point {point.name!r} of {origin} ({point.value})"


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # the code of somebody else, which may fail in any way
        name = point.dist.name if point.dist is not None else point.value
        raise InputError(
            f"{_where(point)} cannot be loaded: {type(error).__name__}: {error}; mend it, or remove it: pip uninstall {name}"
        ) from error
