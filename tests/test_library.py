"""The library of scenarios: complete, consistent, checked; how it is found; and the JSON Schemas for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from chaosgym.errors import InputError
from chaosgym.scenario import Scenario
from chaosgym.scenarios import (
    check_scenario,
    find_scenarios,
    library,
    load_app,
    load_scenario,
    runs_on,
    scenario_path,
    shipped_apps,
    shipped_scenarios,
)
from chaosgym.scenarios.schema import app_schema, scenario_schema, schema_files, write_schemas
from chaosgym.taxonomy import FAULT_TYPES

SCHEMAS = Path(__file__).parents[1] / "docs" / "schema"
FILES = sorted(library().glob("*/*.yaml"))


def test_the_library_covers_every_fault_and_health() -> None:
    covered = {fault.fault for scenario in find_scenarios("*") for fault in scenario.spec.faults}
    assert covered == set(FAULT_TYPES)
    assert any(not scenario.spec.faults for scenario in find_scenarios("*"))
    assert "shop" in shipped_apps()


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_shipped_scenario_can_happen_and_is_named_after_its_place(name: str) -> None:
    scenario = load_scenario(name)
    assert check_scenario(name) == check_scenario(scenario) == []
    assert scenario.metadata.name == name
    assert scenario.metadata.title
    assert load_scenario(name.replace("-", "/", 1)) == scenario
    assert Scenario.model_validate_json(scenario.model_dump_json(by_alias=True)) == scenario


def test_all_scenarios_have_the_same_decoys_and_show_the_same() -> None:
    """Those of the platform take as long as a cluster takes; the rest is the same for all."""
    everywhere = [scenario.spec for scenario in find_scenarios("*") if "local" in runs_on(scenario)]
    platform = [scenario.spec for scenario in find_scenarios("platform-*")]
    assert len(everywhere) + len(platform) == len(shipped_scenarios())
    for specs in (everywhere, platform):
        assert len({(spec.decoys, spec.show, spec.workload, spec.timeline) for spec in specs}) == 1
    assert everywhere[0].decoys == platform[0].decoys


# ── finding ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pattern", "count"), [("*", None), ("process-*", 8), ("process/*", 8), ("network-latency", 1), ("process-*,network-latency", 9)]
)
def test_globs_match_names_and_places(pattern: str, count: int | None) -> None:
    found = find_scenarios(pattern)
    assert len(found) == (len(shipped_scenarios()) if count is None else count)
    assert [scenario.metadata.name for scenario in found] == sorted(scenario.metadata.name for scenario in found)


def test_globs_match_files(tmp_path: Path) -> None:
    text = (library() / "process" / "crash.yaml").read_text()
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(text.replace("process-crash", name))
    found = find_scenarios(str(tmp_path / "*.yaml"))
    assert [scenario.metadata.name for scenario in found] == ["one", "two"]
    (tmp_path / "three.yaml").write_text(text.replace("process-crash", "two"))
    with pytest.raises(InputError, match="a scenario named 'two' is also in"):
        find_scenarios(str(tmp_path / "*.yaml"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("proces-crash", "did you mean 'process-crash'"),
        ("nothing-*", "no scenario matches"),
        ("/none/*.yaml", "no file matches"),
        ("", "no scenario"),
    ],
)
def test_a_glob_that_matches_nothing_says_what_there_is(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_scenarios(pattern)


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no scenario 'process-crush' in the library - did you mean 'process-crash'\?"):
        load_scenario("process-crush")
    with pytest.raises(InputError, match=r"no app 'shops' .* did you mean 'shop'\?; `chaosgym apps list`"):
        load_app("shops")
    with pytest.raises(InputError, match=r"mine\.yaml: no such file"):
        load_scenario("mine.yaml")


# ── the static check ───────────────────────────────────────────────────────────────────────────────


IMPOSSIBLE = [
    ("process-crash", "[catalog, cart,", "[catalog, ^kart,", "app 'shop' has no component 'kart'", "did you mean 'cart'"),
    ("dependency-lock", "target: database", "target: ^cache", "dependency.lock cannot hit a redis", "it fits postgres"),
    ("dependency-lock", "[products,", "[^prices,", "'database' has no table 'prices'", "it has products, stock"),
    (
        "application-retry-storm",
        "dependency: catalog}",
        "dependency: cart}",
        "'recommendations' has no dependency 'cart'",
        "it has catalog",
    ),
    ("resource-cpu", "[0.6, 0.95]", "[0.6, ^9.5]", "duty of resource.cpu: should be less than", "not 9.5"),
    ("resource-cpu", "duty: ${duty}", "^dutty: ${duty}", "no parameter 'dutty'; it has duty", "did you mean 'duty'"),
    ("configuration-credential", "[catalog, orders,", "[^cart, orders,", "'cart' uses no database", "catalog, inventory"),
    ("process-crash", "app: shop", "app: ^shoop", "no app 'shoop' in the library", "did you mean 'shop'"),
]


@pytest.mark.parametrize(("name", "old", "new", "what", "more"), IMPOSSIBLE, ids=[what[:40] for *_, what, _ in IMPOSSIBLE])
def test_the_impossible_is_told_where_it_is_written(tmp_path: Path, name: str, old: str, new: str, what: str, more: str) -> None:
    text = scenario_path(name).read_text(encoding="utf-8")
    assert old in text
    before, mark, after = text.replace(old, new).partition("^")
    path = tmp_path / "mine.yaml"
    path.write_text(before + after, encoding="utf-8")
    found = check_scenario(path)
    assert len(found) == 1, found
    assert what in found[0]
    assert more in found[0]
    if mark:
        row, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        assert found[0].startswith(f"{path}:{row}:{column}: spec.")


def test_a_sandbox_that_cannot_do_a_fault_is_refused_for_each_target(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = scenario_path("network-loss").read_text(encoding="utf-8")
    path.write_text(text.replace("app: shop", "app: shop\n  sandboxes: [local, docker]"), encoding="utf-8")
    found = check_scenario(path)
    assert found
    assert all("in sandbox 'docker': network.loss needs what this sandbox cannot do: packets" in line for line in found)
    assert runs_on(load_scenario("network-loss")) == ("local",)


def test_a_loaded_scenario_is_checked_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(scenario_path("dependency-lock").read_text(encoding="utf-8").replace("[products,", "[prices,"), encoding="utf-8")
    (scenario,) = find_scenarios(str(path))
    (line,) = check_scenario(scenario)
    assert line.startswith(f"{path}:14:22: spec.parameters.table.choice.0: 'database' has no table 'prices'")


def test_a_scenario_built_in_code_is_checked_by_its_name() -> None:
    scenario = load_scenario("process-crash")
    spec = scenario.spec.model_copy(update={"faults": (scenario.spec.faults[0].model_copy(update={"target": "kart"}),)})
    (line,) = check_scenario(scenario.model_copy(update={"spec": spec}))
    assert line.startswith("process-crash: spec.faults.0.target: app 'shop' has no component 'kart'")


# ── JSON Schema ────────────────────────────────────────────────────────────────────────────────────


def test_exported_schemas_are_fresh() -> None:
    for name, text in schema_files().items():
        assert (SCHEMAS / name).read_text(encoding="utf-8") == text, "write them again: python -m chaosgym.scenarios.schema"


def test_schemas_are_written_to_any_folder(tmp_path: Path) -> None:
    assert [path.name for path in write_schemas(tmp_path / "new")] == ["app.schema.json", "scenario.schema.json"]
    assert json.loads((tmp_path / "new" / "app.schema.json").read_text())["title"] == "App"


def without_description(schema: Any, at: str = "") -> list[str]:
    found = [f"{at}.{name}" for name, field in schema.get("properties", {}).items() if "description" not in field and "$ref" not in field]
    return found + [entry for name, part in schema.get("$defs", {}).items() for entry in without_description(part, name)]


@pytest.mark.parametrize("schema", [app_schema(), scenario_schema()], ids=["app", "scenario"])
def test_schemas_are_valid_and_every_field_is_described(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert without_description(schema) == []


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_shipped_files_fit_their_schema_and_point_editors_to_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kind = "app" if path.parent.name == "apps" else "scenario"
    first = text.splitlines()[0]
    assert first == f"# yaml-language-server: $schema=../../../docs/schema/{kind}.schema.json"
    assert (path.parent / first.split("=")[1]).resolve() == (SCHEMAS / f"{kind}.schema.json").resolve()
    schema = app_schema() if kind == "app" else scenario_schema()
    assert [error.message for error in Draft202012Validator(schema).iter_errors(yaml.safe_load(text))] == []


def test_the_schema_refuses_parameters_of_another_fault() -> None:
    document = yaml.safe_load((library() / "resource" / "cpu.yaml").read_text())
    document["spec"]["faults"][0]["parameters"] = {"rate": "64MiB"}
    assert list(Draft202012Validator(scenario_schema()).iter_errors(document))


def test_scenarios_are_found_by_tag() -> None:
    basics = find_scenarios("tag:basics")
    assert len(basics) == 14
    assert all("basics" in scenario.metadata.tags for scenario in basics)
    with pytest.raises(InputError, match=r"no scenario matches 'tag:nothing': the library's tags are .*basics"):
        find_scenarios("tag:nothing")


def test_scenarios_are_found_by_split() -> None:
    assert {scenario.spec.app for scenario in find_scenarios("split:apps")} == {"chat", "generated-7"}
    assert sum(len(find_scenarios(f"split:{split}")) for split in ("train", "apps", "faults")) == len(find_scenarios("*"))
    with pytest.raises(InputError, match=r"no scenario matches 'split:none': the library's splits are apps, faults, train"):
        find_scenarios("split:none")
