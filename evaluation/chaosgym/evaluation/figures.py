"""Figures as SVG that takes its ink from the page around it, so that one picture reads in light and in dark.

Text and axes are drawn in stand-in colours which become `currentColor` and a variable of the style sheet.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chaosgym.evaluation.curves import Curve
from chaosgym.evaluation.measures import Measure, measure
from chaosgym.evaluation.row import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "accuracy_figure", "curve_figures", "to_svg"]

COLOURS = ("#4477cc", "#e07b39", "#3a9d6e", "#b15bb5", "#c9a227", "#d1495b")
"""Of agents, in their order; told apart on white and on black."""
_RAIL = ("#7f8794", "#98a0ac", "#b0b6c0", "#6b7280")
_INK, _LINE = "#010203", "#040506"
_GROUPS = {
    "accuracy": "accuracy\n(all episodes)", "component@1": "component\n(broken)", "fault@1": "fault\n(broken)", "both@1": "both\n(broken)",
}  # fmt: skip
_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("loss", "train_loss")),
    ("reward", ("reward", "eval_reward")),
    ("spread of reward in a group", ("reward_std",)),
    ("token accuracy", ("mean_token_accuracy",)),
)
"""What is drawn of a run: the title, and the first of these metrics that it logged."""
_KEPT_OUT, _SPLIT = "validation/accuracy", "accuracy/"
"""What tells how episodes that are not trained on are answered; the latter by split."""
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "chaosgym", "font.family": "sans-serif", "font.size": 10, "text.color": _INK,
    "axes.labelcolor": _INK, "axes.edgecolor": _LINE, "xtick.color": _INK, "ytick.color": _INK, "axes.titlecolor": _INK,
    "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True,
    "axes.grid.axis": "y", "grid.color": _LINE, "grid.linewidth": 0.6, "axes.axisbelow": True, "xtick.bottom": False,
    "ytick.left": False, "legend.frameon": False, "legend.labelcolor": _INK,
}  # fmt: skip


def accuracy_figure(agents: Mapping[str, Sequence[Row]], rails: Sequence[str]) -> Figure:
    """Bars with Wilson's intervals: accuracy over all, and component, fault and both at rank 1. Needs matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.add_subplot()
        width = 0.84 / len(agents)
        colours = _colours(list(agents), rails)
        for i, (name, rows) in enumerate(agents.items()):
            offsets = [group + (i - (len(agents) - 1) / 2) * width for group in range(len(_GROUPS))]
            _bars(axes, offsets, [measure(rows, of) for of in _GROUPS], 0.88 * width, colours[name], name)
        axes.set_xticks(range(len(_GROUPS)), list(_GROUPS.values()))
        axes.set_ylim(0, 1.02)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(agents), 8))
    return figure


def _colours(names: Sequence[str], rails: Sequence[str]) -> dict[str, str]:
    own = [name for name in names if name not in rails]
    greys = {name: _RAIL[i % len(_RAIL)] for i, name in enumerate(name for name in names if name in rails)}
    return {**{name: COLOURS[i % len(COLOURS)] for i, name in enumerate(own)}, **greys}


def _bars(axes: Axes, offsets: Sequence[float], found: Sequence[Measure], width: float, colour: str, name: str) -> None:
    values = [m.value or 0.0 for m in found]
    below = [m.value - m.interval.low if m.value is not None and m.interval else 0.0 for m in found]
    above = [m.interval.high - m.value if m.value is not None and m.interval else 0.0 for m in found]
    error: dict[str, Any] = {"ecolor": _INK, "elinewidth": 0.9, "capsize": 2.5, "capthick": 0.9}
    axes.bar(offsets, values, width, yerr=[below, above], color=colour, label=name, error_kw=error)


def curve_figures(curves: Sequence[Curve]) -> Figure | None:
    """A row of panels per run: what it logged of loss, reward and the like over steps; None when nothing is there."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    drawn = [(curve.name, panels) for curve in curves if (panels := _panels(curve))]
    if not drawn:
        return None
    columns = max(len(panels) for _, panels in drawn)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.6 * len(drawn)), layout=ConstrainedLayoutEngine(hspace=0.08, wspace=0.05))
        for row, (name, panels) in enumerate(drawn):
            for column, (title, points) in enumerate(panels):
                axes = figure.add_subplot(len(drawn), columns, row * columns + column + 1)
                for number, (label, line) in enumerate(points.items()):
                    axes.plot(*zip(*line, strict=True), color=COLOURS[(row + number) % len(COLOURS)], linewidth=1.6, label=label)
                if len(points) > 1:
                    axes.legend(fontsize=8)
                axes.set_title(f"{name}: {title}", loc="left")
                axes.set_xlabel("step")
    return figure


def _panels(curve: Curve) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """Title, and the lines in it by name."""
    series = {name: points for name, points in curve.series.items() if len(points) > 1}
    found = [(title, {name: series[name] for name in names if name in series}) for title, names in _PANELS]
    found = [(title, dict([next(iter(lines.items()))])) for title, lines in found if lines]
    if any(title == "reward" for title, _ in found):  # the loss of a policy gradient says nothing
        found = [panel for panel in found if panel[0] not in ("loss", "token accuracy")]
    splits = {name.removeprefix(_SPLIT): points for name, points in series.items() if name.startswith(_SPLIT)}
    kept_out = {"kept out": series[_KEPT_OUT]} if _KEPT_OUT in series else {}
    return [*found, ("right answers", {**kept_out, **splits})] if kept_out or splits else found


def to_svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as an element to stand in a page; `name` keeps its ids apart from those of others."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(_INK, "currentColor").replace(_LINE, "var(--line)")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', rf'<svg\1 role="img" aria-label="{alternative}"', svg, count=1)
    return svg.strip()
