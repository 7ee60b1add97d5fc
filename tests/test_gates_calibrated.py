"""The gate *calibrated* on telemetry made by hand, and what else of the gates needs no sandbox: sweeps, shares, ledger, sample, report."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chaosgym.cli.program import make_program
from chaosgym.drawing import draw_plan
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, read_episode, write_episode
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.gates import Proof, Verdict, as_row
from chaosgym.gates.calibrated import judge_calibrated
from chaosgym.gates.ledger import LEDGER_FILE, note
from chaosgym.gates.report import GATES, report_markdown, write_report
from chaosgym.gates.sample import concerned, main, rotating
from chaosgym.gates.samples import shift_probability, symptom_samples
from chaosgym.gates.share import falls_short
from chaosgym.gates.sweep import doses, plan_sweeps
from chaosgym.gates.trial import Observed, Swept, exam
from chaosgym.incident import compile_incident
from chaosgym.parameter import LogUniform, Uniform
from chaosgym.scenario import Scenario
from chaosgym.scenarios import load_app, load_scenario, scenario_path, shipped_scenarios
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.truth import TrueCause, Truth

MS = 10**6
START = 1_790_000_000 * 10**9
BASELINE, INCIDENT = Window(START, START + 1200 * MS), Window(START + 1200 * MS, START + 3000 * MS)
NAMES = ("front-door", "billing-core")
CAUSE = TrueCause(component="billing-core", fault="network.latency", parameters={"delay": 0.1})
LATENCY = Scenario.model_validate({
    "apiVersion": "chaosgym.dev/v1", "kind": "Scenario", "metadata": {"name": "slow-links"},
    "spec": {
        "app": "shop",
        "parameters": {
            "target": {"choice": ["orders", "payments"]},
            "delay": {"loguniform": ["40ms", "160ms"]},
            "jitter": {"uniform": ["2ms", "10ms"]},
        },
        "faults": [{"fault": "network.latency", "target": "${target}", "parameters": {"delay": "${delay}", "jitter": "${jitter}"}}],
        "decoys": [{"kind": "deploy", "probability": 1.0}],
    },
})  # fmt: skip
SWEEP = plan_sweeps(LATENCY, load_app("shop"), 7)[0]
Late = Callable[[float], float]
"""Milliseconds since the start of the incident -> milliseconds that a call loses then."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Late, str], Observed]:
    """Records calls of the first component to the second, 40 a second, each a little different."""

    def record(late: Late, name: str) -> Observed:
        buffer, draw = TelemetryBuffer(), random.Random(name)
        for i in range(118):
            at = START + i * 25 * MS
            took = int((8 + 2 * draw.random() + (late((at - INCIDENT.start) / MS) if at >= INCIDENT.start else 0.0)) * MS)
            row = (f"t{i}", f"c{i}", None, "GET", "client", "unset", None, "billing-core.internal", 200, None, "{}")
            buffer.spans.append((at, at + took, NAMES[0], *row))
        header = EpisodeHeader(
            id=name, entry=NAMES[0], baseline=BASELINE, incident=INCIDENT, edges=(EdgeInfo(source=NAMES[0], target=NAMES[1]),),
            components=tuple(ComponentInfo(name=n, kind="service", host=f"{n}.internal") for n in NAMES),
        )  # fmt: skip
        truth = Truth(scenario="slow-links", app="shop", verdict="fault", causes=(CAUSE,), chain=NAMES)
        episode = read_episode(write_episode(tmp_path, header, buffer.tables(), truth))
        return Observed(episode, truth, compile_incident(episode))

    return record


def judge(run: Callable[[Late, str], Observed], *late: float) -> Verdict:
    """With so many milliseconds lost at low, middle and high dose."""
    runs = tuple(run(lambda at, ms=ms: ms, f"dose{i}") for i, ms in enumerate(late))
    return judge_calibrated("slow-links", [Swept(SWEEP, runs)], run(lambda at: 0.0, "twin"))


