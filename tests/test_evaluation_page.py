"""The page: whole, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chaosgym.errors import InfrastructureError, InputError
from chaosgym.evaluation import Curve, EvaluationResult, Example, Excluded, compare, make_row, read_curve, render_page, write_page
from chaosgym.evaluation.provenance import Provenance
from chaosgym.evaluation.tables import Table
from chaosgym.truth import TrueCause, Truth

NAMES = ("front<door>", "billing & core")
CRASH = Truth(scenario="crash", app="shop", verdict="fault", causes=(TrueCause(component=NAMES[1], fault="process.crash"),))
CALM = Truth(scenario="calm", app="shop", verdict="healthy")
RIGHT = json.dumps({"verdict": "fault", "causes": [{"component": NAMES[1], "fault": "process.crash"}]})
HEALTHY = '{"verdict": "healthy"}'
ORIGIN = Provenance(
    seed=0, budget=700, batch_size=16, episodes_sha256="0", scenarios={}, majority="train", model={}, versions={"python": "3.11"}
)


def made(agent: str, crash: str, calm: str = HEALTHY) -> EvaluationResult:
    def rows(name: str, crash: str, calm: str) -> list[object]:
        pairs = [(CRASH, crash)] * 6 + [(CALM, calm)] * 2
        return [make_row(name, f"e{i}", of, NAMES, text, 0.01) for i, (of, text) in enumerate(pairs)]

    return EvaluationResult.model_validate({
        "agent": agent,
        "rows": rows(agent, crash, calm),
        "rails": {"null": rows("null", HEALTHY, HEALTHY)},
        "excluded": Excluded(unscorable={"e8": "the <sandbox> died"}, invisible=("e9",)),
        "examples": (Example(episode="e0", report="# Alert\n<b>billing</b>"), Example(episode="e7", report="calm")),
        "provenance": ORIGIN,
    })


SFT, GRPO = made("sft", "no <idea>"), made("grpo", RIGHT)
CURVES = (
    Curve("sft", {"loss": [(1, 3.0), (2, 1.0)]}),
    Curve("grpo", {"loss": [(1, 0.1), (2, 0.1)], "reward": [(1, 0.2), (2, 0.6)], "accuracy/apps": [(1, 0.1), (2, 0.3)]}),
)


@pytest.fixture(scope="module")
def page() -> str:
    return render_page([SFT, GRPO], compare(SFT, GRPO), CURVES, title="Quick & start", facts={"minutes": "12.5"})


class Balanced(HTMLParser):
    """Follows which elements are open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it, with its id."""
        if tag != "meta":
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens nothing."""
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        """Must be the last that was opened."""
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    found = Balanced(page)
    assert (found.open, found.wrong) == ([], [])
    assert len(found.ids) == len(set(found.ids)) > 0


def test_the_page_needs_nothing_else(page: str) -> None:
    outside = set(re.findall(r'(?:src|href)="(?!#)([^"]*)"', page)) | set(re.findall(r"url\((?!#)([^)]*)\)", page))
    assert outside == set()
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_pictures_take_their_ink_from_the_page(page: str) -> None:
    assert page.count("<svg") == 2
    assert "currentColor" in page
    assert "var(--line)" in page
    assert "prefers-color-scheme: dark" in page
    assert "#010203" not in page


def test_the_page_shows_everything(page: str) -> None:
    titles = ("Agents", "How often right", "Pair by pair", "Fault by fault", "Learning curves", "Some of the incidents")
    assert [title for title in titles if f"<h2>{title}</h2>" not in page] == []
    assert "grpo is better than sft on 8 episodes" in page
    assert "8 of 10" in page
    assert "1 (10.0%)" in page
    assert "12.5" in page
    assert "grpo: reward" in page
    assert "grpo: loss" not in page


def test_what_others_wrote_is_escaped(page: str) -> None:
    assert "<title>Quick &amp; start</title>" in page
    assert "&lt;b&gt;billing&lt;/b&gt;" in page
    assert "no &lt;idea&gt;" in page
    assert "process.crash at billing &amp; core" in page
    assert "the &lt;sandbox&gt; died" in page


def test_examples_show_the_truth_beside_the_answers(page: str) -> None:
    first = page.index("Some of the incidents")
    assert '<span class="right-word">✓ grpo</span>' in page[first:]
    assert '<span class="wrong-word">✗ sft</span>' in page[first:]


def test_the_same_results_give_the_same_page() -> None:
    assert render_page([SFT, GRPO], curves=CURVES) == render_page([SFT, GRPO], curves=CURVES)


def test_without_matplotlib_the_page_says_how_to_get_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosgym.evaluation.page.missing_modules", lambda extra: ["matplotlib"])
    found = render_page([SFT], curves=CURVES)
    assert "<svg" not in found
    assert found.count("pip install &#x27;chaosgym[view]&#x27;") == 2 or found.count("pip install 'chaosgym[view]'") == 2
    assert "<h2>Agents</h2>" in found


def test_learning_curves_of_splits_stand_in_one_panel(page: str) -> None:
    assert "grpo: right answers" in page
    assert "grpo: loss" not in page


def test_results_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="at least one result"):
        render_page([])
    with pytest.raises(InputError, match="two results are called 'sft'"):
        render_page([SFT, SFT])
    assert "sft again" in render_page([SFT, SFT.named("sft again")])
    with pytest.raises(InputError, match="different episodes"):
        render_page([SFT, GRPO.model_copy(update={"rows": GRPO.rows[:3]})])


def test_a_page_lands_in_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    assert write_page(tmp_path / "a" / "b.html", [SFT]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(InfrastructureError, match="cannot write the page"):
        write_page(tmp_path / "a" / "b.html" / "c.html", [SFT])


def test_curves_are_read_from_a_run(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 2.0, "note": "x"}\n{"step": 2, "loss": 1.5}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    found = read_curve(tmp_path, "sft")
    assert found == Curve("sft", {"loss": [(1.0, 2.0), (2.0, 1.0)]})
    assert read_curve(file).name == tmp_path.name
    file.write_text('{"loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl:1: not an object with a step"):
        read_curve(tmp_path)
    with pytest.raises(InputError, match="pass a run directory"):
        read_curve(tmp_path / "none")


def test_tables_are_aligned_and_their_cells_cannot_break_them() -> None:
    text = Table("T", ("agent", "n"), (("a|b", "1"), ("c", "12")), "Note.").to_markdown()
    assert text == "### T\n\n| agent |  n |\n|-------|---:|\n| a\\|b  |  1 |\n| c     | 12 |\n\nNote."
