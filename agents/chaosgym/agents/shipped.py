"""Models that come with chaosgym, under the names `chaosgym/nano` and `chaosgym/nano-rca`.

Package data in a wheel, `models/` in a checkout; each folder's README.md is its model card.
"""

from __future__ import annotations

from pathlib import Path

from chaosgym.errors import InputError, did_you_mean

__all__ = ["DEFAULT", "SHIPPED", "shipped_model"]

OWNER = "chaosgym/"
SHIPPED = (f"{OWNER}nano", f"{OWNER}nano-rca")
"""A base that reads reports, and the best diagnostician trained from it."""
DEFAULT = SHIPPED[1]
"""What the agent `slm` is without a model."""


def shipped_model(name: str) -> str:
    """The folder of the shipped model that `name` is, or `name` itself. Raises InputError for one that is not shipped."""
    if not name.startswith(OWNER) or Path(name).is_dir():
        return name
    if name not in SHIPPED:
        raise InputError(f"no model {name!r} comes with chaosgym{did_you_mean(name, SHIPPED)}; shipped: {', '.join(SHIPPED)}")
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "models", here.parents[3] / "models"):
        if (found := folder / name.removeprefix(OWNER)).is_dir():
            return str(found)
    raise InputError(f"the shipped model {name!r} is missing; install chaosgym again")
