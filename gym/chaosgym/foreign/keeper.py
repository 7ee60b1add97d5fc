"""Somebody who stays when chaosgym is killed, and heals the application: `python -m chaosgym.foreign.keeper FILE JOURNAL`.

It waits for the end of its standard input, which comes when the process that started it is gone, however that ended. After an
orderly end the journal is empty and there is nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["keeper", "main"]


@contextmanager
def keeper(path: Path, journal: Path) -> Generator[None]:
    """One for the length of the block; in a session of its own, so that no signal to ours reaches it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chaosgym.foreign.keeper", str(path.absolute()), str(journal)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if journal.stat().st_size else 10)


def main(arguments: list[str]) -> int:
    """Wait, then undo what is left to undo."""
    sys.stdin.read()
    if Path(arguments[1]).stat().st_size == 0:
        return 0
    from chaosgym.foreign.load import load_foreign_app
    from chaosgym.foreign.record import heal

    asyncio.run(heal(load_foreign_app(arguments[0]), wait=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
