"""Drawings of recurrent cells and layers: what flows where, as SVG.

A drawing is data: nodes at places of a grid, and wires as the nodes and points that they pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLUMN, ROW, MARGIN = 62, 40, 24  # pixels, of the grid and around it
# Colours for light and for dark pages. The card lies behind everything, so that a page of the
# other kind does no harm.
STYLE = """
.card{fill:#fff}text{fill:#222;font:14px sans-serif;text-anchor:middle}.port{font-style:italic}
.box{fill:#fbeec2}.op{fill:#e2ebf6}.box,.op{stroke:#222}
.wire{fill:none;stroke-width:1.6}.weak{stroke-dasharray:4 3}
.wire{stroke:#555}.x{stroke:#1f6fb4}.h{stroke:#23803f}.c{stroke:#c8442c}
.tip{fill:#555}.tip.x{fill:#1f6fb4}.tip.h{fill:#23803f}.tip.c{fill:#c8442c}.tip{stroke:none}
@media(prefers-color-scheme:dark){
.card{fill:#1e2129}text{fill:#e8e8e8}.box{fill:#57491a}.op{fill:#2c3b55}.box,.op{stroke:#e8e8e8}
.wire{stroke:#aaa}.x{stroke:#6db3f2}.h{stroke:#6fce8e}.c{stroke:#f0836c}
.tip{fill:#aaa}.tip.x{fill:#6db3f2}.tip.h{fill:#6fce8e}.tip.c{fill:#f0836c}}
"""
Point = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """A box (learned weights and a function), an op (element by element) or a port; grid units."""

    kind: str
    text: str
    x: float
    y: float

    @property
    def half(self) -> Point:
        """Grid units from its middle to its sides, and to its top and bottom."""
        width = {"box": 27, "op": 11 if len(self.text) < 3 else 21, "port": 13}[self.kind]
        return width / COLUMN, (13 if self.kind == "box" else 11) / ROW


@dataclass(frozen=True)
class Drawing:
    """A cell or layer. Wires are lists of names and places, by class: x, h, c, or none for others.

    A wire that begins at a place branches off another one; a `weak` one carries one weight for
    each cell instead of a matrix.
    """

    title: str
    nodes: Mapping[str, Node]
    wires: Mapping[str, Sequence[str]]

    def svg(self) -> str:
        """The drawing as an SVG document.

        >>> CELLS["indrnn"].svg().splitlines()[1]
        '<title>Independently recurrent network</title>'
        """
        width = round(max(n.x for n in self.nodes.values()) * COLUMN + 2 * MARGIN)
        height = round(max(n.y for n in self.nodes.values()) * ROW + 2 * MARGIN)
        lines = [
            '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
            f' width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" width="{width}" height="{height}" rx="8"/>',
        ]
        for kind, chains in self.wires.items():
            for chain in chains:
                lines += self._wire(kind, chain.split())
        lines += [line for node in self.nodes.values() for line in _shape(node)]
        return "\n".join([*lines, "</svg>"]) + "\n"

    def _wire(self, kind: str, chain: Sequence[str]) -> Iterator[str]:
        """Lines from node to node, an arrow at the end of each, and a dot where it branches off."""
        stops = [self.nodes.get(name) or _place(name) for name in chain]
        if not isinstance(stops[0], Node):
            x, y = _pixels(stops[0])
            yield f'<circle class="tip {kind}" cx="{x:g}" cy="{y:g}" r="3.2"/>'
        begin = 0
        for end in range(1, len(stops)):
            last = stops[end]
            if isinstance(last, Node):
                points = [_middle(stop) for stop in stops[begin : end + 1]]
                first = stops[begin]
                if isinstance(first, Node):
                    points[0] = _edge(first, points[1])
                points[-1] = _edge(last, points[-2])
                yield from _arrow(kind, [_pixels(point) for point in points])
                begin = end


def _place(text: str) -> Point:
    x, y = text.split(",")
    return float(x), float(y)


def _middle(stop: Node | Point) -> Point:
    return (stop.x, stop.y) if isinstance(stop, Node) else stop


def _pixels(point: Point) -> Point:
    return round(MARGIN + point[0] * COLUMN, 1), round(MARGIN + point[1] * ROW, 1)


def _edge(node: Node, towards: Point) -> Point:
    """Where a vertical or horizontal line from `towards` meets the node."""
    across, down = node.half
    if abs(towards[0] - node.x) < across:
        return towards[0], node.y + (down if towards[1] > node.y else -down)
    if abs(towards[1] - node.y) < down:
        return node.x + (across if towards[0] > node.x else -across), towards[1]
    raise ValueError(f"no straight line leads from {towards} to {node}")


def _arrow(kind: str, points: Sequence[Point]) -> Iterator[str]:
    (x0, y0), (x, y) = points[-2:]
    right, down = (x > x0) - (x < x0), (y > y0) - (y < y0)
    short = [*points[:-1], (x - 5 * right, y - 5 * down)]  # the line ends within the tip
    path = "L".join(f"{a:g} {b:g}" for a, b in short)
    yield f'<path class="wire {kind}" d="M{path}"/>'
    a, b = 7 * right, 7 * down
    tip = f"M{x:g} {y:g}l{-a - b / 2:g} {-b - a / 2:g}l{b:g} {a:g}z"
    yield f'<path class="tip {kind}" d="{tip}"/>'


def _shape(node: Node) -> Iterator[str]:
    x, y = _pixels((node.x, node.y))
    width, height = 2 * node.half[0] * COLUMN, 2 * node.half[1] * ROW
    if node.kind != "port":
        radius = 4 if node.kind == "box" else 11
        yield (
            f'<rect class="{node.kind}" x="{x - width / 2:g}" y="{y - height / 2:g}"'
            f' width="{width:g}" height="{height:g}" rx="{radius}"/>'
        )
    text = re.sub(r"_(\S+)", r'<tspan dy="4" font-size="10">\1</tspan>', escape(node.text))
    style = ' class="port"' if node.kind == "port" else ""
    yield f'<text{style} x="{x:g}" y="{y + 5:g}">{text}</text>'


def _box(text: str, x: float, y: float) -> Node:
    return Node("box", text, x, y)


def _op(text: str, x: float, y: float) -> Node:
    return Node("op", text, x, y)


def _ports(**places: Point) -> dict[str, Node]:
    """Inputs (`x`, and the state `h` and `c` of the frame before) and outputs (`h1` and `c1`)."""
    texts = {"x": "x_t", "before": "x_t−1", "h": "h_t−1", "c": "c_t−1", "h1": "h_t", "c1": "c_t"}
    return {name: Node("port", texts[name], *place) for name, place in places.items()}


def _elman(title: str, function: str, weak: bool = False) -> Drawing:
    state = {"h weak": ["h f"], "h": ["f h1"]} if weak else {"h": ["h f h1"]}
    nodes = _ports(h=(0, 0), x=(2, 1.5), h1=(4, 0)) | {"f": _box(function, 2, 0)}
    return Drawing(title, nodes, {**state, "x": ["x f"]})


_LSTM = Drawing(
    "LSTM",
    {
        **_ports(c=(0, 0), h=(0, 3), x=(2.15, 4.3), c1=(7, 0), h1=(7, 2)),
        **{"f": _box("f: σ", 2, 2), "i": _box("i: σ", 3, 2), "z": _box("tanh", 4, 2)},
        **{"o": _box("o: σ", 5, 2), "×f": _op("×", 2, 0), "×i": _op("×", 4, 1)},
        **{"+": _op("+", 4, 0), "tanh": _op("tanh", 6, 1), "×o": _op("×", 6, 2)},
    },
    {
        "c": ["c ×f + c1", "6,0 tanh"],
        "h": ["h 4.85,3 o", "1.85,3 f", "2.85,3 i", "3.85,3 z", "×o h1"],
        "x": ["x 2.15,4 f", "2.15,3.5 5.15,3.5 o", "3.15,3.5 i", "4.15,3.5 z"],
        "": ["f ×f", "i 3,1 ×i", "z ×i +", "tanh ×o", "o ×o"],
    },
)

CELLS = {
    "lstm": _LSTM,
    "peephole_lstm": Drawing(
        "LSTM with peepholes",
        _LSTM.nodes,
        {**_LSTM.wires, "c weak": ["1,0 1,1.3 2.8,1.3 i", "1.8,1.3 f", "5,0 o"]},
    ),
    "rnn_tanh": _elman("Elman network", "tanh"),
    "rnn_relu": _elman("Elman network with rectifiers", "relu"),
    "gru": Drawing(
        "GRU",
        {
            **_ports(h=(0, 0), x=(2.15, 5.2), h1=(7.2, 0)),
            **{"r": _box("r: σ", 2, 3), "z": _box("z: σ", 3, 3), "U": _box("U", 4, 3)},
            **{"×r": _op("×", 5, 3), "n": _box("n: tanh", 6, 3), "×z": _op("×", 3, 0)},
            **{"1−": _op("1−", 4.5, 1), "×n": _op("×", 6, 1), "+": _op("+", 6, 0)},
        },
        {
            "h": ["h ×z + h1", "1,0 1,4 4,4 U", "1.85,4 r", "2.85,4 z"],
            "x": ["x 2.15,5 r", "2.15,4.5 6,4.5 n", "3.15,4.5 z"],
            "": ["r 2,2 5,2 ×r", "U ×r n", "n ×n +", "z ×z", "3,1 1− ×n"],
        },
    ),
    "ligru": Drawing(
        "Light GRU",
        {
            **_ports(h=(0, 0), x=(2.25, 5), h1=(5.2, 0)),
            **{"z": _box("z: σ", 2, 2), "n": _box("n: relu", 4, 2), "×z": _op("×", 2, 0)},
            **{"Nz": _box("N W", 2.25, 3.6), "Nn": _box("N W", 4.25, 3.6)},
            **{"1−": _op("1−", 3, 1), "×n": _op("×", 4, 1), "+": _op("+", 4, 0)},
        },
        {
            "h": ["h ×z + h1", "1,0 1,2.8 3.75,2.8 n", "1.75,2.8 z"],
            "x": ["x Nz", "2.25,4.4 4.25,4.4 Nn"],
            "": ["Nz 2.25,3 z", "Nn 4.25,3 n", "z ×z", "2,1 1− ×n +", "n ×n"],
        },
    ),
    "indrnn": _elman("Independently recurrent network", "relu", weak=True),
    "sru": Drawing(
        "Simple recurrent unit",
        {
            **_ports(c=(0, 0), x=(2, 4.7), c1=(9.2, 0), h1=(9.2, 1)),
            **{"f": _box("f: σ", 2, 3), "z": _box("W", 4, 3), "r": _box("r: σ", 6, 3)},
            **{"w": _box("W", 8, 3), "×f": _op("×", 2, 0), "+": _op("+", 4, 0)},
            **{"1−f": _op("1−", 3, 1.2), "×z": _op("×", 4, 1.2), "×r": _op("×", 7, 1)},
            **{"1−r": _op("1−", 7, 2), "×w": _op("×", 8, 2), "+h": _op("+", 8, 1)},
        },
        {
            "c": ["c ×f + c1", "7,0 ×r"],
            "c weak": ["1,0 1,3 f", "1,2.2 5.3,2.2 5.3,3 r"],
            "h": ["+h h1"],
            "x": ["x f", "2,4 8,4 w", "4,4 z", "6,4 r"],
            "": ["f ×f", "2,1.2 1−f ×z +", "z ×z", "r 6,1 ×r +h", "6,2 1−r ×w +h", "w ×w"],
        },
    ),
    "qrnn": Drawing(
        "Quasi-recurrent network",
        {
            **_ports(c=(0, 0), before=(0, 4), x=(2.15, 5.2), c1=(7.2, 0), h1=(7.2, 1.2)),
            **{"f": _box("f: σ", 2, 3), "z": _box("z: tanh", 4, 3), "o": _box("o: σ", 6, 3)},
            **{"×f": _op("×", 2, 0), "1−": _op("1−", 3, 1.2), "×z": _op("×", 4, 1.2)},
            **{"+": _op("+", 4, 0), "×o": _op("×", 6, 1.2)},
        },
        {
            "c": ["c ×f + c1", "6,0 ×o"],
            "h": ["×o h1"],
            "x": [
                *("before 5.85,4 o", "1.85,4 f", "3.85,4 z"),
                *("x 2.15,5 f", "2.15,4.5 6.15,4.5 o", "4.15,4.5 z"),
            ],
            "": ["f ×f", "2,1.2 1− ×z +", "z ×z", "o ×o"],
        },
    ),
}


def _bidirectional() -> Drawing:
    """Three frames of a layer: a cell forward and another one backward in time."""
    nodes, outputs, inputs = {}, [], []
    for number, frame in enumerate(("t−1", "t", "t+1")):
        x = 1 + 2.2 * number
        nodes[f"y{number}"] = Node("port", f"h_{frame}", x, 0)
        nodes[f"[{number}]"] = _op("[ ; ]", x, 1)
        nodes[f"→{number}"] = _box("cell", x, 2)
        nodes[f"←{number}"] = _box("cell", x + 0.9, 3)
        nodes[f"x{number}"] = Node("port", f"x_{frame}", x + 0.3, 4.5)
        branch = f"{x + 0.3},3.8"
        inputs += [f"x{number} {branch} →{number}", f"{branch} {x + 0.9},3.8 ←{number}"]
        outputs += [f"→{number} [{number}] y{number}", f"←{number} {x + 0.9},1 [{number}]"]
    ends = {"before": (0, 2), "first": (0, 3), "after": (7.2, 2), "last": (7.2, 3)}
    nodes |= {name: Node("port", "…", *place) for name, place in ends.items()}
    states = ["before →0 →1 →2 after", "last ←2 ←1 ←0 first"]
    return Drawing("Bidirectional layer", nodes, {"x": inputs, "h": states, "": outputs})


ENCODERS = {
    "bidirectional": _bidirectional(),
    "reversible": Drawing(
        "Reversible block",
        {
            **{"a": Node("port", "a", 0, 0), "b": Node("port", "b", 0, 2)},
            **{"a1": Node("port", "a\u2032", 5.2, 0), "b1": Node("port", "b\u2032", 5.2, 2)},
            **{"F": _box("F", 1.6, 1), "G": _box("G", 3.6, 1)},
            **{"+a": _op("+", 1.6, 0), "+b": _op("+", 3.6, 2)},
        },
        {"h": ["a +a a1", "3.6,0 G"], "x": ["b +b b1", "1.6,2 F"], "": ["F +a", "G +b"]},
    ),
}

DRAWINGS = {**CELLS, **ENCODERS}