@pytest.mark.parametrize(("late", "word"), [((40, 80, 160), "rises"), ((160, 80, 40), "falls"), ((80, 80, 80), "seen at 0.04, 0.08, 0.16")])
def test_an_effect_that_follows_the_dose_is_calibrated(run: Callable[[Late, str], Observed], late: tuple[float, ...], word: str) -> None:
    verdict = judge(run, *late)
    assert verdict.passed is True, verdict
    assert "callers/latency/up" in verdict.evidence
    assert word in verdict.evidence or "->" in verdict.evidence
    assert verdict.figures == {"calibrated": 1.0}


@pytest.mark.parametrize(
    ("late", "where", "advice"),
    [
        ((0, 80, 160), "not seen at 0.04 (invisible from 0.04 to below 0.08)", "cut the low end: begin `delay` at 0.08"),
        ((0, 0, 160), "not seen at 0.04, 0.08 (invisible from 0.04 to below 0.16)", "cut the low end: begin `delay` at 0.16"),
        ((160, 80, 0), "not seen at 0.16 (invisible from above 0.08 to 0.16)", "cut the high end: let `delay` end at 0.08"),
        ((0, 80, 0), "invisible from 0.04 and up to 0.16", "narrow the range around 0.08"),
        ((80, 0, 80), "invisible around 0.08", "the ends are seen and the middle is not"),
        ((0, 0, 0), "invisible from 0.04 to 0.16, all of the range", "move the range"),
    ],
)
def test_a_dose_without_effect_is_named_with_the_end_to_cut(
    run: Callable[[Late, str], Observed], late: tuple[float, ...], where: str, advice: str
) -> None:
    verdict = judge(run, *late)
    assert verdict.passed is False
    assert where in verdict.evidence
    assert verdict.advice.startswith(advice)


@pytest.mark.parametrize(
    ("late", "half", "end"),
    [((40, 160, 80), "0.08 to 0.16", "high"), ((80, 40, 160), "0.04 to 0.08", "low"),
     ((80, 160, 40), "0.04 to 0.08", "low"), ((160, 40, 80), "0.08 to 0.16", "high")],
)  # fmt: skip
def test_an_effect_that_turns_round_is_not_calibrated(
    run: Callable[[Late, str], Observed], late: tuple[float, ...], half: str, end: str
) -> None:
    verdict = judge(run, *late)
    assert verdict.passed is False
    assert f"turns round from {half}" in verdict.evidence
    assert verdict.advice.startswith(f"cut the {end} end of `delay` at 0.08")


def test_neither_a_small_difference_nor_a_hiccup_turns_an_effect_round(run: Callable[[Late, str], Observed]) -> None:
    assert judge(run, 40, 84, 80).passed is True  # beyond the end by less than a fifth of the effect, however sure
    runs = (run(lambda at: 60, "a"), run(lambda at: 300 if at < 200 else 65, "b"), run(lambda at: 70, "c"))
    verdict = judge_calibrated("slow-links", [Swept(SWEEP, runs)], run(lambda at: 0.0, "calm"))
    assert verdict.passed is True, verdict  # one bad moment of 200 ms in the middle run


def test_what_was_spoiled_is_not_judged(run: Callable[[Late, str], Observed]) -> None:
    runs = tuple(run(lambda at: 80, f"dose{i}") for i in range(3))
    twin = run(lambda at: 0.0, "twin")
    assert judge_calibrated("x", [Swept(SWEEP, (None, *runs[1:]))], twin).passed is None
    assert judge_calibrated("x", [Swept(SWEEP, runs)], None).passed is None
    assert judge_calibrated("x", [], twin).passed is None
    both = judge_calibrated("x", [Swept(SWEEP, (None, *runs[1:])), Swept(SWEEP, (twin, *runs[1:]))], twin)
    assert both.passed is False
    assert both.figures == {"calibrated": 0.5}


