"""`python -m chaosgym.cli` is the same as `chaosgym`."""

from __future__ import annotations

from chaosgym.cli.program import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
