"""What an operator's event stream shows of changes that a sandbox makes."""

from __future__ import annotations

import random
from typing import Any

from chaosgym.services.config import ServiceConfig

__all__ = ["rollout_event"]


def rollout_event(before: ServiceConfig, after: ServiceConfig) -> tuple[str, str, dict[str, Any]]:
    """(name, body, attributes) of a rollout: of a new version, or of other settings, of which only a revision is told."""
    if after.version != before.version:
        change = {"service.version": after.version, "previous": before.version}
        return "deployment", f"rolled out version {after.version} (was {before.version})", change
    revision = random.randint(20, 400)
    return "config_change", f"applied configuration revision {revision}", {"revision": revision}
