"""Every figure has a title, labels with units, legends and readable text; drawings of all cells."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from benchmark_scripts import load
from click.testing import CliRunner
from figure_rules import check_figure
from matplotlib.figure import Figure

from asr.analysis import drawings, plots
from asr.cli import cli
from asr.errors import ASRError
from asr.features import FeatureConfig, band_centres
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance
from data_prep import stats

ROOT = Path(__file__).parents[1]


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Logs of two runs."""
    folders = [tmp_path / "plain", tmp_path / "noisy"]
    for folder in folders:
        folder.mkdir()
        train = {"kind": "train", "loss": 2.0, "gradient_norm": 1.0, "blank_ratio": 0.7}
        dev = {"kind": "dev", "loss": 2.5, "cer": 0.3, "wer": 0.5}
        records = [{**record, "step": step} for step in (10, 20) for record in (train, dev)]
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folders


def _spikes(seconds: float) -> Figure:
    waveform = np.random.default_rng(0).normal(size=round(16_000 * seconds)).astype(np.float32)
    vocabulary = Vocabulary.characters("ab")
    log_probs = np.log(np.full((round(100 * seconds), len(vocabulary)), 0.1))
    log_probs[::9, 1] = log_probs[5::9, 2] = 0.0
    return plots.spikes(waveform, log_probs, vocabulary, FeatureConfig(), 0.01, "Outputs")


EXAMPLES: dict[str, Callable[[], Figure]] = {
    "gradients": lambda: plots.gradients(
        {gain: {"lstm": np.ones(5), "gru": np.zeros(5)} for gain in (1.0, 2.0)}
    ),
    "sensitivity": lambda: plots.sensitivity(np.eye(12, 6), 3.5, "Gradient of ln p(a)", 100.0),
    "attention": lambda: plots.attention(np.ones((2, 8, 4, 4)) / 4, 0.03, "Self-attention"),
    "spelling": lambda: plots.spelling("a b", np.eye(3), 0.03, "Attention"),
    "spikes": lambda: _spikes(2.0),
}


def test_every_figure_function_has_an_example() -> None:
    """A new one is added to EXAMPLES, or drawn by a test of its own below."""
    made = [
        name
        for name, function in inspect.getmembers(plots, inspect.isfunction)
        if function.__module__ == plots.__name__
        and inspect.signature(function).return_annotation == "Figure"
    ]
    assert sorted(made) == sorted([*EXAMPLES, "learning_curves"])


def test_every_module_that_draws_is_checked() -> None:
    drawn = {
        path.relative_to(ROOT).as_posix()
        for folder in ("asr", "benchmarks", "data_prep", "serve", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bFigure\(|pyplot", path.read_text(encoding="utf-8"))
    }
    scripts = {f"benchmarks/{name}.py" for name in ("comparison", "compress", "memory")}
    assert drawn == {"asr/analysis/plots.py", "data_prep/stats.py", *scripts}


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        (lambda figure: figure.suptitle(""), "no title"),
        (lambda figure: figure.axes[0].set_ylabel(""), "no label of y"),
        (lambda figure: figure.axes[0].set_xlabel(""), "no label of x"),
        (lambda figure: figure.legends.clear(), "lines without a legend"),
        (lambda figure: figure.axes[0].title.set_fontsize(7), "too small"),
    ],
)
def test_a_figure_that_lacks_something_is_found(flaw, message: str) -> None:
    figure = plots.gradients({1.0: {"lstm": np.ones(5), "gru": np.zeros(5)}})
    flaw(figure)
    with pytest.raises(AssertionError, match=message):
        check_figure(figure)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_figure_can_be_read(name: str) -> None:
    check_figure(EXAMPLES[name]())


@pytest.mark.parametrize("count", [1, 2])
def test_learning_curves_can_be_read(count: int, runs: list[Path]) -> None:
    figure = plots.learning_curves(*runs[:count])
    check_figure(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "loss (nats per symbol)",
        "error rate (%)" if count == 1 else "CER (%)",
        "norm before clipping",
        "frames (%)",
    ]
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == ([] if count == 1 else ["plain", "noisy"])
    (blanks,) = {tuple(line.get_ydata()) for line in figure.axes[3].lines}
    assert blanks == (70, 70)


