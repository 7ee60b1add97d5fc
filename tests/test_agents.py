"""Agents on findings made by hand: what the rails answer, which signature fits, and a language model end to end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import chaosgym.agents
from chaosgym.agents import (
    AGENT_NAMES,
    Agent,
    FirstAnomalyAgent,
    GrepAgent,
    Investigator,
    LatestDeployAgent,
    MajorityAgent,
    MostErrorsAgent,
    NullAgent,
    OracleAgent,
    RandomAgent,
    RulesAgent,
    make_agent,
    right_answer,
)
from chaosgym.agents.prompt import INSTRUCTION, PROMPT_FILE, PromptFormat
from chaosgym.agents.signatures import SIGNATURES
from chaosgym.agents.slm import SlmAgent
from chaosgym.diagnosis import parse_diagnosis
from chaosgym.errors import InputError
from chaosgym.incident import render_incident
from chaosgym.incident.findings import Alert, EventFinding, Findings, Incident, LogFinding
from chaosgym.rewards import score
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.signals import CallSignals, Change, ComponentSignals, EdgeSignals, Signals
from chaosgym.truth import TrueCause, Truth

KINDS = {"front-door": "gateway", "billing-core": "service", "ledger-db": "postgres", "kv": "redis"}
CALLS = (("edge", "front-door"), ("front-door", "billing-core"), ("billing-core", "ledger-db"), ("billing-core", "kv"))
STEADY = CallSignals(rate=Change(30, 30), errors=Change(0, 0), p50=Change(0.004, 0.004), p95=Change(0.01, 0.01), gap=Change(0.001, 0.001))


def world() -> Findings:
    """Four components, and nothing is wrong."""
    alive: dict[str, Any] = {"cpu": Change(0.1, 0.1), "memory": Change(8e7, 8e7), "process_quiet": 0.1, "quiet": 0.1}
    components = {name: ComponentSignals(name, kind, STEADY, STEADY, **alive) for name, kind in KINDS.items()}
    edges = {pair: EdgeSignals(*pair, STEADY) for pair in CALLS}
    return Findings(Signals(components, edges), Alert("front-door", STEADY), (), (), {}, {})


def with_component(findings: Findings, name: str, **changes: Any) -> Findings:
    components = {**findings.signals.components, name: dataclasses.replace(findings.signals.components[name], **changes)}
    return dataclasses.replace(findings, signals=dataclasses.replace(findings.signals, components=components))


def with_calls(findings: Findings, pair: tuple[str, str], **changes: Any) -> Findings:
    edge = findings.signals.edges[pair]
    edge = dataclasses.replace(edge, calls=dataclasses.replace(edge.calls, **changes))
    return dataclasses.replace(findings, signals=dataclasses.replace(findings.signals, edges={**findings.signals.edges, pair: edge}))


def with_log(findings: Findings, component: str, sign: str, peer: str = "", count: int = 9) -> Findings:
    log = LogFinding(component, f"something {sign}", "error", 0, count, sign, peer, f"something {sign}", 5.0)
    return dataclasses.replace(findings, logs=(*findings.logs, log))


def with_line(findings: Findings, component: str, text: str, peer: str = "", count: int = 9) -> Findings:
    log = LogFinding(component, text, "error", 0, count, "", peer, text, 5.0)
    return dataclasses.replace(findings, logs=(*findings.logs, log))


def with_event(findings: Findings, component: str, name: str, killed: bool = False, seconds: float = 0.3) -> Findings:
    return dataclasses.replace(findings, events=(*findings.events, EventFinding(component, name, seconds, "", killed)))


def incident(findings: Findings, number: int = 0) -> Incident:
    rows: dict[str, tuple[str, ...]] = dict.fromkeys(findings.signals.components, ("up",))
    findings = dataclasses.replace(findings, rows=rows, edge_rows=dict.fromkeys(findings.signals.edges, ()))
    return render_incident(findings, f"episode-{number}", seed=number)


def refused(findings: Findings, target: str, kind: str, share: float = 0.9) -> Findings:
    """All callers of `target` fail in this way, up to the user."""
    for pair in [p for p in CALLS if p[1] == target] + [("edge", "front-door")]:
        findings = with_calls(findings, pair, errors=Change(0, share), kinds=((kind, share),))
    return findings


def crashed() -> Findings:
    findings = with_event(refused(world(), "billing-core", "refused"), "billing-core", "exit", killed=True)
    return with_component(findings, "billing-core", process_quiet=1.2, quiet=1.2)


STARVED = dataclasses.replace(STEADY, rate=Change(30, 1))


def hung() -> Findings:
    return with_component(refused(world(), "billing-core", "timeout"), "billing-core", quiet=1.2, cpu=Change(0.1, 0.0), served=STARVED)


def partitioned() -> Findings:
    findings = with_component(refused(world(), "billing-core", "timeout"), "billing-core", served=STARVED)
    for callee in ("ledger-db", "kv"):
        findings = with_calls(findings, ("billing-core", callee), rate=Change(30, 1))
    return findings


def storming() -> Findings:
    repeated = {"rate": Change(30, 180), "errors": Change(0, 0.9), "kinds": (("timeout", 0.9),), "gap": Change(0.001, 0.1)}
    findings = with_log(with_calls(world(), ("front-door", "billing-core"), **repeated), "front-door", "retrying", peer="billing-core")
    return with_event(findings, "front-door", "config_change")


def leaking() -> Findings:
    findings = with_component(world(), "billing-core", memory=Change(8e7, 3e8))
    return with_event(with_event(findings, "billing-core", "exit", killed=True), "billing-core", "restart")


def badly_deployed() -> Findings:
    findings = with_component(world(), "billing-core", served=dataclasses.replace(STEADY, errors=Change(0, 0.4)))
    return with_event(with_log(findings, "billing-core", "exception"), "billing-core", "deployment")


def full() -> Findings:
    return with_log(with_component(world(), "kv", full=Change(0.2, 1.0)), "billing-core", "oomcmd", peer="kv")


def misconfigured() -> Findings:
    findings = with_event(refused(world(), "ledger-db", "other"), "billing-core", "deployment")
    return with_log(findings, "billing-core", "badauth", peer="ledger-db")


def reconfigured() -> Findings:
    findings = with_component(world(), "billing-core", served=dataclasses.replace(STEADY, errors=Change(0, 0.9)))
    return with_event(with_line(findings, "billing-core", "KeyError: 'BILLING_API_KEY'"), "billing-core", "config_change")


TELLTALES: list[tuple[str, str, Callable[[], Findings]]] = [
    ("process.crash", "billing-core", crashed),
    ("process.hang", "billing-core", hung),
    ("resource.cpu", "billing-core", lambda: with_component(world(), "billing-core", cpu=Change(0.1, 0.9))),
    ("resource.memory_leak", "billing-core", leaking),
    ("resource.file_descriptors", "billing-core", lambda: with_log(world(), "billing-core", "toofiles")),
    ("network.latency", "billing-core", lambda: with_calls(world(), ("front-door", "billing-core"), gap=Change(0.001, 0.15))),
    ("network.partition", "billing-core", partitioned),
    ("dependency.connections", "ledger-db", lambda: with_log(world(), "billing-core", "toomany", peer="ledger-db")),
    ("dependency.lock", "ledger-db", lambda: with_component(world(), "ledger-db", locks=Change(0, 6))),
    ("dependency.cache_memory", "kv", full),
    ("configuration.credential", "billing-core", misconfigured),
    ("application.bad_deploy", "billing-core", badly_deployed),
    ("application.retry_storm", "front-door", storming),
    ("dependency.read_only", "ledger-db", lambda: with_line(world(), "billing-core", "read-only transaction", "ledger-db")),
    ("data.missing_table", "ledger-db", lambda: with_line(world(), "billing-core", 'relation "bills" does not exist', "ledger-db")),
    ("dependency.cache_password", "kv", lambda: with_line(world(), "billing-core", "NOAUTH Authentication required.", "kv")),
    ("configuration.missing_variable", "billing-core", reconfigured),
]


@pytest.mark.parametrize(("fault", "component", "make"), TELLTALES, ids=[fault for fault, _, _ in TELLTALES])
def test_rules_know_the_signature_of_each_fault(fault: str, component: str, make: Callable[[], Findings]) -> None:
    answer = parse_diagnosis(RulesAgent().diagnose([incident(make())])[0])
    assert answer is not None
    assert (answer.ranked()[0].component, answer.ranked()[0].fault) == (component, fault)


def test_rules_cover_the_taxonomy_and_leave_the_healthy_alone() -> None:
    assert set(SIGNATURES) == set(FAULT_TYPES) >= {fault for fault, _, _ in TELLTALES}
    decoys = with_event(with_event(world(), "billing-core", "deployment"), "kv", "config_change", seconds=-0.5)
    busier = with_component(decoys, "front-door", cpu=Change(0.1, 0.16))
    cases = [incident(findings) for findings in (world(), decoys, busier)]
    assert RulesAgent().diagnose(cases) == NullAgent().diagnose(cases)


def truth(fault: str, component: str) -> Truth:
    causes = (TrueCause(component=component, fault=fault),)
    return Truth(scenario="s", app="a", verdict="fault", causes=causes, chain=(component, "front-door"))


def test_the_oracle_scores_one_whatever_the_order() -> None:
    known = [(incident(make(), i), truth(fault, component)) for i, (fault, component, make) in enumerate(TELLTALES)]
    known.append((incident(world(), 99), Truth(scenario="s", app="a", verdict="healthy")))
    agent = OracleAgent(known)
    for case, of in reversed(known):
        assert score(agent.diagnose([case])[0], of, case.components).total == pytest.approx(1.0)
    with pytest.raises(InputError, match="truth of this incident"):
        agent.diagnose([incident(world(), 1000)])


def test_the_random_agent_repeats_itself_per_incident_and_seed() -> None:
    cases = [incident(world(), i) for i in range(60)]
    answers = RandomAgent(1).diagnose(cases)
    assert answers == RandomAgent(1).diagnose(list(reversed(cases)))[::-1]
    assert answers != RandomAgent(2).diagnose(cases)
    assert len({json.loads(a)["causes"][0]["fault"] for a in answers if json.loads(a)["causes"]}) > 6


def test_the_majority_agent_says_what_was_most_often_right() -> None:
    cases = [incident(world(), i) for i in range(5)]
    right = [truth("dependency.lock", "ledger-db")] * 3 + [truth("process.crash", "billing-core")] * 2
    agent = MajorityAgent(zip(cases, map(right_answer, right), strict=True))
    answer = parse_diagnosis(agent.diagnose([incident(crashed(), 7)])[0])
    assert answer is not None
    assert (answer.causes[0].component, answer.causes[0].fault, answer.causes[0].probability) == ("ledger-db", "dependency.lock", 0.6)
    assert MajorityAgent().diagnose(cases[:1]) == NullAgent().diagnose(cases[:1])


def test_shortcuts_follow_their_one_signal() -> None:
    seen = refused(world(), "billing-core", "refused")
    seen = with_component(seen, "billing-core", seen=dataclasses.replace(STEADY, errors=Change(0, 0.9)))
    deployed = with_event(with_event(world(), "kv", "config_change", seconds=0.1), "billing-core", "deployment", seconds=0.2)
    assert '"billing-core"' in MostErrorsAgent().diagnose([incident(seen)])[0]
    assert '"billing-core"' in LatestDeployAgent().diagnose([incident(deployed)])[0]
    early = dataclasses.replace(seen, onsets={"front-door": 0.31, "kv": 0.12, "billing-core": 0.13})
    assert '"kv"' in FirstAnomalyAgent().diagnose([incident(early)])[0]
    said = with_log(with_log(world(), "kv", "oomcmd", count=3), "ledger-db", "toomany", count=9)
    assert '"ledger-db"' in GrepAgent().diagnose([incident(said)])[0]
    calm = [incident(world())]
    assert FirstAnomalyAgent().diagnose(calm) == GrepAgent().diagnose(calm) == NullAgent().diagnose(calm)
    assert MostErrorsAgent().diagnose(calm) == LatestDeployAgent().diagnose(calm) == NullAgent().diagnose(calm)


def test_agents_are_made_by_name() -> None:
    for name in AGENT_NAMES:
        if ":" not in name:
            agent = make_agent(name)
            assert isinstance(agent, Agent)
            assert agent.name.partition(":")[0] == name
            if isinstance(agent, Investigator):
                with pytest.raises(InputError, match="reads no reports"):
                    agent.diagnose([incident(world())])
            else:
                assert parse_diagnosis(agent.diagnose([incident(world())])[0]) is not None
    with pytest.raises(InputError, match="did you mean 'rules'"):
        make_agent("rule")
    with pytest.raises(InputError, match="made from the truth"):
        make_agent("oracle")


def test_exports_are_sorted() -> None:
    assert sorted(chaosgym.agents.__all__) == chaosgym.agents.__all__


# ── language models ────────────────────────────────────────────────────────────────────────────────


CHAT = (
    "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant {% endif %}"
)


def save_model(folder: Path, words: Iterable[str], positions: int = 2048) -> Path:
    """A random model of some thousand parameters with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(["<pad>", "</s>", "<unk>", "<s>", *words]))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=positions, eos_token_id=1, pad_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("model"), incident(crashed()).compact.split())
    PromptFormat(rendering="compact", system="", max_new_tokens=8).save(folder)
    return folder


