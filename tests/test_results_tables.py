"""The tables of benchmarks/results.py: what is averaged over what, and what is paired with what."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from chaosgym.evaluation import EvaluationResult, Excluded, make_row
from chaosgym.evaluation.provenance import Provenance
from chaosgym.truth import Truth

NAMES = ("front-door", "billing-core")
ORIGIN = Provenance(seed=0, budget=700, batch_size=16, episodes_sha256="0", scenarios={}, majority="train", model={}, versions={})
HEALTHY = '{"verdict": "healthy"}'


def tables() -> Any:
    path = Path(__file__).parents[1] / "benchmarks/results_tables.py"
    spec = importlib.util.spec_from_file_location("results_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(fault: str) -> str:
    return json.dumps({"verdict": "fault", "causes": [{"component": NAMES[1], "fault": fault, "probability": 0.9}]})


def truth(scenario: str, split: str) -> Truth:
    return Truth.model_validate({
        "scenario": scenario, "app": "shop", "verdict": "fault", "split": split, "chain": NAMES,
        "causes": [{"component": NAMES[1], "fault": "process.crash"}],
    })


EPISODES = [truth("a", "seeds"), truth("b", "seeds"), truth("c", "apps"), truth("d", "faults")]


def write(out: Path, name: str, answers: list[str], asked: list[tuple[int, int]] | None = None) -> None:
    def rows(agent: str, texts: list[str]) -> list[Any]:
        return [make_row(agent, f"e{n}", of, NAMES, text, 0.01) for n, (of, text) in enumerate(zip(EPISODES, texts, strict=True))]

    def after(questions: tuple[int, int], row: Any) -> Any:
        return row.model_copy(update={"calls": questions[0], "spent": questions[1]})

    rails = {name: rows(name, [said("process.crash")] * 4) for name in ("oracle", "rules")} | {"null": rows("null", [HEALTHY] * 4)}
    answered = rows("slm:model", answers)
    answered = [after(one, row) for one, row in zip(asked, answered, strict=True)] if asked else answered
    result = {"agent": "slm:model", "rows": answered, "rails": rails, "excluded": Excluded(unscorable={}, invisible=())}
    EvaluationResult.model_validate({**result, "provenance": ORIGIN}).write(out / "eval" / name)
    (out / name).mkdir()
    (out / name / "summary.json").write_text(json.dumps({"steps": 1, "seconds": 2.0, "tokens": 3}))


def test_investigations_are_told_by_what_they_cost(tmp_path: Path) -> None:
    right, wrong = said("process.crash"), said("process.hang")
    write(tmp_path, "base", ["?"] * 4)
    write(tmp_path, "ask-0", [right, wrong, wrong, wrong], [(4, 8), (3, 5), (2, 4), (3, 7)])
    write(tmp_path, "ask+ppo-0", [right, right, right, wrong], [(4, 8), (5, 12), (4, 18), (3, 22)])
    tables().write_tables(tmp_path, {}, 1, tmp_path, {"ask": None, "ask+ppo": "ask", "ask+grpo": "ask"})
    found = json.loads((tmp_path / "results.json").read_text())["investigations"]
    assert list(found["stages"]) == ["ask", "ask+ppo"]
    assert found["stages"]["ask"]["calls"] == 3
    assert found["stages"]["ask"]["right_within"] == {"10": 0.25, "15": 0.25, "20": 0.25}
    assert found["stages"]["ask+ppo"]["right_within"] == {"10": 0.25, "15": 0.5, "20": 0.75}
    change = found["differences"]["ask+ppo - ask"]
    assert (change["seeds"]["value"], change["right_within"]["10"]["value"], change["calls"]["value"]) == (0.5, 0.0, 1.0)
    assert "| ask+ppo | 1 | 1.000 [" in (tmp_path / "results.md").read_text()  # of the split seeds


def test_means_are_over_seeds_and_differences_within_a_seed(tmp_path: Path) -> None:
    right, wrong = said("process.crash"), said("process.hang")
    write(tmp_path, "base", ["?"] * 4)
    write(tmp_path, "sft-0", [right, wrong, wrong, wrong])
    write(tmp_path, "sft-1", [wrong, wrong, wrong, wrong])
    write(tmp_path, "sft+grpo-0", [right, right, right, wrong])
    tables().write_tables(tmp_path, {"sft": None, "sft+grpo": "sft", "sft+ppo": "sft"}, 3, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["episodes"] == {"seeds": 2, "apps": 1, "faults": 1}
    assert list(found["stages"]) == ["pretrain", "sft", "sft+grpo"]  # what was not run is not in it
    assert found["stages"]["sft"]["seeds"]["seeds"] == [0.5, 0.0]
    assert found["stages"]["sft"]["seeds"]["value"] == pytest.approx(0.25)
    assert found["stages"]["sft"]["faults"]["value"] == 1.0  # component and family
    change = found["differences"]["sft+grpo - sft"]  # of seed 0 alone, which both have
    assert (change["seeds"]["value"], change["apps"]["value"]) == (0.5, 1.0)
    assert found["beside_rules"]["sft"]["seeds"]["value"] == pytest.approx(-0.75)
    page = (tmp_path / "results.md").read_text()
    assert "| sft+grpo | 1 | 1.000" in page
    tables().write_tables(tmp_path, {"sft": None}, 3, tmp_path)
    assert "sft+grpo" not in (tmp_path / "results.md").read_text()  # written anew between its marks
