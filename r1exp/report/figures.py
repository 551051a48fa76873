"""Draws the curves of a document as SVG files with matplotlib, for report.md and papers. Torch-free."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from r1exp.report.collect import Document

# Okabe and Ito's colors, which color-blind readers can tell apart; every curve has a dash pattern and a marker of its own too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")
_MARKERS = "os^vDP*"
_MOST = 6  # settings in a figure
_NUM_MARKERS = 8  # on each curve
_SIZE = (4.2, 2.8)  # inches: the width of a column


def can_draw() -> bool:
    """Whether matplotlib is installed: it is in the extra `figures`."""
    return find_spec("matplotlib") is not None


def draw(document: Document, folder: Path) -> list[tuple[str, Path]]:
    """Draw each panel of a document into a file of its own; return their titles and paths.

    Args:
        document: What is shown; of several settings, the best six are drawn.
        folder: For the files; it is made.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "r1exp"  # the same data give the same file
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for panel in document.data["panels"]:
        name = f"{panel['step']}-{panel['metric']}".replace("/", "-")
        safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
        path = folder / f"{safe}.svg"
        _draw_panel(document, panel, path)
        drawn.append((f"{panel['title']}, step {panel['step']}", path))
    return drawn


def _draw_panel(document: Document, panel: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    settings, events = document.data["settings"], document.data["events"]
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    for curve in panel["curves"]:
        index = curve["setting"]
        if index >= _MOST:
            continue
        color = _COLORS[index % len(_COLORS)]
        marker = _MARKERS[index % len(_MARKERS)] if len(settings) > 1 else None
        axes.plot(
            curve["x"], curve["y"], color=color, linestyle=_DASHES[index % len(_DASHES)], marker=marker, markersize=3,
            markevery=max(len(curve["x"]) // _NUM_MARKERS, 1), linewidth=1.2, label=settings[index]["label"][:40],
        )  # fmt: skip
        if "low" in curve:
            axes.fill_between(curve["x"], curve["low"], curve["high"], color=color, alpha=0.2, linewidth=0)
    for event in events:
        if event["step"] == panel["step"] and event["setting"] < _MOST:
            axes.axvline(event["at"], color="#666666", linestyle=(0, (1, 3)), linewidth=1)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"{panel['title']}, {panel['unit']}" if panel["unit"] else panel["title"], fontsize=8)
    axes.tick_params(labelsize=8)
    if len(settings) > 1:
        axes.legend(fontsize=6)
    figure.savefig(path, format="svg", metadata={"Date": None})
