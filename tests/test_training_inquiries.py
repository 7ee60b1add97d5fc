"""Training on investigations: compact pages, traces that follow them, conversations in tokens, and the line from SFT to GRPO and PPO."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chaosgym.agents import Investigator, make_agent
from chaosgym.agents.caller import CallingAgent
from chaosgym.agents.prompt import PromptFormat
from chaosgym.envs.dossier import Dossier, RecordedDossiers
from chaosgym.envs.investigate import InvestigateEnv
from chaosgym.envs.trl import InvestigateTools, outcome
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, list_episodes, write_episode
from chaosgym.errors import InputError
from chaosgym.evaluation import evaluate
from chaosgym.incident.compact import draw_handles
from chaosgym.incident.inquiry import TOOLS, Budget, Inquiry, write_action
from chaosgym.incident.vocabulary import HANDLES
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.training.asking import AskingGRPOTrainer
from chaosgym.training.config import GrpoConfig, NanoShape, PpoConfig, SftConfig
from chaosgym.training.conversation import conversation_sequence, converse, render, tool_schemas
from chaosgym.training.grpo import grpo
from chaosgym.training.inquests import draw_inquests, read_inquests
from chaosgym.training.nano import make_nano
from chaosgym.training.phrases import teach_phrases
from chaosgym.training.ppo import ppo
from chaosgym.training.rescore import rescore
from chaosgym.training.rollouts import ROLLOUT_FILE, read_rollouts
from chaosgym.training.sft import sft
from chaosgym.training.tokenizer import build_tokenizer
from chaosgym.training.traces import Trace, make_trace
from chaosgym.training.turns import TurnsGRPOTrainer
from chaosgym.truth import TrueCause, Truth

SECOND = 10**9
START = 1_790_000_000 * SECOND
NAMES = ("front-door", "billing-core", "ledger-db", "mailer")
KINDS = ("gateway", "service", "postgres", "worker")
BUDGET = Budget(20, 30, 150)
COMPACT = PromptFormat(task="investigate", rendering="compact", system="", page=150)
QUIET = [
    pytest.mark.training,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]


def record(folder: Path, number: int, fault: str) -> None:
    """Requests through front-door to billing-core, which is gone in the incident window, or is not."""
    buffer = TelemetryBuffer()
    for i in range(120):
        at, bad = START + i * SECOND // 40, bool(fault) and i >= 40
        error, status = ("ConnectionRefusedError", "error") if bad else (None, "unset")
        tail = (status, error, "billing-core.internal", 503 if bad else 200, error, "{}")
        served = ("server", status, None, None, 503 if bad else 200, None, "{}")
        buffer.spans.append((at, at + 4_000_000, "front-door", f"t{i}", f"f{i}", None, "GET /pay", *served))
        buffer.spans.append((at + 500_000, at + 3_000_000, "front-door", f"t{i}", f"c{i}", f"f{i}", "GET", "client", *tail))
        if bad:
            body = f"could not reach billing-core.internal: [Errno 111] Connection refused, request {i}"
            buffer.logs.append((at, "front-door", 17, "ERROR", body, None, None, "{}"))
    for i in range(15):
        for name in NAMES:
            if not (fault and name == "billing-core" and i >= 5):
                row = (name, "process.cpu.utilization", "1", "gauge", 0.05, None, None, None, "{}")
                buffer.metrics.append((START + i * SECOND // 5, START + i * SECOND // 5, *row))
    if fault:
        buffer.events.append((START + SECOND, "billing-core", "exit", "terminated by signal 9", "{}"))
    header = EpisodeHeader(
        id=f"e{number}", entry=NAMES[0], baseline=Window(START, START + SECOND), incident=Window(START + SECOND, START + 3 * SECOND),
        components=tuple(ComponentInfo(name=n, kind=k, host=f"{n}.internal") for n, k in zip(NAMES, KINDS, strict=True)),
        edges=tuple(EdgeInfo(source=a, target=b) for a, b in (NAMES[:2], NAMES[1:3])),
    )
    causes = (TrueCause(component="billing-core", fault=fault),) if fault else ()
    write_episode(folder, header, buffer.tables(), Truth(scenario="s", app="a", verdict="fault" if fault else "healthy", causes=causes))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(4):
        record(folder, number, "process.crash" if number % 2 == 0 else "")
    return folder


def dossier(episodes: Path, number: int) -> Dossier:
    return RecordedDossiers(episodes, "train").draw(np.random.default_rng(0), {"episode": f"e{number}"})


def traces(episodes: Path) -> list[tuple[Dossier, Trace]]:
    found = [(case := dossier(episodes, number), make_trace(case, seed, BUDGET)) for number in (0, 1) for seed in range(12)]
    return [(case, trace) for case, trace in found if trace is not None]


# ── Compact pages ───────────────────────────────────────────────────────────────────────────────────
def test_compact_pages_go_by_handles_and_never_by_names(episodes: Path) -> None:
    case = dossier(episodes, 0)
    handles = draw_handles(case.evidence.findings, "key")
    inquiry = Inquiry(case.evidence, BUDGET, handles)
    billing = next(handle for handle, name in handles.items() if name == "billing-core")
    asked = [("metrics", {"component": billing}), ("logs", {}), ("traces", {}), ("metrics", {"component": "c999"}), ("topology", {})]
    pages = [inquiry.opening(), *(inquiry.ask(write_action(tool, arguments)).text for tool, arguments in asked)]
    assert not any(name in page for page in pages for name in case.evidence.names)
    assert f"{billing} service down" in pages[1]
    assert "refused" in pages[3]
    assert pages[4].startswith("error\n")
    cause = {"component": billing, "fault": "process.crash", "probability": 0.9}
    assert inquiry.ask(write_action("submit", {"verdict": "fault", "causes": [cause]})).over
    assert case.score(inquiry.diagnosis).total == pytest.approx(1, abs=0.05)


def test_a_long_compact_page_is_cut_and_says_so(episodes: Path) -> None:
    case = dossier(episodes, 0)
    inquiry = Inquiry(case.evidence, Budget(20, 30, 100), draw_handles(case.evidence.findings, "key"))
    object.__setattr__(inquiry.budget, "tokens", 5)
    assert inquiry.ask(write_action("topology", {})).text.split("\n")[-2] == "more"


def test_rollouts_of_a_seed_share_their_handles(episodes: Path) -> None:
    env = InvestigateEnv(episodes, rendering="compact")
    opened = [env.reset(seed=seed, options={"episode": "e0"})[1] for seed in (3, 3, 4)]
    assert opened[0] == opened[1] != opened[2]
    with pytest.raises(InputError, match="rendering"):
        InvestigateEnv(episodes, rendering="verbose")  # pyright: ignore[reportArgumentType]


# ── Traces ──────────────────────────────────────────────────────────────────────────────────────────
def test_no_component_is_asked_about_before_a_page_has_shown_it(episodes: Path) -> None:
    """And what is given as the reason stands on an earlier page and names a component."""
    for case, trace in traces(episodes):
        inquiry = Inquiry(case.evidence, BUDGET, trace.handles)
        rows = inquiry.opening().split("\n")
        for step in trace.steps:
            words = {word for row in rows for word in row.split(" ")}
            assert step.arguments.get("component", "alert") in words
            assert not step.because or step.because in rows
            assert not step.because or set(step.because.split(" ")) & set(HANDLES)
            rows += inquiry.ask(write_action(step.tool, step.arguments)).text.split("\n")
        assert not inquiry.overrun


def test_a_trace_ends_with_the_truth_once_the_culprit_was_looked_at(episodes: Path) -> None:
    for case, trace in traces(episodes):
        told = [(trace.handles[cause.component], cause.fault) for cause in trace.diagnosis.causes]
        assert told == [(cause.component, cause.fault) for cause in case.truth.causes]
        asked = {trace.handles[step.arguments["component"]] for step in trace.steps if step.tool == "metrics"}
        assert asked >= {cause.component for cause in case.truth.causes}


def test_a_trace_depends_on_its_seed_alone_and_seeds_take_other_courses(episodes: Path) -> None:
    case = dossier(episodes, 0)
    assert make_trace(case, 5, BUDGET) == make_trace(case, 5, BUDGET)
    assert len({json.dumps([step.tool for step in trace.steps]) for _, trace in traces(episodes)}) > 2


@pytest.mark.parametrize("budget", [Budget(3, 30, 150), Budget(20, 4, 150)])
def test_a_trace_keeps_its_budget_or_there_is_none(episodes: Path, budget: Budget) -> None:
    for number in (0, 1):
        trace = make_trace(dossier(episodes, number), 0, budget)
        if trace is not None:
            assert len(trace.steps) <= budget.calls
            assert sum(TOOLS[step.tool].cost for step in trace.steps) <= budget.cost


def test_labels_are_drawn_alike_often(episodes: Path) -> None:
    drawn = [inquest.label for inquest, _ in draw_inquests(read_inquests([episodes]), 20, 0)]
    assert drawn.count("healthy") == drawn.count("process.crash") == 10


# ── Conversations ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("rendering", ["compact", "readable"])
def test_what_is_learnt_is_what_the_assistant_writes_and_no_more(episodes: Path, rendering: str) -> None:
    form = COMPACT.model_copy(update={"rendering": rendering, "page": 400 if rendering == "readable" else 150})
    tokenizer: Any = build_tokenizer(["a text to learn from"], 1024)
    if rendering == "compact":
        teach_phrases(make_nano(NanoShape(hidden=64, layers=1), tokenizer, 0), tokenizer)
    for case, trace in traces(episodes)[::8]:
        messages = converse(case, trace, form)
        row = conversation_sequence(tokenizer, messages)
        said = tokenizer.decode([label for label in row["labels"] if label != -100])
        calls = [message for message in messages if message["role"] == "assistant"]
        assert said.count("<tool_call>") == len(calls) - 1 == len(trace.steps) + 1
        assert said.count("<|im_end|>") == len(calls)
        assert "<tool_response>" not in said
        assert "<think>" not in said
        written = [json.loads(part.partition("</tool_call>")[0]) for part in said.split("<tool_call>")[1:]]
        assert written == [message["tool_calls"][0]["function"] for message in calls[:-1]]
        assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
        assert tokenizer.decode(row["input_ids"]) + "\n" == render(tokenizer, messages, prompt=False)


def test_phrases_make_a_conversation_short_and_change_no_text(episodes: Path) -> None:
    tokenizer: Any = build_tokenizer(["a text to learn from"], 1024)
    model = make_nano(NanoShape(hidden=64, layers=1), tokenizer, 0)
    case, trace = traces(episodes)[0]
    messages = converse(case, trace, COMPACT)
    before = conversation_sequence(tokenizer, messages)
    teach_phrases(model, tokenizer)
    size = len(tokenizer)
    teach_phrases(model, tokenizer)
    assert len(tokenizer) == size <= model.get_input_embeddings().num_embeddings
    after = conversation_sequence(tokenizer, messages)
    assert tokenizer.decode(before["input_ids"]) == tokenizer.decode(after["input_ids"])
    assert len(after["input_ids"]) < min(600, len(before["input_ids"]) / 4)


def test_the_schemas_are_those_that_trl_shows() -> None:
    assert [schema["function"]["name"] for schema in tool_schemas()] == sorted([*TOOLS, "submit"])


# ── Evaluation ──────────────────────────────────────────────────────────────────────────────────────
def test_an_investigator_is_judged_with_what_its_questions_cost(episodes: Path) -> None:
    agent = make_agent("investigator")
    assert isinstance(agent, Investigator)
    result = evaluate(agent, list_episodes(episodes), rails=("null",))
    assert all(row.calls and row.spent and row.calls <= 20 for row in result.rows)
    assert all(row.calls is None for row in result.rails["null"])
    asking = result.to_json()["asking"]
    assert asking["by_cost"][-1]["accuracy"] == sum(row.both1 for row in result.rows) / len(result.rows)
    assert "Success by budget" in result.to_markdown()
    with pytest.raises(InputError, match="reads no reports"):
        agent.diagnose([])


# ── The line ────────────────────────────────────────────────────────────────────────────────────────
def lines(run: Path, key: str) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record]


def settings(episodes: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {"episodes": [episodes], "out": out, "task": "investigate", "log_every": 1, **changes}


@pytest.fixture(scope="module")
def tuned(episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"steps": 60, "batch_size": 4, "learning_rate": 1e-2, "nano": {"hidden": 64, "layers": 2}}
    return Path(sft(SftConfig.model_validate(settings(episodes, tmp_path_factory.mktemp("runs") / "sft", **changes)))["model"])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[InvestigateTools]:
    """Every environment that training makes."""
    made: list[InvestigateTools] = []

    class Noted(InvestigateTools):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr("chaosgym.training.inquire.InvestigateTools", Noted)
    return made


def _rollouts(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Prompt, rollout with who wrote each token, and numbers at the model's own, without padding, in an order of their own."""
    rows: list[dict[str, Any]] = []
    for row in range(len(batch["prompt_ids"])):
        there, own = batch["completion_mask"][row].bool(), (batch["completion_mask"] * batch["tool_mask"])[row].bool()
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        rollout = list(zip(batch["completion_ids"][row][there].tolist(), batch["tool_mask"][row][there].tolist(), strict=True))
        figures = {key: batch[key][row][own].tolist() for key in ("log_probs", "entropies")}
        rows.append({"written": [prompt, *rollout], "advantages": float(batch["advantages"][row]), **figures})
    return sorted(rows, key=lambda row: str(row["written"]))