def test_a_model_answers_alike_alone_and_in_a_batch(model: Path) -> None:
    cases = [incident(make(), i) for i, (_, _, make) in enumerate(TELLTALES[:5])]
    agent = make_agent(f"slm:{model}")
    assert isinstance(agent, SlmAgent)
    assert agent.name == f"slm:{model.name}"
    answers = agent.diagnose(cases)
    assert answers == [agent.diagnose([case])[0] for case in cases]
    assert all(answers)
    assert agent.diagnose([]) == []


def test_what_is_heard_is_how_likely_the_model_finds_each_word(model: Path) -> None:
    import torch

    agent: Any = SlmAgent(model)
    prompts = [agent.prompt(incident(make(), i)) for i, (_, _, make) in enumerate(TELLTALES[:3])]
    heard: list[list[float]] = []
    texts = agent.generate(prompts, heard)
    assert texts == agent.generate(prompts)
    for prompt, logs in zip(prompts, heard, strict=True):
        asked = agent.tokens(prompt)
        said = agent._continue([asked])[0]
        with torch.inference_mode():
            scores = agent._model(torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
        assert logs == pytest.approx([float(score[token]) for score, token in zip(scores, said, strict=True)], abs=1e-4)


def test_prompts_hold_the_rendering_that_the_model_was_trained_on(model: Path, tmp_path: Path) -> None:
    case = incident(crashed())
    assert SlmAgent(model).prompt(case) == f"<s> user {case.compact} </s> <s> assistant "
    foreign = SlmAgent(save_model(tmp_path, ["a"]))
    assert foreign.format == PromptFormat()
    assert case.readable in foreign.prompt(case)
    assert INSTRUCTION in foreign.prompt(case)
    assert all(label in INSTRUCTION for label in FAULT_TYPES)


def test_handles_of_compact_answers_become_names() -> None:
    case = incident(crashed())
    handle = next(h for h, name in case.handles.items() if name == "kv")
    text = json.dumps({"verdict": "fault", "causes": [{"component": handle, "fault": "process.crash"}]})
    assert '"kv"' in PromptFormat(rendering="compact").read(text, case)
    assert PromptFormat(rendering="readable").read(text, case) == text


def test_unusable_models_are_refused_with_what_is_missing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        SlmAgent(tmp_path / "nowhere")
    with pytest.raises(InputError, match="so not a model"):
        SlmAgent(tmp_path)
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(InputError, match="without tokenizer"):
        SlmAgent(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((model / name).read_text())
    (tmp_path / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be loaded"):
        SlmAgent(tmp_path)
    (tmp_path / PROMPT_FILE).write_text('{"rendering": "song"}')
    with pytest.raises(InputError, match="rendering"):
        SlmAgent(tmp_path)


def test_a_prompt_longer_than_the_model_is_an_input_error(tmp_path: Path) -> None:
    agent = SlmAgent(save_model(tmp_path, ["a"], positions=64))
    with pytest.raises(InputError, match="64 positions"):
        agent.diagnose([incident(crashed())])


def test_the_shipped_model_answers_at_once() -> None:
    agent = make_agent("slm")
    assert agent.name == "slm:nano-rca"
    report = incident(crashed())
    found = parse_diagnosis(agent.diagnose([report])[0])
    assert found is not None
    assert {cause.component for cause in found.causes} <= set(report.components)
