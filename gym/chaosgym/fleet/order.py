"""An Order: what the pods of a fleet are to do, and with what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from chaosgym.errors import InputError

__all__ = ["Order", "Volume", "read_volume"]

_VOLUME = re.compile(r"(claim|host):([^:]+):(/[^:]+)")


@dataclass(frozen=True)
class Volume:
    """What every pod mounts."""

    kind: Literal["claim", "host"]
    """A PersistentVolumeClaim, or a folder of the node: for one node, or for tests."""
    source: str
    """Its name, or the folder's path."""
    path: str
    """Where the pods see it."""


def read_volume(text: str) -> Volume:
    """`claim:NAME:/path` or `host:/folder:/path`. Raises InputError."""
    match = _VOLUME.fullmatch(text)
    if match is None or (match[1] == "host") != match[2].startswith("/"):
        raise InputError(f"--volume {text}: expected claim:NAME:/path (a PersistentVolumeClaim) or host:/folder:/path (of the node)")
    return Volume("claim" if match[1] == "claim" else "host", match[2], match[3])


@dataclass(frozen=True)
class Order:
    """A recording, in shards."""

    image: str
    """Of the runner: `chaosgym image build --kind runner`."""
    out: str
    """Address of the store, as the pods see it."""
    scenarios: str
    episodes: int
    shards: int
    parallelism: int
    """Pods at a time."""
    workers: int = 1
    """Sandboxes in a pod."""
    seed: int = 0
    split: str | None = None
    volumes: tuple[Volume, ...] = ()
    secret: str | None = None
    """Name of a Secret whose keys are environment variables of the pods."""

    def __post_init__(self) -> None:
        if self.shards > self.episodes:
            raise InputError(f"--shards {self.shards}: more than there are episodes ({self.episodes}); the others would have nothing to do")
        place = urlsplit(self.out)
        if not place.scheme or place.scheme == "memory":
            raise InputError(f"--out {self.out}: pods need an address that all of them reach, as s3://bucket/episodes or file:///episodes")
        mounted = [volume.path for volume in self.volumes]
        if place.scheme == "file" and not any(PurePosixPath(place.path).is_relative_to(path) for path in mounted):
            raise InputError(
                f"--out {self.out}: is in no volume ({', '.join(mounted) or 'there is none'}), so it would vanish with the pods; "
                f"mount one there: --volume claim:NAME:{place.path}"
            )

    def arguments(self, index: str) -> list[str]:
        """The command line of a pod."""
        pairs = {
            "out": self.out, "scenarios": self.scenarios, "episodes": self.episodes, "seed": self.seed, "workers": self.workers,
            "sandbox": "local",
        }  # fmt: skip
        given = [part for name, value in pairs.items() for part in (f"--{name}", str(value).replace("$(", "$$("))]
        return ["record", *given, *(["--split", self.split] if self.split else []), "--shard", f"{index}/{self.shards}"]
