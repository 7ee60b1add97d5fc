"""Every error that chaosgym raises on purpose.

    ChaosgymError                 exit code
    ├── InputError                2   what the user wrote or named is wrong
    ├── PrerequisiteError         3   a program, a package or a permission is missing
    └── InfrastructureError       3   the sandbox, not the agent, failed: the episode is unscorable
        ├── SandboxError              it did not start, died or did not come clean
        └── FaultError                a fault was refused, or its read-back shows that it is not in force

A message says what is wrong, with the offending value, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ChaosgymError",
    "FaultError",
    "InfrastructureError",
    "InputError",
    "PrerequisiteError",
    "SandboxError",
    "did_you_mean",
]


class ChaosgymError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(ChaosgymError):
    """A file, an option or a name given by the user cannot be used."""

    exit_code = 2


class PrerequisiteError(ChaosgymError):
    """Something this machine lacks; the message names the fix."""

    exit_code = 3


class InfrastructureError(ChaosgymError):
    """The machinery failed, so nothing may be scored."""

    exit_code = 3


class SandboxError(InfrastructureError):
    """A sandbox did not start, died, or could not be reset to a clean state."""


class FaultError(InfrastructureError):
    """A fault was refused by the sandbox or did not take effect."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" - did you mean 'x'?"``, or an empty string when nothing is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f" - did you mean '{near[0]}'?" if near else ""
