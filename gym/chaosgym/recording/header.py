"""The public header and the private truth of an episode, from its plan and what happened."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version

from chaosgym.app import App
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader
from chaosgym.graph import edges
from chaosgym.plan import Plan
from chaosgym.recording.timeline import Marks
from chaosgym.recording.topology import chain_to_entry
from chaosgym.scenario import Scenario
from chaosgym.truth import DecoyTruth, TrueCause, Truth

__all__ = ["failed_header", "make_header", "make_truth", "scenario_digest"]


def scenario_digest(scenario: Scenario, app: App) -> str:
    """SHA-256 over the canonical JSON of scenario and app: the same digest is the same exam."""
    text = scenario.model_dump_json(by_alias=True) + app.model_dump_json(by_alias=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {"chaosgym": version("chaosgym"), "python": platform.python_version()}


def make_header(plan: Plan, identity: str, sandbox: str, marks: Marks, programs: Mapping[str, str]) -> EpisodeHeader:
    """The header of an episode that went through."""
    public = plan.components
    components = tuple(
        ComponentInfo(name=c.name, kind=plan.app.spec.components[role].kind, host=c.host, version=c.version) for role, c in public.items()
    )
    links = tuple(EdgeInfo(source=public[s].name, target=public[t].name, protocol=p) for s, t, p in edges(plan.app.spec))
    return EpisodeHeader(
        id=identity, scenario_sha256=scenario_digest(plan.scenario, plan.app), seed=plan.seed, sandbox=sandbox,
        versions={**_versions(), **programs}, baseline=marks.baseline, incident=marks.incident,
        entry=public[plan.app.spec.entry].name, components=components, edges=links,
    )


def failed_header(scenario: Scenario, app: App, identity: str, seed: int, sandbox: str, reason: str) -> EpisodeHeader:
    """The header of an episode that the machinery spoiled."""
    return EpisodeHeader(
        id=identity, status="unscorable", reason=reason, scenario_sha256=scenario_digest(scenario, app), seed=seed,
        sandbox=sandbox, versions=dict(_versions()),
    )


def make_truth(plan: Plan, marks: Marks | None, seen: Sequence[tuple[str, ...]]) -> Truth:
    """What was done; `seen` are the symptoms found of each cause (`chaosgym.recording.visibility`), `marks` None when it failed."""
    public = plan.components
    true = [fault for fault in plan.faults if fault.cause]
    causes = tuple(TrueCause(component=public[f.target].name, fault=f.fault, parameters=f.parameters) for f in true)
    chain = tuple(public[role].name for role in chain_to_entry(plan.app, true[0].target)) if true else ()
    meta = plan.scenario.metadata
    return Truth(
        scenario=meta.name, app=plan.app.metadata.name, split=meta.split, difficulty=meta.difficulty,
        verdict="fault" if causes else "healthy", causes=causes, chain=chain,
        decoys=tuple(DecoyTruth.model_validate({"kind": d.kind, "component": public[d.target].name, "parameters": d.parameters})
                     for d in plan.decoys),
        injected_unix_nano=marks.injected if marks else None, healed_unix_nano=marks.healed if marks else None,
        visible=None if marks is None else all(seen), symptoms_seen=tuple(dict.fromkeys(symptom for each in seen for symptom in each)),
    )