def test_a_long_recording_makes_a_wider_figure() -> None:
    check_figure(_spikes(6.0), width=12.0)


def test_the_spectrogram_has_hertz_where_the_bands_are() -> None:
    figure = EXAMPLES["spikes"]()
    centres = band_centres(FeatureConfig())
    for tick in figure.axes[0].yaxis.get_major_ticks():
        band = round(tick.get_loc())
        assert math.isclose(centres[band], float(tick.label1.get_text()), rel_tol=0.05)


def test_figures_of_benchmarks_can_be_read() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    pytest.importorskip("jiwer")
    comparison, compress, memory = map(load, ("comparison", "compress", "memory"))
    result = [{"errors": dict.fromkeys(comparison.SOURCES, rate)} for rate in (0.1, 0.2)]
    check_figure(comparison.picture({"lstm": result, "gru": result}, ["lstm", "gru"]))
    point = compress.Point("rank 96", False, 0.3, 0.2, 5e6, 5.9, 5.5, 1.9, 7.6)
    check_figure(compress.picture([point, compress.replace(point, name="b", trained=True)]))
    sizes = {"layers": [2, 4], "frames": [100, 200]}
    used = {against: {name: [1.0, 2.0] for name in memory.CURVES} for against in sizes}
    check_figure(memory.picture(sizes, used))


def test_the_figure_of_manifests_can_be_read() -> None:
    utterances = [Utterance(str(n), 1.0 + n, "a b", str(n % 2)) for n in range(4)]
    check_figure(stats.picture({name: stats.statistics(utterances) for name in ("a", "b")}))


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_the_name_tells_the_kind_of_file(ending: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{ending}"
    plots.save(EXAMPLES["gradients"](), path)
    assert path.read_bytes().startswith(start)
    assert path.stat().st_size < 100_000


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ASRError, match=r"x\.txt: no kind of picture \(end its name with \.png"):
        plots.save(EXAMPLES["gradients"](), tmp_path / "x.txt")
    assert not list(tmp_path.iterdir())


def test_every_cell_has_a_drawing() -> None:
    pytest.importorskip("torch")
    from asr.models.cells import CELLS

    assert drawings.CELLS.keys() == CELLS.keys()


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_drawing_is_the_one_in_the_documentation(name: str, tmp_path: Path) -> None:
    output = tmp_path / "cell.svg"
    assert CliRunner().invoke(cli, ["plot", "cell", name, "-o", str(output)]).exit_code == 0
    assert output.read_bytes() == (ROOT / "docs" / "cells" / f"{name}.svg").read_bytes()


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_drawing_connects_all_of_its_nodes(name: str) -> None:
    drawing = drawings.DRAWINGS[name]
    chains = [chain.split() for wires in drawing.wires.values() for chain in wires]
    assert {word for chain in chains for word in chain if "," not in word} == drawing.nodes.keys()
    svg = ElementTree.fromstring(drawing.svg())
    width, height = (float(svg.get(side) or 0) for side in ("width", "height"))
    space = "{http://www.w3.org/2000/svg}"
    assert svg.findtext(f"{space}title") == drawing.title
    for path in svg.iter(f"{space}path"):
        if (path.get("class") or "").startswith("wire"):
            points = [tuple(map(float, p.split())) for p in path.get("d", "")[1:].split("L")]
            for (x0, y0), (x1, y1) in pairwise(points):
                assert x0 == x1 or y0 == y1, "a wire runs aslant"
            assert all(0 < x < width and 0 < y < height for x, y in points)


def test_a_cell_is_drawn_as_an_svg(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["plot", "cell", "lstm", "-o", str(tmp_path / "x.png")])
    assert str(result.exception).endswith("a cell is drawn as an SVG (end the name with .svg)")
