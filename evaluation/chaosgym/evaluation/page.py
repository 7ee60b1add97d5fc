"""The page: one HTML file that needs nothing else - no script, no network - and reads in light and in dark.

    lead and figures, agents, bars, pair by pair, faults, splits, learning curves, examples, provenance
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from chaosgym.errors import InfrastructureError
from chaosgym.evaluation.curves import Curve
from chaosgym.evaluation.examples import example_html
from chaosgym.evaluation.heat import confusion_heat, fault_heat
from chaosgym.evaluation.lineup import Lineup, line_up
from chaosgym.evaluation.measures import measure
from chaosgym.evaluation.tables import Table, comparison_table, detail_table, headline_table, split_table
from chaosgym.extras import install_line, missing_modules

if TYPE_CHECKING:
    from chaosgym.evaluation.compare import Comparison
    from chaosgym.evaluation.result import EvaluationResult

__all__ = ["render_page", "write_page"]

_STYLE = Path(__file__).with_name("page.css")


def write_page(
    path: Path | str,
    results: Sequence[EvaluationResult],
    comparison: Comparison | None = None,
    curves: Sequence[Curve] = (),
    *,
    title: str = "",
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write `render_page` to a file. Raises InfrastructureError when the file system refuses."""
    file = Path(path)
    text = render_page(results, comparison, curves, title=title, facts=facts)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(f"{file}: cannot write the page ({error.strerror or error}); check space and permissions") from error
    return file


def render_page(
    results: Sequence[EvaluationResult],
    comparison: Comparison | None = None,
    curves: Sequence[Curve] = (),
    *,
    title: str = "",
    facts: Mapping[str, str] | None = None,
) -> str:
    """One page of results on the same episodes; the last of them is the one in focus.

    `facts` stand as tiles beside the accuracy and the number of episodes. Plots need matplotlib; without it the page
    says how to get it. Raises InputError when the results are of different episodes.
    """
    lineup = line_up(results)
    focus = results[-1]
    heading = title or f"Evaluation of {', '.join(lineup.agents)}"
    lead = comparison.sentence if comparison else f"{focus.agent} on {len(focus.rows)} episodes, with the rails beside it."
    parts = [
        f'<h1>{escape(heading)}</h1><p class="lead">{escape(lead)}</p>{_tiles(focus, facts or {})}',
        _table_html(headline_table(lineup.everyone), lineup.rails),
        _bars(lineup),
        _table_html(comparison_table(comparison)) if comparison else "",
        _faults(lineup, focus),
        *(_table_html(table, lineup.rails) for table in [split_table(lineup.everyone)] if table),
        _curves(curves),
        _examples(focus, lineup),
        _origin(focus),
    ]
    return _document(heading, "\n".join(part for part in parts if part))


def _document(title: str, body: str) -> str:
    style = _STYLE.read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _tiles(focus: EvaluationResult, facts: Mapping[str, str]) -> str:
    accuracy = measure(focus.rows, "accuracy")
    out = focus.excluded
    tiles = {
        f"accuracy of {focus.agent}": f"{accuracy.value:.1%}" if accuracy.value is not None else "-",
        "episodes scored": f"{len(focus.rows)} of {focus.given}",
        "unscorable": _share(len(out.unscorable), focus.given),
        "invisible": _share(len(out.invisible), focus.given),
        **facts,
    }
    cells = "".join(f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in tiles.items())
    return f'<dl class="tiles">{cells}</dl>'


def _share(count: int, whole: int) -> str:
    return f"{count} ({count / whole:.1%})"


def _table_html(table: Table, faint: Mapping[str, object] | None = None) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    return (
        f'<section><h2>{escape(table.title)}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(_lines(table, faint or {}))}</tbody></table></div>"
        + (f'<p class="note">{escape(table.note)}</p>' if table.note else "")
        + "</section>"
    )


def _lines(table: Table, faint: Mapping[str, object]) -> Iterator[str]:
    for name, *cells in table.rows:
        kind = ' class="rail"' if name in faint else ""
        yield f"<tr{kind}><th>{escape(name)}</th>{''.join(map(_cell, cells))}</tr>"


def _cell(text: str) -> str:
    """An interval behind a number goes below it."""
    number, gap, interval = text.partition(" [")
    return f"<td>{escape(number)}<small>[{escape(interval)}</small></td>" if gap else f"<td>{escape(text)}</td>"


def _without_plots(title: str) -> str:
    return f'<section><h2>{title}</h2><p class="note">Plots need matplotlib: <code>{install_line("matplotlib")}</code></p></section>'


def _bars(lineup: Lineup) -> str:
    if missing_modules("view"):
        return _without_plots("How often right")
    from chaosgym.evaluation.figures import accuracy_figure, to_svg

    svg = to_svg(accuracy_figure(lineup.pictured, list(lineup.rails)), "bars", "Accuracy of all agents, with intervals")
    caption = "Share of right answers with Wilson's 95 % intervals; rails in grey."
    return f"<section><h2>How often right</h2><figure>{svg}<figcaption>{caption}</figcaption></figure></section>"


def _curves(curves: Sequence[Curve]) -> str:
    if not curves:
        return ""
    if missing_modules("view"):
        return _without_plots("Learning curves")
    from chaosgym.evaluation.figures import curve_figures, to_svg

    figure = curve_figures(curves)
    if figure is None:
        return ""
    return f"<section><h2>Learning curves</h2><figure>{to_svg(figure, 'curves', 'Learning curves of the training runs')}</figure></section>"


def _faults(lineup: Lineup, focus: EvaluationResult) -> str:
    return (
        "<section><h2>Fault by fault</h2>"
        f"{fault_heat(lineup.pictured)}"
        '<p class="note">Accuracy: the right fault at the right component; healthy episodes count when called healthy.</p>'
        f"<details><summary>What {escape(focus.agent)} takes for what</summary>{confusion_heat(focus.rows)}"
        '<p class="note">Shares of each line; the green diagonal is the right fault, whatever the component.</p></details></section>'
    )


def _examples(focus: EvaluationResult, lineup: Lineup) -> str:
    if not focus.examples:
        return ""
    body = "".join(example_html(example, lineup) for example in focus.examples)
    note = "Drawn by the hash of the episode's id, one per fault: not chosen for what anybody answered."
    return f'<section><h2>Some of the incidents</h2><p class="note">{note}</p>{body}</section>'


def _origin(focus: EvaluationResult) -> str:
    document = {**focus.provenance.model_dump(mode="json"), "unscorable": focus.excluded.unscorable}
    measures = _table_html(detail_table(focus.agent, focus.rows))
    origin = f"<details><summary>Provenance</summary><pre>{escape(json.dumps(document, indent=2))}</pre></details>"
    return f"{measures}<section><h2>Where this comes from</h2>{origin}</section>"
