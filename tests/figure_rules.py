"""What every figure of this project has: a title, labels, legends, and text that can be read."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MIN_POINTS = 9  # at WIDTH inches, as wide as a page's text


def check_figure(figure: Figure, width: float = 8.0) -> None:
    """Fail on what a reader of the figure would miss."""
    assert figure.get_suptitle(), "the figure has no title"
    assert figure.get_figwidth() == width
    for axes in figure.axes:
        panel = f"panel {axes.get_title() or axes.get_ylabel()!r}"
        if hasattr(axes, "_colorbar"):
            assert axes.get_ylabel(), "a colour bar has no label"
            continue
        assert figure.get_supxlabel() or _label(axes, "x"), f"{panel}: no label of x"
        assert figure.get_supylabel() or _label(axes, "y"), f"{panel}: no label of y"
        assert not axes.images or any(hasattr(a, "_colorbar") for a in figure.axes), panel
        if len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) > 1:
            assert axes.get_legend() or figure.legends, f"{panel}: lines without a legend"
    figure.draw_without_rendering()  # makes the texts of ticks
    for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")):
        if text.get_text():
            assert text.get_fontsize() >= MIN_POINTS, f"{text.get_text()!r} is too small"


def _label(axes: Axes, name: str) -> str:
    """The label of an axis, or of one that shares it."""
    siblings = getattr(axes, f"get_shared_{name}_axes")().get_siblings(axes)
    return next(filter(None, (getattr(a, f"get_{name}label")() for a in siblings)), "")