def test_a_hiccup_is_one_value_and_not_many(run: Callable[[Late, str], Observed]) -> None:
    from chaosgym.faults.network import Latency

    calm, hiccup = run(lambda at: 0.0, "calm"), run(lambda at: 200 if at < 150 else 0, "hiccup")
    a, b = (symptom_samples(Latency.symptoms[0], NAMES[1], r.episode)[0] for r in (calm, hiccup))
    assert len(a.averaged()) < len(a.values) / 3
    assert shift_probability(a.values, b.values, up=True) < shift_probability(a.averaged(), b.averaged(), up=True)


# ── what is recorded ───────────────────────────────────────────────────────────────────────────────


def test_a_sweep_moves_one_parameter_and_nothing_else() -> None:
    app = load_app("shop")
    sweeps = plan_sweeps(LATENCY, app, 7)
    assert {s.parameter: [d.value for d in s.doses] for s in sweeps} == {"delay": [0.04, 0.08, 0.16], "jitter": [0.002, 0.006, 0.01]}
    drawn = [draw_plan(app, d.task.scenario, 7) for s in sweeps for d in s.doses]
    assert len({str((p.faults[0].target, p.decoys, p.inject_offset, p.components, p.proxied)) for p in drawn}) == 1
    assert [p.faults[0].parameters for p in drawn[:3]] == [{"delay": d, "jitter": 0.006} for d in (0.04, 0.08, 0.16)]
    one = exam(LATENCY, app, 5)
    assert len(one.tasks) == 5 + 5 + 1 + 3 + 3 - 1  # the dose in the middle is shared
    assert len({task.id for task in one.tasks}) == len(one.tasks)


def test_the_repeated_run_is_the_same_exam_under_another_name() -> None:
    one = exam(LATENCY, load_app("shop"), 2)
    first, again = (draw_plan(one.app, task.scenario, task.seed) for task in (one.broken[0], one.again))
    assert one.again.id != one.broken[0].id
    assert replace(first, scenario=again.scenario) == again


def test_ranges_have_a_middle_of_their_own_kind() -> None:
    assert doses(Uniform(uniform=(0.2, 0.6))) == (0.2, 0.4, 0.6)
    assert doses(LogUniform(loguniform=("10ms", "1s"))) == (0.01, 0.1, 1.0)
    assert doses(Uniform(uniform=(0, 3))) == (0, 2, 3)
    assert doses(LogUniform(loguniform=("1MiB", "4MiB"))) == (2**20, 2**21, 2**22)


@pytest.mark.parametrize("name", shipped_scenarios())
def test_no_shipped_scenario_asks_for_more_than_three_episodes_a_parameter(name: str) -> None:
    scenario = load_scenario(name)
    sweeps = plan_sweeps(scenario, load_app(scenario.spec.app), 7)
    assert all(2 <= len(sweep.doses) <= 3 for sweep in sweeps)
    for sweep in sweeps:
        for dose in sweep.doses:
            assert Scenario.model_validate(dose.task.scenario.model_dump(mode="json", by_alias=True)) == dose.task.scenario


# ── shares, ledger, sample, report ─────────────────────────────────────────────────────────────────


def test_five_seeds_are_judged_by_the_share_and_fewer_by_chance() -> None:
    assert [falls_short(n, 5, 0.8) for n in range(6)] == [True, True, True, True, False, False]
    assert [falls_short(n, 2, 0.8) for n in range(3)] == [True, False, False]
    assert [falls_short(n, 3, 0.95) for n in range(4)] == [True, True, False, False]
    assert not falls_short(0, 1, 0.3)


@given(st.integers(1, 12), st.floats(0.05, 0.95))
def test_more_right_answers_never_fall_short_where_fewer_do_not(n: int, share: float) -> None:
    found = [falls_short(count, n, share) for count in range(n + 1)]
    assert found == sorted(found, reverse=True)
    assert not found[-1]


