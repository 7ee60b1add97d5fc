"""Writing scenarios and faults of one's own: drafts, explanations, refusals, plug-ins, and the tutorial that goes through them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chaosgym import plugin, taxonomy
from chaosgym.app import App
from chaosgym.cli import scenario as scenario_command
from chaosgym.cli.program import make_program
from chaosgym.diagnosis import parse_diagnosis
from chaosgym.document import read_document
from chaosgym.drawing import draw_plan
from chaosgym.errors import InputError
from chaosgym.evaluation.row import make_row
from chaosgym.faults import FAULTS, all_faults, make_fault, own
from chaosgym.faults.conformance import problems
from chaosgym.faults.template import fault_template
from chaosgym.incident.answer import answer_text
from chaosgym.incident.vocabulary import CLOSED_WORDS
from chaosgym.rewards import score
from chaosgym.sandbox.base import Capability
from chaosgym.scenario import Scenario
from chaosgym.scenarios import check, check_scenario, find_scenarios, load_app, load_scenario, scenario_path, shipped_scenarios
from chaosgym.scenarios import conflicts as conflicts_module
from chaosgym.scenarios.conflicts import reached
from chaosgym.scenarios.draft import Draft, default_targets, draft_scenario, fitting_targets
from chaosgym.scenarios.explain import explain
from chaosgym.truth import TrueCause, Truth

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "authoring.md"
OWN = "dependency.slow_disk"


def run(*arguments: str, answers: str | None = None) -> Result:
    return CliRunner().invoke(make_program(), list(arguments), prog_name="chaosgym", input=answers)


@pytest.fixture(autouse=True)
def nothing_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers or installs is gone after it."""
    for module, name in ((taxonomy, "_own"), (taxonomy, "_own_words"), (own, "_read"), (own, "_loaded")):
        monkeypatch.setattr(module, name, {})
    plugin.installed.cache_clear()
    yield
    plugin.installed.cache_clear()


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "slow_disk.py"
    path.write_text(fault_template(OWN))
    return path


