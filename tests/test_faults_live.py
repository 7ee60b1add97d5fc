"""Each fault on the real application: steady before, seen in the telemetry while it lasts, gone after healing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pytest

from chaosgym.episode import Episode, EpisodeHeader, Window, read_episode
from chaosgym.faults import FAULTS, make_fault
from chaosgym.recording.pool import Pool, Recorded
from chaosgym.recording.visibility import symptoms_seen
from chaosgym.scenario import Scenario, Timeline
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.scenarios.check import SANDBOXES
from chaosgym.truth import Truth, read_truth

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(600)]

RECOVERY = 3.0
SEEDS = (11, 12, 13, 14)
"""Tried in turn until one is clean: a crowded machine is slow and drops requests without any fault."""
TIMES = {"logs": "time_unix_nano", "spans": "start_time_unix_nano", "events": "time_unix_nano"}


SIDE_BY_SIDE = 3
Record = Callable[[str, int], Recorded]
"""Records the scenario of a label with a seed, or gives what was recorded already."""


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """The first seed of all that will be asked for is recorded at once, side by side: one after the other takes ten minutes."""
    out, app = tmp_path_factory.mktemp("episodes"), load_app("shop")
    ours = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    labels = [str(item.callspec.params["label"]) for item in ours]
    with Pool(SIDE_BY_SIDE) as pool, ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        begun: dict[tuple[str, int], Future[Recorded]] = {}

        def recorded(label: str, seed: int) -> Recorded:
            if (label, seed) not in begun:
                begun[label, seed] = executor.submit(pool.record, _undisturbed(label), app, seed, out)
            return begun[label, seed].result()

        begun |= {(label, SEEDS[0]): executor.submit(pool.record, _undisturbed(label), app, SEEDS[0], out) for label in labels}
        yield recorded
        executor.shutdown(cancel_futures=True)


def _undisturbed(label: str) -> Scenario:
    """The shipped scenario of a fault, with a look at what comes after it and nothing else going on."""
    scenario = load_scenario(label.replace(".", "-").replace("_", "-"))
    spec = scenario.spec.model_copy(update={"timeline": Timeline(recovery=RECOVERY), "decoys": ()})
    return scenario.model_copy(update={"spec": spec})


def _after_healing(episode: Episode, truth: Truth) -> tuple[EpisodeHeader, dict[str, pa.Table]]:
    """The episode as if its incident had been the second half of the recovery, and nothing said or logged in between.

    Metrics stay: a counter that jumps over a gap would charge the window with what was spent before it.
    """
    assert truth.healed_unix_nano is not None
    header = episode.header
    settled = Window(truth.healed_unix_nano + int(RECOVERY / 2 * 1e9), truth.healed_unix_nano + int(RECOVERY * 1e9))

    def outside(table: pa.Table, column: str) -> pa.Table:
        keep = [time < header.baseline.end or time >= settled.start for time in table[column].to_pylist()]
        return table.filter(pa.array(keep, pa.bool_()))

    tables = {name: outside(table, TIMES[name]) if name in TIMES else table for name, table in episode.tables.items()}
    return header.model_copy(update={"incident": settled}), tables


def _flaw(record: Record, label: str, seed: int) -> str:
    """What one episode holds against the fault; empty when it was seen and went."""
    recorded = record(label, seed)
    if recorded.status != "ok":
        return f"seed {seed}: {recorded.reason}"
    episode, truth = read_episode(recorded.path), read_truth(recorded.path)
    cause = truth.causes[0]
    assert cause.fault == label
    if not truth.symptoms_seen:
        return f"seed {seed}: no symptom on {cause.component} with {cause.parameters}"
    faults = {cause.component: make_fault(label, cause.component, cause.parameters)}
    header, tables = _after_healing(episode, truth)
    left = symptoms_seen(faults, tables, header)
    return f"seed {seed}: after healing there is still {', '.join(left)}" if left else ""


@pytest.mark.parametrize("label", [label for label, fault in FAULTS.items() if fault.needs <= SANDBOXES["local"]])
def test_a_fault_is_seen_while_it_lasts_and_gone_after_healing(label: str, record: Record) -> None:
    flaws: list[str] = []
    for seed in SEEDS:
        flaw = _flaw(record, label, seed)
        if not flaw:
            return
        flaws.append(flaw)
    pytest.fail("; ".join(flaws))
