"""What an operator's event stream shows of changes that a sandbox makes."""

from __future__ import annotations

import random
from typing import Any

from chaosgym.sandbox.base import PlatformChange
from chaosgym.services.config import ServiceConfig

__all__ = ["platform_event", "rollout_event"]


def rollout_event(before: ServiceConfig, after: ServiceConfig) -> tuple[str, str, dict[str, Any]]:
    """(name, body, attributes) of a rollout: of a new version, or of other settings, of which only a revision is told."""
    if after.version != before.version:
        change = {"service.version": after.version, "previous": before.version}
        return "deployment", f"rolled out version {after.version} (was {before.version})", change
    revision = random.randint(20, 400)
    return "config_change", f"applied configuration revision {revision}", {"revision": revision}


def platform_event(change: PlatformChange | None) -> tuple[str, str, dict[str, Any]] | None:
    """What an audit of the API shows of a change to a component's own objects: that there was one, not what it means."""
    if change is None or not (change.workload or change.selector or change.target_port):
        return None
    if "replicas" in change.workload:
        return "scale", f"scaled to {change.workload['replicas']} replicas", {"replicas": change.workload["replicas"]}
    revision = random.randint(20, 400)
    kind, what = ("deployment", "rolled out") if change.workload else ("config_change", "applied configuration")
    return kind, f"{what} revision {revision}", {"revision": revision}
