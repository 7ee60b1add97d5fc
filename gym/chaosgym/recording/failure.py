"""An episode that the machinery spoiled, kept as such: with its reason, without telemetry, never scored."""

from __future__ import annotations

from pathlib import Path

from chaosgym.episode import write_episode
from chaosgym.plan import Plan
from chaosgym.recording.header import failed_header, make_truth

__all__ = ["write_failure"]


def write_failure(plan: Plan, identity: str, out: Path, sandbox: str, reason: str) -> Path:
    """Write it under `out`. Raises InfrastructureError when even that cannot be written (disk full)."""
    header = failed_header(plan.scenario, plan.app, identity, plan.seed, sandbox, reason)
    return write_episode(out, header, {}, make_truth(plan, None, ()))
