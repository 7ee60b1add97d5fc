"""Difficulty as it is measured: pass@k, the best single-feature rule, confusion, and the command that prints them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.cli.program import make_program
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, list_episodes, read_episode, write_episode
from chaosgym.errors import InputError
from chaosgym.evaluation import make_profile
from chaosgym.evaluation.ceiling import CEILING, best_shortcuts
from chaosgym.evaluation.confusion import confusion_counts
from chaosgym.evaluation.rule import best_rule, features
from chaosgym.evaluation.statistics import pass_at_k
from chaosgym.incident import Incident, compile_incident
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.truth import TrueCause, Truth

MS = 10**6
START = 1_790_000_000 * 10**9
NAMES = ("front-door", "billing-core", "ledger")


# ── pass@k ─────────────────────────────────────────────────────────────────────────────────────────

tries = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@given(tries)
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(drawn: tuple[int, int, int]) -> None:
    n, right, k = drawn
    choices = list(itertools.combinations(range(n), k))
    found = pass_at_k(n, right, k)
    assert found == pytest.approx(sum(any(i < right for i in choice) for choice in choices) / len(choices))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), st.floats(0, 1))
def test_pass_at_k_is_unbiased(drawn: tuple[int, int], p: float) -> None:
    n, k = drawn
    mean = math.fsum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * (pass_at_k(n, c, k) or 0.0) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


@given(tries)
def test_pass_at_k_grows_with_tries_and_with_right_ones(drawn: tuple[int, int, int]) -> None:
    n, right, k = drawn
    found = pass_at_k(n, right, k)
    assert found is not None
    assert 0 <= found <= 1
    assert pass_at_k(n, right, 1) == pytest.approx(right / n)
    assert k == n or (pass_at_k(n, right, k + 1) or 0.0) >= found
    assert right == n or (pass_at_k(n, right + 1, k) or 0.0) >= found
    assert pass_at_k(n, right, n + 1) is None


@pytest.mark.parametrize(("n", "right", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_pass_at_k_refuses_what_cannot_be(n: int, right: int, k: int) -> None:
    with pytest.raises(ValueError, match="tries right"):
        pass_at_k(n, right, k)


# ── episodes made by hand ──────────────────────────────────────────────────────────────────────────


def record(folder: Path, number: int, culprit: str, fault: str, *, fails: bool = True, split: str = "train", scenario: str = "") -> Path:
    """The first component calls the two others; from the start of the incident calls to the culprit fail or are late."""
    buffer = TelemetryBuffer()
    for i, peer in itertools.product(range(100), NAMES[1:]):
        at = START + i * 25 * MS
        hit = bool(culprit) and peer == culprit and i >= 40
        error, http = ("ConnectionRefusedError", 503) if hit and fails else (None, 200)
        took = (30 if fails else 90) * MS if hit else 4 * MS
        status, mine = "error" if error else "unset", f"{peer}{i}"
        client = (f"t{i}", mine, None, "GET", "client", status, error, f"{peer}.internal", http, error, "{}")
        server = (f"t{i}", f"s{mine}", mine, "GET", "server", status, None, None, http, None, "{}")
        buffer.spans += [(at, at + took, NAMES[0], *client), (at, at + took, peer, *server)]
    header = EpisodeHeader(
        id=f"e{number:03}", entry=NAMES[0],
        baseline=Window(START, START + 1000 * MS), incident=Window(START + 1000 * MS, START + 2500 * MS),
        components=tuple(ComponentInfo(name=n, kind="service", host=f"{n}.internal") for n in NAMES),
        edges=(EdgeInfo(source=NAMES[0], target=NAMES[1]), EdgeInfo(source=NAMES[0], target=NAMES[2])),
    )  # fmt: skip
    causes = (TrueCause(component=culprit, fault=fault),) if culprit else ()
    about = {"scenario": scenario or fault.replace(".", "-"), "app": "shop", "split": split, "chain": NAMES[:1]}
    truth = Truth.model_validate({**about, "verdict": "fault" if causes else "healthy", "causes": causes})
    return write_episode(folder, header, buffer.tables(), truth)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(4):
        record(folder, number, NAMES[1 + number % 2], "process.crash")
        record(folder, 10 + number, NAMES[1 + number % 2], "network.latency", fails=False)
        record(folder, 20 + number, "", "", scenario="calm")
    record(folder, 30, NAMES[1], "process.hang", split="seeds")
    return folder


def cases(folder: Path) -> list[tuple[Incident, Truth]]:
    from chaosgym.truth import read_truth

    return [(compile_incident(read_episode(path)), read_truth(path)) for path in list_episodes(folder)]


def test_the_best_rule_finds_two_faults_by_one_number(episodes: Path) -> None:
    train = [(incident, truth) for incident, truth in cases(episodes) if truth.split == "train"]
    rule = best_rule(train)
    assert rule is not None
    assert (rule.share, rule.episodes) == (1.0, 8)
    assert {rule.above, rule.below} == {"process.crash", "network.latency"}
    assert rule.threshold is not None
    assert rule.feature in rule.sentence
    assert best_rule([(incident, truth) for incident, truth in train if not truth.causes]) is None


def test_a_rule_without_a_clue_earns_no_more_than_a_guess(episodes: Path) -> None:
    """All runs look alike, and the culprit is now the one and now the other."""
    incident = next(incident for incident, truth in cases(episodes) if not truth.causes)
    faults = list(FAULT_TYPES)[:10]
    blind = [(incident, Truth(scenario="s", app="a", verdict="fault", causes=(TrueCause(component=NAMES[1 + i % 2], fault=fault),)))
             for fault in faults for i in range(2)]  # fmt: skip
    rule = best_rule(blind)
    assert rule is not None
    assert rule.share <= 0.5 / len(faults) + 1e-9
    assert rule.threshold is None


def test_one_name_is_no_answer_to_two_causes(episodes: Path) -> None:
    incident, truth = cases(episodes)[0]
    more = TrueCause(component=NAMES[0], fault="resource.cpu")
    rule = best_rule([(incident, truth.model_copy(update={"causes": (*truth.causes, more)}))])
    assert rule is not None
    assert rule.share == 0


def test_features_are_numbers_by_component(episodes: Path) -> None:
    table = features(cases(episodes)[0][0].findings)
    assert {"growth of seen errors", "word up", "first anomaly early", "calls to it: fail"} <= table.keys()
    assert table["growth of seen errors"][NAMES[1]] == pytest.approx(1.0)
    assert set().union(*table.values()) <= set(NAMES)


def test_a_profile_counts_by_scenario_and_bounds_by_split(episodes: Path) -> None:
    found = make_profile(list_episodes(episodes), k=3)
    by_name = {s.name: s for s in found.scenarios}
    assert {name: s.episodes for name, s in by_name.items()} == {"calm": 4, "network-latency": 4, "process-crash": 4, "process-hang": 1}
    assert by_name["calm"].right["null"] == 4
    assert by_name["process-crash"].right["oracle"] == 4
    assert by_name["process-crash"].passes("oracle", 3) == 1.0
    assert by_name["process-hang"].passes("oracle", 3) is None
    assert by_name["calm"].measured == "easy"
    assert set(found.rules) == {best.split for best in found.shortcuts} == {"train", "seeds"}
    assert set(found.rows) == {"oracle", "rules", "majority", "null", *SHORTCUTS}
    text, document = found.to_markdown(), json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert "best single-feature rule on train" in text
    assert document["scenarios"][0]["agents"]["oracle"] == {"right": 4, "pass@1": 1.0, "pass@3": 1.0}
    assert document["rules"]["train"]["ceiling"] == CEILING
    assert sum(document["confusion"]["null"]["process.crash"].values()) == 4


def test_confusion_names_what_a_fault_is_taken_for(episodes: Path) -> None:
    found = make_profile(list_episodes(episodes))
    assert confusion_counts(found.rows["null"])["process.crash"] == {"healthy": 4}
    assert confusion_counts(found.rows["most-errors"])["process.hang"] == {"process.crash": 1}


def test_a_profile_is_of_the_scenarios_asked_for(episodes: Path) -> None:
    assert [s.name for s in make_profile(list_episodes(episodes), pattern="process-*").scenarios] == ["process-crash", "process-hang"]
    with pytest.raises(InputError, match="did you mean 'process-crash'"):
        make_profile(list_episodes(episodes), pattern="process-crsh")


def test_the_ceiling_is_judged_where_there_is_enough(tmp_path: Path, episodes: Path) -> None:
    few = best_shortcuts(make_profile(list_episodes(episodes)).rows)
    assert [best.below for best in few] == [None, None]
    faults = ["process.crash"] * 16 + [name for name in FAULT_TYPES if name != "process.crash"][:8]
    for number, fault in enumerate(faults):
        record(tmp_path, number, NAMES[1 + number % 2], fault)
    (best,) = best_shortcuts(make_profile(list_episodes(tmp_path)).rows)
    assert best.both.value == pytest.approx(16 / 24)
    assert best.below is False
    assert "ceiling 25%: BROKEN" in best.sentence


def invoke(*arguments: str) -> tuple[int, str]:
    shown = CliRunner().invoke(make_program(), ["scenario", "profile", *arguments], prog_name="chaosgym")
    return shown.exit_code, shown.stdout


def test_the_command_prints_tables_or_json(episodes: Path, tmp_path: Path) -> None:
    page = tmp_path / "profile.md"
    code, text = invoke("process-*", "--episodes", str(episodes), "--agent", "random", "--markdown", str(page))
    assert code == 0
    assert "| process-crash" in text
    assert "What `random` takes for what" in text
    assert page.read_text() == text
    code, text = invoke("--episodes", str(episodes), "--json", "--k", "2")
    assert code == 0
    names: Sequence[str] = [row["name"] for row in json.loads(text)["scenarios"]]
    assert names == ["calm", "network-latency", "process-crash", "process-hang"]
