"""Evaluation end to end on recorded episodes made by hand: rows, rails, what is left out, comparison, files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chaosgym.evaluation
from chaosgym.agents import NullAgent, RulesAgent, make_agent
from chaosgym.agents.prompt import PromptFormat
from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, list_episodes, write_episode
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.evaluation import RAILS, EvaluationResult, compare, evaluate, make_row, read_result
from chaosgym.evaluation.measures import MEASURES, by_label, latency, measure
from chaosgym.evaluation.provenance import fingerprint, git_revision
from chaosgym.evaluation.row import INVALID, OTHER
from chaosgym.evaluation.statistics import wilson
from chaosgym.incident import Incident
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.truth import TrueCause, Truth

SECOND = 10**9
START = 1_790_000_000 * SECOND
NAMES = ("front-door", "billing-core", "ledger-db")
WINDOWS = {"baseline": Window(START, START + SECOND), "incident": Window(START + SECOND, START + 5 * SECOND // 2)}


def truth(*causes: tuple[str, str], **changes: Any) -> Truth:
    true = tuple(TrueCause(component=name, fault=fault) for name, fault in causes)
    scenario, verdict = (true[0].fault, "fault") if true else ("calm", "healthy")
    return Truth.model_validate({"scenario": scenario, "app": "shop", "verdict": verdict, "causes": true, "chain": NAMES[:2], **changes})


def answer(*causes: tuple[str, str], probabilities: Sequence[float] = (0.9, 0.6, 0.3)) -> str:
    stated = [{"component": c, "fault": f, "probability": p} for (c, f), p in zip(causes, probabilities, strict=False)]
    return json.dumps({"verdict": "fault" if causes else "healthy", "causes": stated})


def record(folder: Path, number: int, of: Truth, **changes: Any) -> None:
    """Requests from the first to the second component, which are refused during a fault."""
    buffer = TelemetryBuffer()
    for i in range(100):
        at, bad = START + i * SECOND // 40, bool(of.causes) and i >= 40
        error, http = ("ConnectionRefusedError", 503) if bad else (None, 200)
        row = (f"t{i}", f"c{i}", None, "GET", "client", "error" if bad else "unset", error, f"{NAMES[1]}.internal", http, error, "{}")
        buffer.spans.append((at, at + 4_000_000, NAMES[0], *row))
    header = EpisodeHeader(
        id=f"e{number:02}", entry=NAMES[0], scenario_sha256=f"hash of {of.scenario}", **WINDOWS,
        components=tuple(ComponentInfo(name=n, kind="service", host=f"{n}.internal") for n in NAMES),
        edges=(EdgeInfo(source=NAMES[0], target=NAMES[1]), EdgeInfo(source=NAMES[1], target=NAMES[2])), **changes,
    )  # fmt: skip
    write_episode(folder, header, buffer.tables(), of)


CRASH = truth((NAMES[1], "process.crash"))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(4):
        record(folder, number, CRASH)
    record(folder, 4, truth())
    record(folder, 5, truth((NAMES[2], "dependency.lock"), split="seeds"))
    record(folder, 6, truth((NAMES[2], "resource.cpu"), visible=False))
    record(folder, 7, CRASH, status="unscorable", reason="the sandbox died")
    return list_episodes(folder)


class Scripted:
    """Always says the same."""

    def __init__(self, text: str, name: str = "scripted") -> None:
        self.name, self._text = name, text
        self.batches: list[int] = []

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """The text for each."""
        self.batches.append(len(incidents))
        return [self._text] * len(incidents)


@pytest.fixture(scope="module")
def result(episodes: list[Path]) -> EvaluationResult:
    return evaluate(Scripted(answer((NAMES[1], "process.crash"))), episodes)


def value(rows: Sequence[chaosgym.evaluation.Row], name: str) -> float | None:
    return measure(rows, name).value


def test_rails_stand_beside_the_agent_and_the_oracle_is_perfect(result: EvaluationResult) -> None:
    assert list(result.agents) == ["scripted", *RAILS]
    assert RAILS[:4] == ("oracle", "rules", "majority", "null")
    assert set(RAILS[4:]) == set(SHORTCUTS)
    good = {name: value(result.rails["oracle"], name) for name in MEASURES}
    assert {name for name, found in good.items() if found == 1} == {n for n, kind in MEASURES.items() if kind.better > 0}
    assert {name for name, found in good.items() if found == 0} == {n for n, kind in MEASURES.items() if kind.better < 0}
    assert value(result.rails["null"], "accuracy") == pytest.approx(1 / 6)
    assert {row.named[0].fault for row in result.rails["majority"] if row.named} == {"process.crash"}


def test_measures_count_what_they_are_about(result: EvaluationResult) -> None:
    found = {name: measure(result.rows, name) for name in MEASURES}
    assert (found["accuracy"].value, found["accuracy"].n) == (pytest.approx(4 / 6), 6)
    assert (found["both@1"].value, found["both@1"].n) == (pytest.approx(4 / 5), 5)
    assert (found["false_alarm"].value, found["false_alarm"].n) == (1.0, 1)
    assert found["accuracy"].interval == wilson(4, 6)
    assert found["accuracy"].clustered is not None
    assert value(result.rows, "missed") == 0


def test_what_may_not_be_scored_is_left_out_and_counted(result: EvaluationResult) -> None:
    assert {row.episode for row in result.rows} == {f"e{n:02}" for n in range(6)}
    assert (result.excluded.unscorable, result.excluded.invisible) == ({"e07": "the sandbox died"}, ("e06",))
    assert result.to_json()["episodes"] == {"given": 8, "scored": 6, "unscorable": 1, "invisible": 1}


def test_splits_and_faults_are_reported_apart(result: EvaluationResult) -> None:
    summary = result.to_json()
    assert {split: of["scripted"]["accuracy"]["value"] for split, of in summary["splits"].items()} == {"train": 0.8, "seeds": 0.0}
    assert list(summary["faults"]) == ["dependency.lock", "process.crash", "healthy"]
    assert list(by_label(result.rows)) == list(summary["faults"])
    json.dumps(summary, allow_nan=False)
    assert "Accuracy by split" in result.to_markdown()


def test_a_rail_is_not_run_twice(episodes: list[Path]) -> None:
    assert list(evaluate(RulesAgent(), episodes).agents) == ["rules", *(name for name in RAILS if name != "rules")]


def test_the_best_shortcut_stands_beside_the_ceiling(result: EvaluationResult) -> None:
    found = result.to_json()["shortcuts"]
    assert {split: (best["agent"], best["both@1"]["value"], best["ceiling"]) for split, best in found.items()} == {
        "train": ("most-errors", 1.0, 0.25), "seeds": ("latest-deploy", 0.0, 0.25),
    }  # fmt: skip
    assert found["train"]["below"] is None  # four crashes say nothing of a split
    assert "Best shortcut on train: most-errors names component and fault in 100.0% of 4" in result.to_markdown()
    assert "Best shortcut on train: most-errors" in result.to_html()


def test_the_majority_learns_from_training_episodes_when_given(episodes: list[Path]) -> None:
    found = evaluate(NullAgent(), episodes, train=[path for path in episodes if path.name == "e05"])
    assert {row.named[0].fault for row in found.rails["majority"]} == {"dependency.lock"}
    assert found.provenance.majority == "train"


def test_answers_come_in_batches_and_keep_their_episode(episodes: list[Path]) -> None:
    agent = Scripted(answer())
    rows = evaluate(agent, episodes, batch_size=4, rails=()).rows
    assert agent.batches == [4, 2]
    assert [row.episode for row in rows] == sorted(row.episode for row in rows)
    assert latency(rows)[0] <= latency(rows)[1]


def test_a_result_says_where_it_comes_from(result: EvaluationResult) -> None:
    origin = result.provenance
    assert origin.scenarios == {name: (f"hash of {name}",) for name in ("calm", "dependency.lock", "process.crash")}
    assert (origin.seed, origin.budget, origin.majority, origin.model) == (0, 700, "evaluated", {})
    assert {"python", "numpy", "chaosgym"} <= set(origin.versions)


def test_a_model_is_known_by_its_prompt_tokenizer_and_template() -> None:
    class Tokenizer:
        chat_template = "{{ messages }}"

        def get_vocab(self) -> dict[str, int]:
            """Two words."""
            return {"a": 0, "b": 1}

    agent: Any = Scripted("")
    agent.format, agent._tokenizer = PromptFormat(), Tokenizer()
    found = fingerprint(agent)
    assert set(found) == {"prompt_sha256", "tokenizer_sha256", "template_sha256"}
    agent.format = PromptFormat(budget=300)
    assert fingerprint(agent)["prompt_sha256"] != found["prompt_sha256"]
    assert fingerprint(agent)["tokenizer_sha256"] == found["tokenizer_sha256"]


def test_the_revision_is_of_this_checkout() -> None:
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    found = git_revision()
    assert found is None or not head or found.removesuffix("-dirty") == head


def test_the_budget_is_the_agents_own(episodes: list[Path]) -> None:
    agent: Any = Scripted(answer())
    agent.format = PromptFormat(budget=60)
    assert evaluate(agent, episodes, rails=()).provenance.budget == 60


def test_what_cannot_be_evaluated_is_refused(episodes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no episodes"):
        evaluate(NullAgent(), [])
    with pytest.raises(InputError, match="given twice"):
        evaluate(NullAgent(), [episodes[0], episodes[0]])
    with pytest.raises(InputError, match=r"unknown rail 'oracel' - did you mean 'oracle'\?"):
        evaluate(NullAgent(), episodes, rails=("oracel",))
    with pytest.raises(InfrastructureError, match="none of 2 episodes may be scored: 1 unscorable, 1 invisible"):
        evaluate(NullAgent(), episodes[6:])

    class Silent(Scripted):
        def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
            """Nothing at all."""
            return []

    with pytest.raises(InputError, match="gave 0 answers to 6 incidents"):
        evaluate(Silent(""), episodes)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────


def row(of: Truth, text: str) -> chaosgym.evaluation.Row:
    return make_row("x", "e", of, NAMES, text, 0.1)


def test_ranks_go_by_probability_and_only_the_first_counts_at_one() -> None:
    found = row(CRASH, answer((NAMES[0], "process.hang"), (NAMES[1], "process.crash"), probabilities=(0.2, 0.9)))
    assert found.component1
    assert found.fault1
    assert found.both1
    later = row(CRASH, answer((NAMES[0], "process.hang"), (NAMES[1], "process.crash")))
    assert not later.component1
    assert later.component3
    assert later.fault3
    assert later.both3


def test_component_and_fault_of_different_causes_make_no_pair() -> None:
    found = row(CRASH, answer((NAMES[1], "process.hang"), (NAMES[0], "process.crash")))
    assert (found.component1, found.fault1, found.both1) == (True, False, False)
    assert (found.component3, found.fault3, found.both3) == (True, True, False)


def test_two_true_causes_need_two_answers() -> None:
    both = truth((NAMES[0], "resource.cpu"), (NAMES[1], "process.crash"))
    assert row(both, answer((NAMES[1], "process.crash"), (NAMES[0], "resource.cpu"))).both1
    assert not row(both, answer((NAMES[1], "process.crash"))).both3


def test_answers_that_cannot_be_used_are_right_about_nothing() -> None:
    unreadable, invented = row(truth(), "all is fine"), row(CRASH, answer((NAMES[1], "process.crash"), ("ghost", "process.hang")))
    assert (unreadable.said, unreadable.hallucinated, unreadable.said_label) == (None, False, INVALID)
    assert (invented.said, invented.hallucinated, invented.said_label) == ("fault", True, INVALID)
    assert not any((unreadable.both1, invented.component1, invented.fault3, invented.both3))
    assert row(CRASH, answer((NAMES[1], "gremlins"))).said_label == OTHER
    assert row(CRASH, answer()).said_label == "healthy"


def test_an_invisible_fault_makes_no_row() -> None:
    with pytest.raises(ValueError, match="may not be scored"):
        row(truth((NAMES[1], "process.crash"), visible=False), answer())


@given(st.text() | st.builds(answer, st.tuples(st.sampled_from((*NAMES, "ghost")), st.sampled_from(("process.crash", "x")))))
def test_any_answer_becomes_a_row_that_can_be_kept(text: str) -> None:
    found = row(CRASH, text)
    assert type(found).model_validate_json(found.model_dump_json()) == found
    assert found.both1 <= (found.component1 and found.fault1)
    assert found.reward > 0.9 if found.both1 else found.reward < 0.9


# ── comparison ───────────────────────────────────────────────────────────────────────────────────────


def rescored(result: EvaluationResult, name: str, right: Sequence[int]) -> EvaluationResult:
    """The same episodes many times over; those numbered are answered right."""
    rows = [result.rows[0].model_copy(update={"agent": name, "episode": f"n{i}", "scenario": f"s{i % 8}"}) for i in range(80)]
    changed = tuple(r.model_copy(update={"both1": i in right}) for i, r in enumerate(rows))
    return result.model_copy(update={"agent": name, "rows": changed})


def test_a_clear_improvement_is_called_one(result: EvaluationResult) -> None:
    a, b = rescored(result, "sft", range(40)), rescored(result, "grpo", range(60))
    found = compare(a, b)
    assert (found.accuracy.a, found.accuracy.b, found.accuracy.difference) == (0.5, 0.75, 0.25)
    assert (found.accuracy.only_a, found.accuracy.only_b) == (0, 20)
    assert found.accuracy.p == pytest.approx(2 / 2**20)
    assert found.accuracy.interval is not None
    assert 0.1 < found.accuracy.interval.low < 0.25 < found.accuracy.interval.high < 0.4
    assert found.sentence.startswith("grpo is better than sft on 80 episodes: accuracy 0.500 -> 0.750, difference +0.250 [")
    assert compare(b, a).sentence.startswith("sft is worse than grpo")
    assert "| accuracy" in found.to_markdown()
    json.dumps(found.to_json(), allow_nan=False)


def test_luck_is_not_called_an_improvement(result: EvaluationResult) -> None:
    found = compare(rescored(result, "sft", range(40)), rescored(result, "grpo", range(2, 43)))
    assert "not shown to differ" in found.sentence
    assert found.measures["reward"].p is None


def test_only_shared_episodes_are_compared(result: EvaluationResult) -> None:
    fewer = result.model_copy(update={"rows": result.rows[:4]})
    found = compare(result, fewer)
    assert (found.episodes, found.unpaired) == (4, 2)
    assert "2 answers to episodes that the other did not get are left out" in found.to_markdown()
    with pytest.raises(InputError, match="no episode in common"):
        compare(result, result.model_copy(update={"rows": ()}))
    other = result.model_copy(update={"rows": tuple(r.model_copy(update={"scenario": "else"}) for r in result.rows)})
    with pytest.raises(InputError, match="two truths"):
        compare(result, other)


def test_a_rail_can_be_compared_with(result: EvaluationResult) -> None:
    assert compare(result.rail("null"), result).accuracy.difference == pytest.approx(0.5)
    assert "null" not in result.rail("null").rails
    with pytest.raises(InputError, match="no rail 'random'"):
        result.rail("random")


# ── files ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_written_is_read_again(result: EvaluationResult, tmp_path: Path) -> None:
    result.write(tmp_path / "deep" / "out")
    assert {p.name for p in (tmp_path / "deep" / "out").iterdir()} == {"result.json", "episodes.jsonl", "report.md", "report.html"}
    assert read_result(tmp_path / "deep" / "out") == result
    assert read_result(tmp_path / "deep" / "out" / "result.json") == result


def test_results_that_cannot_be_read_are_refused(result: EvaluationResult, tmp_path: Path) -> None:
    result.write(tmp_path)
    rows, head = tmp_path / "episodes.jsonl", tmp_path / "result.json"
    whole, document = rows.read_text(), json.loads(head.read_text())
    rows.write_text(whole[:-30])
    with pytest.raises(InputError, match=rf"episodes\.jsonl:{6 * (1 + len(RAILS))}: not a row"):
        read_result(tmp_path)
    rows.unlink()
    with pytest.raises(InputError, match=r"episodes\.jsonl: cannot be read"):
        read_result(tmp_path)
    rows.write_text(whole)
    for text, message in (
        ("{", "not valid JSON"), ("[]", "holds a list"), ("{}", "not a result"), (json.dumps({**document, "schema_version": 2}), "newer"),
        (json.dumps({**document, "provenance": {}}), "provenance.*evaluate again"),
    ):  # fmt: skip
        head.write_text(text)
        with pytest.raises(InputError, match=message):
            read_result(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_result(tmp_path / "nowhere")


def test_a_full_or_forbidden_disk_is_one_clear_error(result: EvaluationResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot write the result"):
        result.write(tmp_path / "file" / "out")


def test_evaluation_needs_no_torch_and_names_what_it_exports() -> None:
    assert len(chaosgym.evaluation.__all__) == len(set(chaosgym.evaluation.__all__))
    assert all(hasattr(chaosgym.evaluation, name) for name in chaosgym.evaluation.__all__)
    code = "import sys, chaosgym.evaluation; print({'torch', 'matplotlib', 'aiohttp'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_an_agent_by_name_is_evaluated(episodes: list[Path]) -> None:
    assert value(evaluate(make_agent("most-errors"), episodes, rails=()).rows, "invalid") == 0
