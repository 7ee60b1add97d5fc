"""Reading a file of kind ForeignApp, with what is needed to point back into it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chaosgym.document import parse_document
from chaosgym.errors import InputError
from chaosgym.foreign.app import ForeignApp
from chaosgym.source import Source, read_source

__all__ = ["LoadedApp", "load_foreign_app", "secret"]


@dataclass(frozen=True)
class LoadedApp:
    """A document and the file that it stands in."""

    app: ForeignApp
    source: Source
    path: Path


def load_foreign_app(path: str | Path) -> LoadedApp:
    """Read it; InputError with one line `file:line:column: path: message` per problem."""
    source = read_source(path)
    return LoadedApp(parse_document(source, ForeignApp), source, Path(path))


def secret(variable: str | None, role: str) -> str | None:
    """What an environment variable holds. Raises InputError when it is named and not set."""
    if variable is None:
        return None
    if variable not in os.environ:
        raise InputError(f"component '{role}' takes its password from ${variable}, which is not set; run: export {variable}=...")
    return os.environ[variable]
