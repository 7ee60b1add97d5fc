"""The compiler: episode in, incident out. Deterministic for (episode, seed, budget)."""

from __future__ import annotations

from chaosgym.episode import Episode
from chaosgym.errors import InputError
from chaosgym.incident.analysis import analyse
from chaosgym.incident.compact import draw_handles, render_compact
from chaosgym.incident.findings import Findings, Incident
from chaosgym.incident.readable import alert_sentence, render_readable

__all__ = ["compile_incident", "render_incident"]


def compile_incident(episode: Episode, seed: int = 0, budget: int = 700) -> Incident:
    """Read the episode's telemetry and write both renderings.

    `seed` draws handles and the order of rows: different seeds say the same in other words. `budget` bounds the
    compact text in tokens; the readable one gets twice that. Raises InputError for an episode without telemetry.
    """
    header = episode.header
    if header.status != "ok":
        raise InputError(f"{episode.path}: no report of an unscorable episode ({header.reason}); record it again or leave it out")
    return render_incident(analyse(episode), header.id, seed, budget)


def render_incident(findings: Findings, episode_id: str, seed: int = 0, budget: int = 700) -> Incident:
    """Write findings that were made before; about a millisecond, so that many seeds of one episode are cheap."""
    key = f"{episode_id} {seed}"
    handles = draw_handles(findings, key)
    return Incident(
        compact=render_compact(findings, handles, key, budget),
        readable=render_readable(findings, handles, 2 * budget),
        handles=handles,
        components=tuple(findings.signals.components),
        alert=alert_sentence(findings.alert),
        findings=findings,
    )