def test_the_ledger_keeps_the_last_verdict_of_each_scenario(tmp_path: Path) -> None:
    old, new = Verdict("a", "steady", False, "bad", "mend it"), Verdict("a", "steady", True, "good", figures={"calm": 1.0})
    note(tmp_path, [old, Verdict("b", "steady", None, "nothing")], seeds=5)
    note(tmp_path, [new], seeds=3)
    rows = [json.loads(line) for line in (tmp_path / LEDGER_FILE).read_text().splitlines()]
    assert [(row["name"], row["passed"], row["seeds"]) for row in rows] == [("a/steady", True, 3), ("b/steady", None, 5)]
    assert as_row(new).items() <= rows[0].items()
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER_FILE]
    (tmp_path / LEDGER_FILE).write_text("not ours\n")
    note(tmp_path, [new], seeds=1)
    assert len((tmp_path / LEDGER_FILE).read_text().splitlines()) == 1


def test_every_scenario_has_its_turn() -> None:
    names = [f"s{i:02}" for i in range(14)]
    days = [rotating(names, day, 4) for day in range(100, 104)]
    assert sorted(name for day in days for name in day) == names
    assert max(map(len, days)) <= 4
    assert rotating(names, 100, 4) == rotating(names, 104, 4)


def test_what_a_commit_touched_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    names = shipped_scenarios()
    scenarios = {name: load_scenario(name) for name in names}
    own = Path(*scenario_path("process-crash").parts[-4:])
    assert concerned([own], scenarios) == ["process-crash"]
    assert {"network-latency", "network-partition"} <= set(concerned([Path("gym/chaosgym/faults/network.py")], scenarios))
    assert concerned([Path("README.md")], scenarios) == []
    main(["--count", "2", "--day", "3", str(own)])
    shown = capsys.readouterr().out.split()
    assert "process-crash" in shown
    assert len(shown) == len(set(shown)) <= 12


def proof(**changes: bool | None) -> Proof:
    verdicts = [Verdict("network-latency", gate, changes.get(gate, True), f"{gate} was seen", "mend it") for gate in GATES]
    figures = {"un-hackable": {"grep": 0.2, "most-errors": 0.0}, "visible": {"seen": 0.8}, "solvable": {"solved": 0.6}}
    figures |= {"repeatable": {"unscorable": 0.05}, "calibrated": {"calibrated": 1.0}}
    verdicts = [replace(v, figures=figures.get(v.gate, {})) for v in verdicts]
    field = [Verdict("*", "shortcuts", True, "grep 20%")]
    return Proof((load_scenario("network-latency"),), (*verdicts, *field), (), seeds=5, episodes=16, unscorable=1)


def test_only_what_was_run_is_reported(tmp_path: Path) -> None:
    shown = CliRunner().invoke(make_program(), ["scenario", "check", "process-crash", "--report", str(tmp_path / "x.md")])
    assert isinstance(shown.exception, InputError)
    assert "add --live" in str(shown.exception)
    assert not list(tmp_path.iterdir())


def test_a_report_has_every_verdict_and_figure(tmp_path: Path) -> None:
    text = report_markdown(proof(visible=False, heals=None), date(2026, 11, 22))
    assert "2026-11-22" in text
    assert "1 scenarios with 5 seeds each, 16 live episodes, of which\n1 (6.2%) unscorable. **0 of 1 scenarios pass every gate.**" in text
    line = next(line for line in text.splitlines() if line.startswith("| network-latency"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[4:] == ["pass", "FAIL", "pass", "pass", "-", "pass", "pass", "pass", "80%", "60%", "grep 20%", "5%"]
    assert "- `network-latency` fails **visible**: visible was seen. mend it." in text
    assert "- **shortcuts**: pass. grep 20%" in text
    assert "**1 of 1 scenarios pass every gate.**" in report_markdown(proof(), date(2026, 11, 22))
    write_report(tmp_path / "new" / "README.md", proof(), date(2026, 11, 22))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["README.md"]
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="cannot write the report"):
        write_report(tmp_path / "file" / "README.md", proof(), date(2026, 11, 22))
