"""A model as a picture, or as text that Graphviz draws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches of a box's line and letter, and between boxes.
_LINE, _LETTER, _APART = 0.22, 0.085, 0.45
_DIRECTIONS = ("TB", "BT", "LR", "RL")


@dataclass(frozen=True)
class _Box:
    """A layer or an input: its lines of text, and how many boxes stand before it at least."""

    lines: tuple[str, ...]
    depth: int

    @property
    def size(self) -> tuple[float, float]:
        return max(map(len, self.lines)) * _LETTER + 0.2, len(self.lines) * _LINE + 0.12


@dataclass(frozen=True)
class _Drawing:
    """Boxes by their number (of inputs below 0), and which leads to which."""

    name: str
    boxes: dict[int, _Box]
    edges: list[tuple[int, int]]


def plot_model(model: Any, to_file: str | os.PathLike[str] = "model.png",
               show_shapes: bool = False, show_dtype: bool = False, show_layer_names: bool = False,
               rankdir: str = "TB", expand_nested: bool = False, dpi: int = 200,
               show_layer_activations: bool = False, show_trainable: bool = False) -> Path:
    """Draw a model: a box for each layer, however often it is called, and arrows between them.

    Parameters
    ----------
    model : Sequential or Model
        Whose shape of rows is known.
    to_file : path
        Ends with `.dot` for text that Graphviz draws, else with what matplotlib writes: `.png`,
        `.svg`, `.pdf`.
    show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable : bool
        What boxes tell besides the layer's class.
    rankdir : {"TB", "LR", "BT", "RL"}
        Where the arrows lead: down, to the right, up, to the left.
    expand_nested : bool
        Keras's; models that were called are always drawn as their layers.
    dpi : int
        Dots per inch of a picture.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ValueError
        For another `rankdir`, and for a model that does not know its rows yet.
    ImportError
        Without matplotlib, for other files than `.dot`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.Input((4,)), nbbn.layers.Dense(2, name="last")], name="small")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(nbbn.utils.plot_model(model, Path(folder, "m.dot"), show_shapes=True).read_text())
    digraph "small" {
        rankdir=TB;
        node [shape=box, fontname="Helvetica"];
        i1 [label="Input\\n(None, 4)"];
        l0 [label="Dense\\n(None, 4) -> (None, 2)"];
        i1 -> l0;
    }
    <BLANKLINE>
    """
    if rankdir not in _DIRECTIONS:
        raise ValueError(f"rankdir must be one of {', '.join(_DIRECTIONS)}, got {rankdir!r}")
    shown = {"shapes": show_shapes, "dtype": show_dtype, "names": show_layer_names,
             "activations": show_layer_activations, "trainable": show_trainable}
    drawing, path = _drawing_of(model, shown), Path(to_file)
    if path.suffix == ".dot":
        path.write_text(_as_dot(drawing, rankdir))
    else:
        _as_figure(drawing, rankdir).savefig(path, dpi=dpi)
    return path


def _drawing_of(model: Any, shown: dict[str, bool]) -> _Drawing:
    network = model.network()
    links, shapes = network.links, network.layer_shapes
    boxes: dict[int, _Box] = {}
    for k, shape in enumerate(links.inputs, 1):
        boxes[-k] = _Box(("Input", *([_rows(shape)] if shown["shapes"] else [])), 0)
    of_call = {-k: -k for k in range(1, len(links.inputs) + 1)}
    edges: list[tuple[int, int]] = []
    for i, call in enumerate(links.calls):
        of_call[i] = number = call.layer
        sources = [of_call[source] for source in call.sources]
        if number not in boxes:
            lines = tuple(_lines(network.layers[number], shapes[number], network.dtype, shown))
            boxes[number] = _Box(lines, 1 + max(boxes[source].depth for source in sources))
        edges += [(source, number) for source in sources]
    edges = list(dict.fromkeys(edges))
    return _Drawing(str(model.name), boxes, edges)


def _lines(layer: Any, shapes: tuple[Any, Any], dtype: Any,
           shown: dict[str, bool]) -> Iterator[str]:
    before, after = shapes
    kind = type(layer).__name__
    yield f"{layer.name} ({kind})" if shown["names"] else kind
    if shown["activations"] and getattr(layer, "activation", None) is not None:
        yield f"activation: {layer.activation}"
    if shown["shapes"]:
        yield f"{', '.join(map(_rows, before))} -> {_rows(after)}"
    if shown["dtype"]:
        yield str(dtype)
    if shown["trainable"] and not layer.trainable:
        yield "not trained"


def _rows(shape: tuple[int, ...]) -> str:
    return str((None, *shape))


def _as_dot(drawing: _Drawing, rankdir: str) -> str:
    def called(number: int) -> str:
        return f"i{-number}" if number < 0 else f"l{number}"

    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"')

    lines = [f'digraph "{quoted(drawing.name)}" {{', f"    rankdir={rankdir};",
             '    node [shape=box, fontname="Helvetica"];']
    for number, box in drawing.boxes.items():
        label = "\\n".join(map(quoted, box.lines))
        lines.append(f'    {called(number)} [label="{label}"];')
    lines += [f"    {called(a)} -> {called(b)};" for a, b in drawing.edges]
    return "\n".join([*lines, "}", ""])


def _as_figure(drawing: _Drawing, rankdir: str) -> Figure:
    try:
        from matplotlib.figure import Figure as New
    except ImportError:
        raise ImportError("a picture needs matplotlib, which is not installed; install "
                          "nbbn[plot], or write text: to_file='model.dot'") from None
    places, wide, high = _places(drawing, rankdir)
    figure = New(figsize=(wide, high))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, wide)
    axes.set_ylim(0, high)
    axes.axis("off")
    for number, box in drawing.boxes.items():
        color = "#e8e8e8" if number < 0 else "#dce9f5"
        axes.text(*places[number], "\n".join(box.lines), ha="center", va="center", fontsize=9,
                  family="monospace", zorder=2,
                  bbox={"boxstyle": "round", "facecolor": color, "edgecolor": "#555555"})
    for a, b in drawing.edges:
        if a == b:
            continue
        axes.annotate("", xytext=_border(drawing, places, a, b), xy=_border(drawing, places, b, a),
                      arrowprops={"arrowstyle": "-|>", "color": "#555555", "shrinkA": 1,
                                  "shrinkB": 1}, zorder=1)
    return figure


def _places(drawing: _Drawing,
            rankdir: str) -> tuple[dict[int, tuple[float, float]], float, float]:
    """Middles of boxes, in inches, and the picture's width and height."""
    along = rankdir in ("LR", "RL")
    ranks: dict[int, list[int]] = {}
    for number, box in drawing.boxes.items():
        ranks.setdefault(box.depth, []).append(number)
    order: dict[int, float] = {}
    for depth in sorted(ranks):  # each near the middle of what leads to it
        before = {n: [order[a] for a, b in drawing.edges if b == n and a in order]
                  for n in ranks[depth]}
        ranks[depth].sort(key=lambda n: (sum(before[n]) / len(before[n])) if before[n] else 0.0)
        count = len(ranks[depth])
        order |= {n: (k + 0.5) / count for k, n in enumerate(ranks[depth])}
    sizes = {n: box.size[::-1] if along else box.size for n, box in drawing.boxes.items()}
    wide = max(sum(sizes[n][0] + _APART for n in rank) for rank in ranks.values()) + 0.1
    places, at = {}, 0.2
    for depth in sorted(ranks):
        thick = max(sizes[n][1] for n in ranks[depth])
        own = sum(sizes[n][0] + _APART for n in ranks[depth])
        across = (wide - own) / 2
        for n in ranks[depth]:
            places[n] = (across + (sizes[n][0] + _APART) / 2, at + thick / 2)
            across += sizes[n][0] + _APART
        at += thick + _APART
    high = at - _APART + 0.2
    if rankdir in ("TB", "RL"):
        places = {n: (x, high - y) for n, (x, y) in places.items()}
    if along:
        return {n: (y, wide - x) for n, (x, y) in places.items()}, high, wide
    return places, wide, high


def _border(drawing: _Drawing, places: dict[int, tuple[float, float]], number: int,
            other: int) -> tuple[float, float]:
    """Where the line from a box's middle to another's leaves the box."""
    (x, y), (u, v), (wide, high) = places[number], places[other], drawing.boxes[number].size
    dx, dy = u - x, v - y
    shares = [half / abs(d) for half, d in ((wide / 2, dx), (high / 2, dy)) if d]
    share = min([*shares, 1.0]) if shares else 0.0
    return x + dx * share, y + dy * share