# ── a fault of one's own ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("label", [OWN, "fault.sandbox", "network.late", "mine.x_1"])
async def test_what_faults_new_writes_conforms_and_does_something(label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = run("faults", "new", label)
    assert made.exit_code == 0, made.output
    path = tmp_path / f"{label.split('.')[1]}.py"
    assert len(path.read_text().splitlines()) < 50
    fault = own.load_file(path)
    assert await problems(fault) == []
    assert [line.split()[1] for line in made.stderr.splitlines()[1:]] == ["faults", "--faults", "--faults"]


def test_faults_new_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    assert run("faults", "new", OWN, "--out", str(path)).exit_code == 0
    path.write_text("mine")
    assert isinstance(run("fault", "new", OWN, "--out", str(path)).exception, InputError)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slow_disk", "should be family.type"),
        ("Dependency.Slow", "should be family.type"),
        ("dependency.slow-disk", "should be family.type"),
        ("process.crash", "is one of chaosgym's own (the process was killed"),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        fault_template(name)


def test_an_own_fault_is_usable_everywhere_a_fault_is_named(own_file: Path, tmp_path: Path) -> None:
    assert taxonomy.find(OWN) is None
    fault = own.load_file(own_file)
    assert own.load_file(own_file) is fault
    assert taxonomy.normalise("Slow-Disk") == OWN
    assert list(taxonomy.fault_types()) == [*taxonomy.FAULT_TYPES, OWN]
    assert list(all_faults()) == [*FAULTS, OWN]
    assert make_fault(OWN, "orders", {"delay": "50ms"}).parameters.delay == pytest.approx(0.05)
    assert json.loads(run("faults", "show", "slow disk", "--json").stdout)["name"] == OWN
    assert OWN in run("faults", "list").stdout
    answer = parse_diagnosis('{"verdict": "fault", "causes": [{"component": "a", "fault": "slow-disk"}]}')
    assert answer is not None
    assert answer.causes[0].fault == OWN
    assert OWN in answer_text(answer, {"c1": "a"})
    assert OWN not in CLOSED_WORDS
    truth = Truth(scenario="x", app="shop", verdict="fault", causes=(TrueCause(component="a", fault=OWN),), visible=True)
    assert score(answer.to_json(), truth, {"a", "b"}).terms["fault"] == 1
    assert make_row("me", "e1", truth, {"a", "b"}, answer.to_json(), 0.0).said_label == OWN
    scenario = tmp_path / "mine.yaml"
    assert run("scenario", "new", str(scenario), "--fault", OWN).exit_code == 0
    assert check_scenario(scenario) == []
    plan = draw_plan(load_app("shop"), load_scenario(scenario), 1)
    assert plan.faults[0].target in plan.proxied


def test_an_own_fault_is_loaded_by_one_option_of_any_command(own_file: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "mine.yaml"
    made = run("--faults", str(own_file), "scenario", "new", str(scenario), "--fault", OWN, "--target", "database")
    assert made.exit_code == 0, made.exception
    assert made.stderr.count("--faults") == 3
    code = "from chaosgym.cli import main; main()"
    for options, exit_code in ([], 2), (["--faults", str(own_file)], 0):
        command = [sys.executable, "-c", code, *options, "scenario", "check", str(scenario)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == exit_code, done.stderr
        assert ("unknown fault" in done.stdout) == (exit_code == 2)


def test_an_unknown_fault_in_a_truth_says_how_to_name_it() -> None:
    with pytest.raises(ValueError, match=r"unknown fault 'dependency\.slow_disk'.*chaosgym --faults FILE\.py"):
        TrueCause(component="a", fault=OWN)


FLAWS = [
    ('    summary = "the component answers late"', '    summary = ""', "has no `summary`"),
    (f'label = "{OWN}"', 'label = "process.crash"', "is one of chaosgym's own"),
    (f'label = "{OWN}"', "", "no label"),
    ('("slow_disk",)', '("crash",)', "synonym 'crash' already stands for process.crash"),
    ('("slow_disk",)', '("slow_disk")', "synonyms should be several, as in ('slow_disk',)"),
    ('"service", "postgres"', '"servlet", "postgres"', "kinds"),
    ('"link"', '"telepathy"', "needs ['telepathy']"),
    ("sandbox.toxic(self.target, None)", "sandbox.toxin(self.target, None)", "raises AttributeError"),
    ("await sandbox.link_toxic", "await sandbox.links_toxic", "verify on 'cache' raises AttributeError"),
    ("async def heal", "async def heel", "no heal"),
    ("        await sandbox.toxic(self.target, None)", "        pass", "leaves {('toxic'"),
]


@pytest.mark.parametrize(("old", "new", "said"), FLAWS, ids=[said for *_, said in FLAWS])
def test_faults_check_says_what_is_wrong(own_file: Path, old: str, new: str, said: str) -> None:
    text = own_file.read_text()
    assert old in text
    own_file.write_text(text.replace(old, new))
    shown = run("faults", "check", str(own_file), "--json")
    assert shown.exit_code == 1, shown.exception
    (row,) = json.loads(shown.stdout)
    assert not row["ok"]
    assert any(said in problem for problem in row["problems"]), row["problems"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (", "mine.py:1: SyntaxError"),
        ("x = 1\nimport no_such_module\n", "mine.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n", "this one has none"),
        (fault_template("a.b") + "\n\nclass C(B):\n    pass\n", "this one has B, C"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        own.read_file(path)


def test_a_parameter_without_default_is_given_as_an_example(own_file: Path) -> None:
    own_file.write_text(own_file.read_text().replace("Field(ge=0.001, le=5)] = 0.1", "Field(ge=0.001, le=5)]"))
    assert run("faults", "check", str(own_file)).exit_code == 1
    assert run("faults", "check", str(own_file), "--parameter", "delay=50ms").exit_code == 0
    assert isinstance(run("faults", "check", str(own_file), "--parameter", "delay").exception, InputError)


# ── an installed one ───────────────────────────────────────────────────────────────────────────────


def install(folder: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with one entry point, as pip would leave it behind."""
    info = folder / "my_faults-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-faults\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[chaosgym.faults]\nslow-disk = {value}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, value.split(":")[0], raising=False)


def test_an_installed_fault_is_found_when_somebody_asks(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(own_file.parent, "slow_disk:SlowDisk", monkeypatch)
    assert make_fault("process.crash", "orders").label == "process.crash"
    assert "slow_disk" not in sys.modules  # nobody has asked for what is not ours
    assert taxonomy.normalise("slow disk") == OWN
    assert make_fault(OWN, "orders").label == OWN
    own.load_file(own_file)
    with pytest.raises(InputError, match=r"is both in .*slow_disk\.py and in entry point 'slow-disk' of my-faults 0\.1"):
        all_faults()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("slow_disk:FastDisk", "AttributeError"),
        ("no_such_module:X", "ModuleNotFoundError"),
        ("slow_disk:Duration", "is no class on chaosgym.faults.base.Fault"),
        ("slow_disk:Toxic", "is no class on chaosgym.faults.base.Fault"),
    ],
)
def test_a_broken_plug_in_is_one_clear_error(own_file: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    install(own_file.parent, value, monkeypatch)
    shown = run("faults", "list")
    assert isinstance(shown.exception, InputError)
    assert "entry point 'slow-disk' of my-faults 0.1" in str(shown.exception)
    assert said in str(shown.exception)
    assert run("faults", "show", "process.crash").exit_code == 0


def test_the_same_label_with_another_meaning_is_refused() -> None:
    taxonomy.register(taxonomy.FaultType(OWN, "one thing"))
    taxonomy.register(taxonomy.FaultType(OWN, "one thing"))
    with pytest.raises(InputError, match="is known already, with another meaning"):
        taxonomy.register(taxonomy.FaultType(OWN, "another thing"))


# ── a scenario of one's own ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("label", FAULTS)
def test_a_draft_of_any_fault_passes_the_check(label: str, tmp_path: Path) -> None:
    app = load_app("shop")
    targets = default_targets(Draft("mine", app, FAULTS[label], ()))
    path = tmp_path / "mine.yaml"
    path.write_text(draft_scenario(Draft("mine", app, FAULTS[label], targets, "hard")))
    assert check_scenario(path) == []
    assert load_scenario(path).metadata.difficulty == "hard"


def test_a_draft_has_ranges_around_the_defaults_of_the_fault() -> None:
    draft = Draft("mine", load_app("shop"), FAULTS["network.latency"], ("orders", "payments"))
    text = draft_scenario(draft)
    assert "    target: {choice: [orders, payments]}\n    delay: {loguniform: [100ms, 220ms]}  # Added to each direction, " in text
    assert "      target: ${target}\n      parameters:\n        delay: ${delay}\n" in text
    assert "jitter" not in text


def test_a_draft_takes_only_what_the_fault_fits(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    shown = run("scenario", "new", str(path), "--fault", "dependency.lock", "--target", "cache")
    assert "dependency.lock cannot hit a redis; it fits postgres; in this app database would do" in str(shown.exception)
    assert not path.exists()
    assert fitting_targets(load_app("shop"), FAULTS["dependency.lock"]) == ["database"]


def test_scenario_new_asks_for_what_no_option_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_command, "_asks", lambda: True)
    path = tmp_path / "mine.yaml"
    shown = run("scenario", "new", str(path), "--app", "shop", answers="resource.cpv\nresource.cpu\ncache\ncart\nhard\n")
    assert shown.exit_code == 0, shown.output
    assert "did you mean 'resource.cpu'" in shown.stderr
    assert "there is no component 'cache'" in shown.stderr
    spec = load_scenario(path).spec
    assert (spec.faults[0].fault, spec.faults[0].target) == ("resource.cpu", "cart")
    assert load_scenario(path).metadata.difficulty == "hard"
    assert [line.strip().split(" mine")[0].split(" /")[0] for line in shown.stderr.splitlines()[-3:]] == [
        "chaosgym scenario check", "chaosgym scenario check --live", "chaosgym run",
    ]


@pytest.mark.parametrize("name", shipped_scenarios())
def test_every_shipped_scenario_can_be_explained(name: str) -> None:
    scenario = load_scenario(name)
    text = explain(scenario, load_app(scenario.spec.app))
    assert all(fault.fault in text for fault in scenario.spec.faults)
    assert all(parameter in text for parameter in scenario.spec.parameters)
    assert max(map(len, text.splitlines())) <= 120


def test_an_explanation_is_complete() -> None:
    shown = run("scenario", "show", "--explain", "application-retry-storm")
    text = " ".join(shown.stdout.split())
    for said in (
        "1.2s of baseline", "on orders (service) or cart (service) or recommendations (service)", "A dependency gets slow",
        "caller orders with dependency payments", "4 to 8, everything between as likely", "60ms to 120ms, each doubling as likely",
        "its callers: errors up", "deploy, in 50% of the episodes", "with the cause application.retry_storm", "split `train`",
    ):
        assert said in text, said
    both = json.loads(run("scenario", "show", "--explain", "application-retry-storm", "--json").stdout)
    assert both["explanation"].split() == shown.stdout.split()
    assert "whoever calls it healthy is right" in run("scenario", "show", "--explain", "healthy-steady").stdout


# ── what cannot be, and what would work instead ────────────────────────────────────────────────────

TWO = """\
apiVersion: chaosgym.dev/v1
kind: Scenario
metadata: {{name: two}}
spec:
  app: shop
  parameters: {parameters}
  faults:
    - fault: {first}
      target: {one}
    - fault: {second}
      target: {other}
"""


def two(folder: Path, first: str, one: str, second: str, other: str, parameters: str = "{}") -> list[str]:
    path = folder / "two.yaml"
    path.write_text(TWO.format(first=first, one=one, second=second, other=other, parameters=parameters))
    return check_scenario(path)


@pytest.mark.parametrize(
    ("first", "one", "second", "other", "said"),
    [
        ("network.latency", "cart", "network.partition", "cart", "both act on the link to 'cart', where the second replaces the first"),
        ("network.latency", "catalog", "application.retry_storm", "recommendations", "both act on the link to 'catalog'"),
        ("application.bad_deploy", "orders", "configuration.credential", "orders", "both roll 'orders' out"),
        ("resource.cpu", "orders", "resource.cpu", "orders", "resource.cpu hits 'orders' twice"),
        ("resource.cpu", "orders", "application.bad_deploy", "orders", "ends the process of 'orders' that resource.cpu is in"),
        ("process.crash", "orders", "process.hang", "orders", "process.crash leaves 'orders' without a process"),
    ],
)
def test_two_faults_that_exclude_each_other_are_refused(tmp_path: Path, first: str, one: str, second: str, other: str, said: str) -> None:
    (line,) = two(tmp_path, first, one, second, other)
    assert said in line
    assert line.startswith(f"{tmp_path / 'two.yaml'}:11:15: spec.faults.1.target: ")
    assert f"break another component with {second}, such as" in line


@pytest.mark.parametrize(
    ("first", "one", "second", "other"),
    [
        ("network.latency", "cart", "network.partition", "orders"),
        ("network.latency", "cart", "resource.cpu", "cart"),
        ("application.bad_deploy", "orders", "resource.cpu", "orders"),
        ("process.crash", "orders", "network.latency", "orders"),
    ],
)
def test_two_faults_that_go_together_are_not(tmp_path: Path, first: str, one: str, second: str, other: str) -> None:
    assert two(tmp_path, first, one, second, other) == []


def test_targets_that_may_meet_are_refused_with_the_way_to_draw_them(tmp_path: Path) -> None:
    names = "{a: {choice: [cart, orders]}, b: {choice: [orders, payments]}}"
    (line,) = two(tmp_path, "network.latency", "${a}", "network.partition", "${b}", names)
    assert "the link to 'orders'" in line
    assert "draw both targets from one parameter with parts" in line
    assert "spec.parameters.b.choice.0" in line
    apart = "{pair: {choice: [{a: cart, b: orders}, {a: orders, b: payments}]}}"
    assert two(tmp_path, "network.latency", "${pair.a}", "network.partition", "${pair.b}", apart) == []


def changed(folder: Path, name: str, old: str, new: str, without: str = "-") -> Path:
    """A shipped file with another text in it, and without the two lines of a section."""
    text = re.sub(rf"  {without}:\n.*\n", "", scenario_path(name).read_text(encoding="utf-8"))
    assert old in text
    path = folder / "mine.yaml"
    path.write_text(text.replace(old, new))
    return path


def test_a_fault_of_sql_on_a_cache_is_told_where_it_would_work(tmp_path: Path) -> None:
    (line,) = check_scenario(changed(tmp_path, "dependency-lock", "target: database", "target: cache"))
    assert "dependency.lock cannot hit a redis; it fits postgres; in this app database would do, and a redis can have dependency." in line


@pytest.mark.parametrize(
    ("fault", "target", "said"),
    [
        ("configuration.port", "payments", "'payments' does not call anything over http; it calls nothing; in this app gateway, cart,"),
        ("application.retry_storm", "payments", "'payments' calls no other component, so application.retry_storm has none to act through"),
        ("configuration.credential", "cart", "'cart' uses no database"),
    ],
)
def test_what_a_fault_itself_has_against_a_target_is_told(tmp_path: Path, fault: str, target: str, said: str) -> None:
    old, new = "fault: process.crash\n      target: ${target}", f"fault: {fault}\n      target: {target}"
    (line,) = check_scenario(changed(tmp_path, "process-crash", old, new, "parameters"))
    assert said in line
    assert re.search(r"mine\.yaml:\d+:15: spec\.faults\.0\.target: ", line)


async def test_a_scenario_can_be_checked_while_a_loop_runs() -> None:
    assert check_scenario("configuration-credential") == []


def test_a_capability_that_the_sandbox_lacks_is_told_with_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    able: frozenset[Capability] = frozenset({"signal", "sql"})
    monkeypatch.setattr(check, "SANDBOXES", {"local": able})
    (line,) = check_scenario(changed(tmp_path, "process-crash", "${target}", "orders", "parameters"))
    assert "process.crash needs what this sandbox cannot do: hold" in line
    assert "this app has nothing else for it, and a service can have process.hang" in line


@pytest.mark.parametrize(
    ("section", "place"), [("timeline: {baseline: 300ms}", "spec.timeline.baseline"), ("workload: {rate: 2}", "spec.workload.rate")]
)
def test_an_slo_that_too_few_users_would_measure_is_refused(tmp_path: Path, section: str, place: str) -> None:
    (line,) = check_scenario(changed(tmp_path, "process-crash", "app: shop", f"app: shop\n  {section}"))
    assert f": {place}" in line
    assert "too few to measure the app's SLO; write a baseline of" in line


def kiosk(journey: str, folder: Path) -> Path:
    """The app of docs/scenarios.md."""
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: App" in block]
    path = folder / "kiosk.yaml"
    path.write_text(re.sub(r"journeys:\n.*", journey, text))
    return path


def test_an_app_without_a_journey_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journey: nobody would use the app, and its SLO could not be measured; write one"):
        read_document(kiosk("journeys: {}\n", tmp_path), App)


def test_an_app_whose_requests_go_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = kiosk("journeys: {look: {weight: 1, requests: [product]}}\n", tmp_path)
    text = path.read_text()
    path.write_text(text.replace("            - cache: cache", "            - {call: catalog, endpoint: get}\n            - cache: cache"))
    with pytest.raises(InputError, match=r"kiosk\.yaml:\d+:\d+: .*calls itself: catalog\.get -> catalog\.get; break the cycle"):
        read_document(path, App)


def test_a_component_that_no_journey_touches_is_refused(tmp_path: Path) -> None:
    path = kiosk("journeys: {look: {weight: 1, requests: [hello]}}\n", tmp_path)
    path.write_text(path.read_text().replace("        product:\n", "        hello: {}\n        product:\n"))
    app = load_app(path)
    assert reached(app) == {"gateway"}
    scenario = changed(tmp_path, "process-crash", "${target}", "catalog", "parameters")
    (line,) = check_scenario(scenario, app)
    assert "no journey of 'kiosk' touches 'catalog', so nobody would see it broken; they touch gateway" in line
    assert reached(load_app("shop")) == set(load_app("shop").spec.components)


def test_training_on_what_is_held_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = find_scenarios("*")
    hang = load_scenario("process-hang")
    held = hang.model_copy(update={"metadata": hang.metadata.model_copy(update={"split": "faults"})})

    def with_one_held_out(pattern: str) -> list[Scenario]:
        return [held if s.metadata.name == "process-hang" else s for s in shipped]

    monkeypatch.setattr(conflicts_module, "find_scenarios", with_one_held_out)
    path = changed(tmp_path, "process-hang", "name: process-hang", "name: mine")
    (line,) = [line for line in check_scenario(path) if "process.hang" in line]
    assert "'process-hang' holds process.hang out for the split `faults`, and training on it would give it away" in line
    assert re.search(r"write `split: faults` under metadata, or break with process\.\w+$", line)
    assert re.search(r"mine\.yaml:\d+:\d+: spec\.faults\.0\.fault: ", line)
    path.write_text(path.read_text().replace("name: mine", "name: mine\n  split: faults"))
    assert check_scenario(path) == []
    draft = Draft("mine", load_app("shop"), FAULTS["process.hang"], ("orders",))
    assert "split: faults" in draft_scenario(draft)


def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = changed(tmp_path, "dependency-lock", "target: database", "target: cache")
    for arguments in (["run", str(path)], ["record", "--scenarios", str(path), "--out", str(tmp_path / "out")]):
        assert "cannot hit a redis" in str(run(*arguments).exception)
    assert not (tmp_path / "out").exists()


# ── the tutorial ───────────────────────────────────────────────────────────────────────────────────


def blocks() -> list[tuple[list[str], str]]:
    """(words after the fence, text) of every fenced block."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [(info.split(), text) for info, text in found]


def follow(folder: Path, *, live: bool) -> None:
    """Do what the tutorial says: write its files, run its commands, and see what it shows."""
    program = folder / "bin" / "chaosgym"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m chaosgym.cli "$@"\n')
    program.chmod(0o755)
    environment: dict[str, Any] = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    seen = ""
    for words, text in blocks():
        match words:
            case ["yaml" | "python" | "toml", name]:
                (folder / name).write_text(text)
            case ["sh", "run"] | ["sh", "live"] if words[1] == "run" or live:
                command = f"set -e\n{text}"
                done = subprocess.run(
                    ["bash", "-c", command], cwd=folder, env=environment, text=True, timeout=400, check=False,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )
                seen = f"{done.stdout.strip()}\n[exit {done.returncode}]" if done.returncode else done.stdout.strip()
                assert (done.returncode == 0) or words[1] == "run", f"{text}{seen}"
            case ["text", "output"]:
                lines = [re.escape(line).replace(r"\.\.\.", ".*") for line in text.splitlines()]
                pattern = "".join(r"(?:.*\n)*?" if line == ".*" else f"{line}\n" for line in lines)
                assert re.fullmatch(pattern, f"{seen}\n"), f"the tutorial shows\n{text}\nbut there is\n{seen}"
            case _:
                pass


@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    follow(tmp_path, live=False)


@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_does_what_it_says_live(tmp_path: Path) -> None:
    follow(tmp_path, live=True)
