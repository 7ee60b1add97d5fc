"""Remove what a run has left in a container engine: `python -m chaosgym.sandbox.clean CHOICE RUN`, by the keeper of a dead worker."""

from __future__ import annotations

import sys

from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.sandbox.leftovers import remove_run

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Remove everything that carries the label of the run."""
    choice, run = SandboxChoice.from_json(arguments[0]), arguments[1]
    remove_run(choice.name, run, context=choice.context)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
