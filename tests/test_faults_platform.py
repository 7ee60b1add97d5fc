"""The platform family: what is done to the objects of a cluster, what a report makes of it, and each of them for real."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chaosgym.episode import read_episode
from chaosgym.errors import FaultError
from chaosgym.faults import make_fault
from chaosgym.faults.base import Fault
from chaosgym.faults.double import RecordingSandbox
from chaosgym.faults.platform import PLATFORM_FAULTS, PlatformFault
from chaosgym.incident.findings import EventFinding
from chaosgym.incident.platform import platform_words
from chaosgym.incident.vocabulary import PLATFORM_WORDS
from chaosgym.recording.pool import Pool, Recorded
from chaosgym.sandbox.base import PlatformChange, PlatformView
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.sandbox.events import platform_event
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.telemetry.signals import CallSignals, Change, ComponentSignals
from chaosgym.truth import read_truth

LABELS = [fault.label for fault in PLATFORM_FAULTS]
TODAY = LABELS if os.environ.get("CHAOSGYM_ALL_PLATFORM") else LABELS[datetime.now(UTC).toordinal() % 4 :: 4]
"""Each takes half a minute on a cluster: four a day, and all when asked for."""


@pytest.mark.parametrize("fault", PLATFORM_FAULTS, ids=LABELS)
async def test_nothing_of_a_change_is_taken_for_granted(fault: type[PlatformFault]) -> None:
    """The double's cluster is well whatever it is told, so only what is no change to a pod may pass for being in force."""
    sandbox, made = RecordingSandbox(), make_fault(fault.label, "orders")
    await made.inject(sandbox)
    (_, role, change), = sandbox.calls
    assert role == "orders"
    assert isinstance(change, PlatformChange)
    assert change.workload or change.selector or change.target_port or change.quota
    if fault.label == "platform.target_port":  # all is well but for the callers
        await made.verify(sandbox)
    else:
        with pytest.raises(FaultError, match="the platform does not show it"):
            await _verify_at_once(made, sandbox)
    await made.heal(sandbox)
    assert sandbox.residue == {}


async def _verify_at_once(fault: Fault, sandbox: RecordingSandbox) -> None:
    import chaosgym.faults.platform as module

    patience, module._IN_FORCE = module._IN_FORCE, 0.02  # pyright: ignore[reportPrivateUsage]
    try:
        await fault.verify(sandbox)
    finally:
        module._IN_FORCE = patience  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("fault", PLATFORM_FAULTS, ids=LABELS)
def test_what_changes_differs_by_seed_where_a_name_is_made_up_and_never_names_the_fault(fault: type[PlatformFault]) -> None:
    made = fault("orders")
    changes = [made.change(random.Random(seed)) for seed in range(30)]
    texts = {str([c.workload, dict(c.selector), c.target_port, dict(c.quota)]) for c in changes}
    kind = fault.label.split(".")[1]
    assert not [text for text in texts if kind in text.replace("-", "_") and "_" in kind]
    assert len(texts) > 1 or fault.label in ("platform.scaled_to_zero", "platform.security_context")


def test_an_audit_shows_that_something_was_changed_and_not_what() -> None:
    assert platform_event(None) is None
    assert platform_event(PlatformChange(quota={"pods": "1"}, delete_pod=True)) is None
    rolled = platform_event(PlatformChange(workload={"template": {"spec": {"nodeSelector": {"disk": "nvme"}}}}))
    assert rolled is not None
    assert rolled[0] == "deployment"
    assert "nvme" not in str(rolled)
    led = platform_event(PlatformChange(selector={"a": "b"}))
    assert led is not None
    assert led[0] == "config_change"
    assert platform_event(PlatformChange(workload={"replicas": 0})) == ("scale", "scaled to 0 replicas", {"replicas": 0})