class TestLine:
    """From nothing to rollouts that are scored."""

    pytestmark = QUIET

    def test_imitation_makes_valid_calls_likelier_and_the_model_can_be_judged(self, tuned: Path, episodes: Path) -> None:
        losses = lines(tuned.parent, "loss")
        assert losses[-1] < 0.3 * losses[0]
        form = PromptFormat.load(tuned)
        assert (form.task, form.rendering, form.tools) == ("investigate", "compact", tool_schemas())
        result = evaluate(make_agent(f"slm:{tuned}"), list_episodes(episodes), rails=())
        assert sum(row.calls or 0 for row in result.rows) >= 4

    @pytest.mark.parametrize("method", ["grpo", "ppo"])
    def test_reinforcement_plays_rollouts_and_closes_every_environment(
        self, method: str, tuned: Path, episodes: Path, tmp_path: Path, opened: list[InvestigateTools], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chaosgym.training.inquire.divide", lambda inquests, share: (inquests[:2], inquests[2:]))
        changes = {"model": str(tuned), "steps": 4, "batch_size": 4, "generations": 2, "temperature": 1.0, "validate_every": 2}
        config = settings(episodes, tmp_path / method, **changes)
        done = grpo(GrpoConfig.model_validate(config)) if method == "grpo" else ppo(PpoConfig.model_validate(config))
        assert done["steps"] == 4
        for key in ("reward", "calls", "spent", "submitted", "term/component"):
            assert lines(tmp_path / method, key)
        assert max(lines(tmp_path / method, "calls")) > 0
        assert len(opened) >= 4
        assert all("has ended" in tools.topology() for tools in opened)
        assert (Path(done["model"]) / "chaosgym.json").is_file()
        assert len(lines(tmp_path / method, "validation/accuracy")) == 3
        assert lines(tmp_path / method, "validation/best_step")[0] in (0, 2, 4)
        self.check_rollouts(tmp_path / method, batches=4 if method == "grpo" else 2)

    @staticmethod
    def check_rollouts(run: Path, batches: int) -> None:
        """They are those of the batches, about what is trained on, and the present reward makes the same of them."""
        kept = list(read_rollouts(run / ROLLOUT_FILE))
        assert len(kept) == 4 * batches
        assert {rollout.episode for rollout in kept} <= {"e0", "e1"}
        assert any('"name"' in rollout.text for rollout in kept)
        assert all(not rollout.answer or json.loads(rollout.answer)["verdict"] for rollout in kept)
        again = rescore(run)
        assert (again.answers, again.missing, again.moved) == (4 * batches, 0, 0)
        assert [(change.before, change.changed) for change in again.changes] == [(pytest.approx(c.now), 0) for c in again.changes]

    def test_a_model_investigates_alike_whether_it_reads_pages_once_or_time_and_again(
        self, tuned: Path, episodes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        agent = make_agent(f"slm:{tuned}")
        assert isinstance(agent, CallingAgent)
        evidence = [dossier(episodes, number).evidence for number in range(4)]
        once = [agent.investigate(evidence, rendering) for rendering in (0, 1)]
        monkeypatch.setattr("chaosgym.agents.turns.can_take_turns", lambda model: False)
        assert [agent.investigate(evidence, rendering) for rendering in (0, 1)] == once
        assert len({one.calls for found in once for one in found}) > 1

    def test_the_cache_that_outlives_turns_changes_no_token_and_no_number(
        self, tuned: Path, episodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The likeliest rollouts, their masks and log-probabilities, as TRL has them and as we do."""
        made: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for fast, batches in made.items():
            changes = {"model": str(tuned), "steps": 2, "batch_size": 8, "generations": 2, "temperature": 0.001, "shared_prefix": fast}
            config = GrpoConfig.model_validate(settings(episodes, tmp_path / str(fast), **changes, learning_rate=1e-9))
            compute = AskingGRPOTrainer._compute_loss  # pyright: ignore[reportPrivateUsage]

            def note(self: Any, model: Any, inputs: Any, batches: Any = batches, compute: Any = compute) -> Any:
                ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
                mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
                found = self._get_per_token_logps_and_entropies(model, ids, mask, inputs["completion_ids"].size(1), compute_entropy=True)
                batches.append({**inputs, "log_probs": found[0].detach(), "entropies": found[1].detach()})
                assert isinstance(self, TurnsGRPOTrainer) == (self.args.output_dir == str(tmp_path / "True"))
                return compute(self, model, inputs)

            with monkeypatch.context() as patched:
                patched.setattr(AskingGRPOTrainer, "_compute_loss", note)
                grpo(config)
        for ours, theirs in zip(made[True], made[False], strict=True):
            assert len(set(map(str, _rollouts(ours)))) > 1
            for our, their in zip(_rollouts(ours), _rollouts(theirs), strict=True):
                assert our["written"] == their["written"]
                assert 0 < len(our["log_probs"]) < len(our["written"]) - 1
                for key in ("advantages", "log_probs", "entropies"):
                    assert our[key] == pytest.approx(their[key], abs=1e-4), key

    def test_environments_are_closed_when_training_fails(
        self, tuned: Path, episodes: Path, tmp_path: Path, opened: list[InvestigateTools], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: Any, **named: Any) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr("chaosgym.training.reinforcement.finish", fail)
        closed: list[InvestigateTools] = []
        monkeypatch.setattr("chaosgym.training.inquire.close", closed.append)
        with pytest.raises(RuntimeError, match="out of memory"):
            grpo(GrpoConfig.model_validate(settings(episodes, tmp_path / "g", model=str(tuned), steps=1, batch_size=4, generations=2)))
        assert closed == opened
        assert opened


def test_what_came_of_a_rollout_is_told(episodes: Path, tmp_path: Path) -> None:
    shutil.copytree(episodes, tmp_path / "copy")
    tools = InvestigateTools(tmp_path / "copy", rendering="compact", tokens=150)
    tools.reset(episode="e1", seed=1)
    assert (outcome(tools).calls, outcome(tools).submitted) == (0, False)
    tools.topology()
    tools.submit("healthy")
    found = outcome(tools)
    assert (found.calls, found.spent, found.submitted) == (1, 1, True)
    assert found.terms["spending"] == pytest.approx(1 / 30)
    assert json.loads(found.answer)["verdict"] == "healthy"
