"""The same plans on several sandboxes: the arithmetic of the comparison, and the comparison itself on a real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.errors import InputError
from chaosgym.evaluation.equivalence import AGENTS, Equivalence, Run, Series, plan_exercise
from chaosgym.evaluation.equivalence_page import BEGIN, END, equivalence_json, equivalence_markdown, write_between
from chaosgym.evaluation.likeness import COLUMNS, Cells, agreements, distance, one_sided, overlap, report_cells
from chaosgym.faults import FAULTS
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.truth import TrueCause, Truth

_WORDS = st.sampled_from(["err1", "err4", "lat2", "down", "up", "back", "timeout", "refused", "deploy", "exit", "cpu3", "locks1"])
_ROWS = st.dictionaries(st.sampled_from(["cart", "orders", "api"]), st.lists(_WORDS, max_size=5).map(tuple), max_size=3)
_CELLS = _ROWS.map(report_cells)
_SYMPTOMS = st.frozensets(st.sampled_from(["edge/errors/up", "component/down/up", "callers/latency/up"]))


# ---- cells, distances


def test_a_cell_is_a_column_of_a_components_row() -> None:
    rows = {"cart": ("down", "err4", "refused", "lat2", "exit", "killed"), "api": ("up",)}
    assert report_cells(rows) == {
        ("cart", "state"): {"down"},
        ("cart", "err"): {"err4"},
        ("cart", "trouble"): {"refused"},
        ("cart", "lat"): {"lat2"},
        ("cart", "events"): {"exit", "killed"},
    }


@given(_ROWS)
def test_every_cell_is_in_a_known_column_and_no_word_but_the_usual_is_lost(rows: Mapping[str, tuple[str, ...]]) -> None:
    cells = report_cells(rows)
    assert {column for _, column in cells} <= set(COLUMNS)
    assert {(name, word) for (name, _), words in cells.items() for word in words} == {
        (name, word) for name, words in rows.items() for word in words if word != "up"
    }


@given(_CELLS, _CELLS)
def test_distance_is_symmetric_between_0_and_1_and_0_only_for_equals(a: Cells, b: Cells) -> None:
    assert 0 <= distance(a, b) <= 1
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)


@given(_CELLS, _CELLS, _CELLS)
def test_no_way_round_is_shorter(a: Cells, b: Cells, c: Cells) -> None:
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12


def test_reports_that_share_no_cell_are_1_apart() -> None:
    assert distance(report_cells({"cart": ("err4",)}), report_cells({"api": ("err4",)})) == 1.0


@given(_SYMPTOMS, _SYMPTOMS)
def test_overlap_is_1_for_equals_and_0_for_disjoint_sets(a: frozenset[str], b: frozenset[str]) -> None:
    assert 0 <= overlap(a, b) <= 1
    assert overlap(a, a) == 1
    assert (overlap(a, b) == 0) == (not a & b and bool(a | b))


@given(_CELLS, _CELLS)
def test_columns_agree_as_often_as_the_cells_say(a: Cells, b: Cells) -> None:
    found = agreements([(a, b, 3)])
    said = len(a.keys() | b.keys())
    assert sum(column.notable for column in found.values()) == said
    assert sum(column.notable - column.notable_alike for column in found.values()) == pytest.approx(distance(a, b) * said)
    assert all(column.rows == 3 and column.notable_alike <= column.alike <= 3 for column in found.values())
    assert all(column.share == 1 for column in agreements([(a, a, 3)]).values())


@given(st.lists(_SYMPTOMS, min_size=2, max_size=4), st.lists(_SYMPTOMS, min_size=2, max_size=4))
def test_what_only_one_side_shows_is_always_there_and_never_here(a: list[frozenset[str]], b: list[frozenset[str]]) -> None:
    first, second = one_sided(a, b)
    assert all(word in each for word in first for each in a)
    assert not any(word in each for word in first for each in b)
    assert (second, first) == one_sided(b, a)
    assert one_sided(a, a) == ((), ())


def test_one_run_says_too_little_to_be_one_sided() -> None:
    assert one_sided([{"edge/errors/up"}], [set(), set()]) == ((), ())
    assert one_sided([{"edge/errors/up"}] * 2, [set(), set()]) == (("edge/errors/up",), ())


# ---- an equivalence


def _run(seed: int, symptoms: tuple[str, ...], words: tuple[str, ...], *, scorable: bool = True) -> Run:
    truth = Truth(
        scenario="process-crash", app="shop", verdict="fault", causes=(TrueCause(component="cart", fault="process.crash"),),
        visible=bool(symptoms), symptoms_seen=symptoms,
    )  # fmt: skip
    cells = report_cells({"cart": words}) if scorable else {}
    return Run(("process-crash", seed), "process.crash", truth, scorable, 2, cells)


def _series(name: str, *runs: Run) -> Series:
    return Series(name, {run.key: run for run in runs}, {agent: {} for agent in AGENTS})


_DOWN = ("component/down/up",)
_DAY = date(2026, 11, 22)


def _found(*there: Run) -> Equivalence:
    here = [_run(seed, _DOWN, ("down", "err4")) for seed in (1, 2)]
    again = [_run(seed, _DOWN, ("down", "err3")) for seed in (1, 2)]
    return Equivalence((_series("local", *here), _series("docker", *there)), _series("local", *again), {}, 2)


def test_the_same_fault_elsewhere_is_no_difference() -> None:
    found = _found(*(_run(seed, _DOWN, ("down", "err3")) for seed in (1, 2)))
    (pair,) = found.fault_pairs(found.series[1])
    assert (pair.scorable, pair.runs, pair.visible, pair.only) == ((4, 2), (4, 2), (1.0, 1.0), ((), ()))
    assert (pair.alike, pair.alike_chance, pair.distance, pair.distance_chance) == (1.0, 1.0, 0.5, 0.5)
    assert not pair.differs
    text = equivalence_markdown(found, _DAY)
    assert "difference +0.000" in text
    assert "seen at work**: local 1 of 1; docker 1 of 1." in text


def test_a_fault_that_never_shows_elsewhere_is_a_difference_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _found(*(_run(seed, (), ()) for seed in (1, 2)))
    (pair,) = found.fault_pairs(found.series[1])
    assert pair.differs
    assert pair.only == (_DOWN, ())
    text = equivalence_markdown(found, _DAY)
    assert "only local: component/down/up; not declared" in text
    assert "docker 0 of 1 (not process.crash)." in text
    monkeypatch.setattr(FAULTS["process.crash"], "differs", {"docker": "the engine starts it anew at once", "kubernetes": "another"})
    text = equivalence_markdown(found, _DAY)
    assert "the engine starts it anew at once" in text
    assert "another" not in text
    assert "not declared" not in text


def test_what_the_machinery_spoiled_is_counted_and_compared_with_nothing() -> None:
    found = _found(_run(1, _DOWN, ("down",)), _run(2, (), (), scorable=False))
    (pair,) = found.fault_pairs(found.series[1])
    assert (pair.scorable, pair.runs, pair.only) == ((4, 1), (4, 2), ((), ()))
    assert len(found.shared(found.series[1])) == 1
    json.dumps(equivalence_json(found), allow_nan=False)


def test_a_sandbox_on_which_nothing_went_through_is_told() -> None:
    found = _found(*(_run(seed, (), (), scorable=False) for seed in (1, 2)))
    assert "no plan went through on both" in equivalence_markdown(found, _DAY)
    assert equivalence_json(found)["pairs"][0]["reports"] is None


# ---- planning, writing


def test_every_sandbox_gets_the_same_plans_and_the_first_gets_them_twice() -> None:
    scenarios = [load_scenario("process-crash"), load_scenario("network-loss")]
    exercise = plan_exercise(scenarios, {"shop": load_app("shop")}, [SandboxChoice("local"), SandboxChoice("docker")], 2)
    local, docker = ({(task.scenario.metadata.name, task.seed): task.id for task in exercise.tasks[name]} for name in ("local", "docker"))
    assert docker.items() <= local.items()
    assert exercise.elsewhere == {"network-loss": ("local",)}
    assert len(exercise.again) == len(local) == 4
    assert not {task.id for task in exercise.again} & set(local.values())
    assert exercise.episodes == 10


@pytest.mark.parametrize("names", [("local",), ("local", "local")])
def test_one_sandbox_is_nothing_to_compare(names: tuple[str, ...]) -> None:
    choices = [SandboxChoice("local") for _ in names]
    with pytest.raises(InputError, match="two or more"):
        plan_exercise([load_scenario("process-crash")], {"shop": load_app("shop")}, choices, 1)


def test_scenarios_that_one_sandbox_cannot_do_are_refused() -> None:
    choices = [SandboxChoice("local"), SandboxChoice("docker")]
    with pytest.raises(InputError, match="runs on local and on docker"):
        plan_exercise([load_scenario("network-loss")], {"shop": load_app("shop")}, choices, 1)


def test_the_tables_go_between_the_markers_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\nbefore\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    write_between(page, "new\n")
    write_between(page, "newer\n")
    assert page.read_text() == f"# Mine\n\nbefore\n\n{BEGIN}\n\nnewer\n\n{END}\n\nafter\n"


def test_a_page_of_its_own_can_be_written_again_and_one_without_markers_is_kept(tmp_path: Path) -> None:
    own, other = tmp_path / "own.md", tmp_path / "other.md"
    write_between(own, "first")
    write_between(own, "second")
    assert "second" in own.read_text()
    assert "first" not in own.read_text()
    other.write_text("# Somebody's\n")
    with pytest.raises(InputError, match="no place for the tables"):
        write_between(other, "mine")
    assert other.read_text() == "# Somebody's\n"


# ---- for real


@pytest.mark.docker
@pytest.mark.sandbox
@pytest.mark.timeout(240)
def test_a_crash_is_the_same_crash_in_containers(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "chaosgym.cli", "sandbox", "compare", "process-crash", "--sandboxes", "local,docker", "--seeds", "1",
        "--workers", "1", "--out", str(tmp_path / "out"), "--report", str(tmp_path / "page.md"), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (pair,) = json.loads(done.stdout)["pairs"]
    (fault,) = pair["faults"]
    assert (pair["name"], fault["name"], fault["runs"]) == ("local/docker", "process.crash", [2, 1])
    assert fault["visible"] == [1.0, 1.0], done.stderr
    assert pair["agents"]["oracle"]["reward"] == [1.0, 1.0, 1.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["docker", "local"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("episode.json")}
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(again.stdout) == json.loads(done.stdout)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("episode.json")} == before
    assert "docker beside local" in (tmp_path / "page.md").read_text()