_SAID = [
    ("Failed", 'Failed to pull image "registry.internal/core/app:3.1.4": no such host', "unpulled"),
    ("Unhealthy", "Readiness probe failed: dial tcp 10.0.0.9:9090: connect: connection refused", "unfit"),
    ("Killing", "Container main failed liveness probe, will be restarted", "unalive"),
    ("FailedCreate", 'Error creating: pods "a-b" is forbidden: exceeded quota: extra, requested: pods=1', "overquota"),
    ("FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.", "nocapacity"),
    ("FailedScheduling", "0/3 nodes are available: 3 node(s) didn't match node selector.", "unplaced"),
    ("Failed", 'Error: configmap "core-config-4" not found', "noconfig"),
    ("Failed", 'Error: secret "core-credentials-4" not found', "nosecret"),
    ("FailedMount", 'MountVolume.SetUp failed for volume "files" : configmap "core-files-4" not found', "nomount"),
    ("FailedCreate", 'Error creating: pods "a-" is forbidden: error looking up service account: serviceaccount "x" not found', "noaccount"),
    ("Failed", 'Error: failed to create containerd task: exec: "/usr/local/bin/start.sh": no such file or directory', "noprogram"),
    ("Failed", "Error: container's runAsUser breaks non-root policy", "noroot"),
    ("BackOff", "Back-off restarting failed container", "backoff"),
    ("Scheduled", "Successfully assigned x/y to node1", None),
]


@pytest.mark.parametrize(("name", "body", "word"), _SAID)
def test_what_a_cluster_reports_has_a_word(name: str, body: str, word: str | None) -> None:
    component = ComponentSignals("web", "service", CallSignals(), CallSignals())
    assert platform_words(component, [EventFinding("web", name, 1.0, body)]) == ([word] if word else [])
    assert platform_words(component, [EventFinding("web", name, -1.0, body)]) == []
    assert word is None or word in PLATFORM_WORDS


def test_counts_that_fall_to_nothing_have_words() -> None:
    gone = ComponentSignals("web", "service", CallSignals(), CallSignals(), endpoints=Change(1, 0), pods=Change(1, 0))
    assert platform_words(gone, []) == ["unready", "noendpoint"]
    never = ComponentSignals("web", "service", CallSignals(), CallSignals(), endpoints=Change(0, 0))
    assert platform_words(never, []) == []


def test_a_view_says_what_is_in_force() -> None:
    faults = {fault.label: fault("orders") for fault in PLATFORM_FAULTS}
    pulling = PlatformView(1, 0, 0, frozenset({"ImagePullBackOff", "ContainersNotReady"}))
    assert {label for label, fault in faults.items() if fault.holds(pulling)} == {"platform.image_pull", "platform.readiness_probe"}
    assert faults["platform.selector"].holds(PlatformView(1, 1, 0, frozenset()))
    assert not faults["platform.selector"].holds(PlatformView(1, 1, 1, frozenset()))
    assert faults["platform.scaled_to_zero"].holds(PlatformView(0, 0, 0, frozenset()))


# ── on a real cluster ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, cluster_context: str) -> Iterator[Callable[[str], Recorded]]:
    """Record an episode of a fault; the sandbox is the same for all."""
    app, out = load_app("shop"), tmp_path_factory.mktemp("episodes")
    with Pool(1, SandboxChoice("kubernetes", context=cluster_context, namespace="test-platform")) as pool:

        def one(label: str) -> Recorded:
            scenario = load_scenario(label.replace(".", "-").replace("_", "-"))
            return pool.record(scenario, app, 3, Path(out))

        yield one


@pytest.mark.kubernetes
@pytest.mark.timeout(200)
@pytest.mark.parametrize("label", TODAY)
def test_a_platform_fault_is_seen_and_the_component_comes_back(label: str, record: Callable[[str], Recorded]) -> None:
    recorded = record(label)
    assert recorded.status == "ok", recorded.reason
    truth, episode = read_truth(recorded.path), read_episode(recorded.path)
    assert [cause.fault for cause in truth.causes] == [label]
    assert truth.visible, truth.symptoms_seen
    assert episode.header.sandbox == "kubernetes"
    assert truth.healed_unix_nano is not None
    late = truth.healed_unix_nano + 10 * 10**9
    asked = [s for s in episode.tables["spans"].to_pylist() if s["service_name"] == "edge" and s["start_time_unix_nano"] > late]
    assert len(asked) > 20
    failed = sum(s["status_code"] == "error" for s in asked)
    assert failed / len(asked) < 0.1, f"{failed} of {len(asked)} requests fail long after healing"
