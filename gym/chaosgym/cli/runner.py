"""The command line as process 1 of the runner image: `python -m chaosgym.cli.runner record …`.

Process 1 ignores SIGTERM unless it says otherwise, and initdb needs a shell, which the image has not; what initdb makes is
in it, and is put where the local sandbox looks.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path

from chaosgym.cli.program import main

__all__ = ["offer_template"]

_TEMPLATE = Path("/opt/postgres-template")


def offer_template(template: Path = _TEMPLATE) -> None:
    """Link it into the cache under the name of this image's PostgreSQL, if there is one."""
    from chaosgym.recording.pool import cache_folder
    from chaosgym.sandbox.binaries import find_postgres

    if not template.is_dir():
        return
    program = find_postgres()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (cache_folder() / f"postgres-{program.version_text}-{program.source}").symlink_to(template)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    offer_template()
    main()
