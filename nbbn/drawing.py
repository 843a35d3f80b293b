"""A model as a picture, or as text that Graphviz draws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches of a box's line and letter, and between boxes.
_LINE, _LETTER, _APART = 0.22, 0.085, 0.45
_DIRECTIONS = ("TB", "BT", "LR", "RL")
# Of inputs and of models within.
_COLORS = {"i": "#e8e8e8", "m": "#e3efdc"}


@dataclass(frozen=True)
class _Box:
    """A layer, a model within or an input: its lines of text, how many boxes stand before it at
    least, and the models that it is drawn within, each with its number."""

    lines: tuple[str, ...]
    depth: int
    within: tuple[tuple[int, str], ...] = ()

    @property
    def size(self) -> tuple[float, float]:
        return max(map(len, self.lines)) * _LETTER + 0.2, len(self.lines) * _LINE + 0.12


@dataclass(frozen=True)
class _Drawing:
    """Boxes by name, and which leads to which."""

    name: str
    boxes: dict[str, _Box]
    edges: list[tuple[str, str]]


def plot_model(model: Any, to_file: str | os.PathLike[str] = "model.png",
               show_shapes: bool = False, show_dtype: bool = False, show_layer_names: bool = False,
               rankdir: str = "TB", expand_nested: bool = False, dpi: int = 200,
               show_layer_activations: bool = False, show_trainable: bool = False) -> Path:
    """Draw a model: a box for each layer, however often it is called, and arrows between them.

    A model within has one box, as a layer has.

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
        Draw the layers of models within, in a `.dot` file with a frame around each model's.
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
    drawing, path = _drawing_of(model, shown, expand_nested), Path(to_file)
    if path.suffix == ".dot":
        path.write_text(_as_dot(drawing, rankdir))
    else:
        _as_figure(drawing, rankdir).savefig(path, dpi=dpi)
    return path


def _drawing_of(model: Any, shown: dict[str, bool], expand: bool) -> _Drawing:
    model.network()  # refuses a model that has no weights
    drawing = _Drawing(str(model.name), {}, [])
    _Drawer(model, shown, drawing, expand=expand).draw(model, ())
    edges = list(dict.fromkeys(drawing.edges))
    return replace(drawing, edges=edges)


class _Drawer:
    """Draws a model's layers, and those of models within."""

    def __init__(self, model: Any, shown: dict[str, bool], drawing: _Drawing, *, expand: bool):
        self._shown, self._drawing, self._expand = shown, drawing, expand
        self._dtype = model._layers.dtype
        self._names = {id(entry): f"l{i}" for i, entry in enumerate(model._layers.entries)}
        self._frames, self._rows = 0, list(model.inputs)

    def draw(self, model: Any, within: tuple[tuple[int, str], ...]) -> None:
        """The boxes of a model and the arrows between them."""
        parts = model._outline()
        inputs = [part for part in parts if part.is_input]
        if not within:
            for part in inputs:
                value = part.what
                self._box(part, ("Input", *self._lines_of_rows(value)), within)
        layers = model.layers[-(len(parts) - len(inputs)):]
        for part, layer in zip([part for part in parts if not part.is_input], layers):
            if self._opened(part.what):
                self._frames += 1
                # What leads into it comes first, so that its boxes stand behind that.
                self._arrows(part, into=True)
                self.draw(part.what, (*within, (self._frames, str(layer.name))))
            else:
                self._arrows(part)
                self._box(part, tuple(self._lines(layer, part)), within)

    def _opened(self, what: Any) -> bool:
        return self._expand and hasattr(what, "layers")

    def _name(self, what: Any) -> str:
        kind = "m" if hasattr(what, "layers") else "i" if hasattr(what, "row_shape") or hasattr(
            what, "gives_rows") else "l"
        if id(what) not in self._names:
            number = 1 + sum(name[0] == kind for name in self._names.values())
            self._names[id(what)] = f"{kind}{number}"
        return self._names[id(what)]

    def _box(self, part: Any, lines: tuple[str, ...], within: tuple[tuple[int, str], ...]) -> None:
        name, boxes = self._name(part.what), self._drawing.boxes
        before = [boxes[a].depth for a, b in self._drawing.edges if b == name and a in boxes]
        boxes.setdefault(name, _Box(lines, 1 + max(before) if before else 0, within))

    def _arrows(self, part: Any, *, into: bool = False) -> None:
        for node in part.nodes:
            for k, (source, output) in enumerate(node.sources):
                if not source.calls and not any(source.what is one for one in self._rows):
                    continue  # of a model within: what leads there has its arrows
                ends = self._entrances(part.what, k) if into else [self._name(part.what)]
                self._drawing.edges.extend((start, end) for start in self._exits(source, output)
                                           for end in ends)

    def _exits(self, node: Any, output: int) -> list[str]:
        """The boxes that give an output of a layer or a model."""
        if not self._opened(node.what):
            return [self._name(node.what)]
        value = node.what.outputs[output]
        inner = (one for part in node.what._outline() for one in part.nodes)
        source, at = next((one, k) for one in inner for k, gave in enumerate(one.gave)
                          if gave is value)
        return self._exits(source, at)

    def _entrances(self, model: Any, index: int) -> list[str]:
        """The boxes that take an input of a model."""
        rows, found = model.inputs[index], list[str]()
        for part in model._outline():
            for node in part.nodes:
                for k, (source, _) in enumerate(node.sources):
                    if source.what is rows:
                        found += (self._entrances(part.what, k) if self._opened(part.what) else
                                  [self._name(part.what)])
        return found

    def _lines_of_rows(self, value: Any) -> list[str]:
        return [_rows(_row_shape(value))] if self._shown["shapes"] else []

    def _lines(self, layer: Any, part: Any) -> Iterator[str]:
        shown, is_model = self._shown, hasattr(part.what, "layers")
        kind = layer._class_name if is_model else layer.__class__.__name__
        yield f"{layer.name} ({kind})" if shown["names"] else kind
        if shown["activations"] and getattr(layer, "activation", None) is not None:
            yield f"activation: {layer.activation}"
        if shown["shapes"]:
            node = part.nodes[0]
            before = [_row_shape(source.gave[k]) for source, k in node.sources]
            after = [_row_shape(one) for one in node.gave if one is not None]
            yield f"{', '.join(map(_rows, before))} -> {', '.join(map(_rows, after))}"
        if shown["dtype"]:
            yield str(self._dtype)
        if shown["trainable"] and not layer.trainable:
            yield "not trained"


def _row_shape(value: Any) -> tuple[int, ...]:
    """Of an input or of what a layer gives."""
    return value.row_shape if hasattr(value, "row_shape") else value.shape


def _rows(shape: tuple[int, ...]) -> str:
    return str((None, *shape))


def _as_dot(drawing: _Drawing, rankdir: str) -> str:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"')

    lines = [f'digraph "{quoted(drawing.name)}" {{', f"    rankdir={rankdir};",
             '    node [shape=box, fontname="Helvetica"];']
    open_ones: tuple[tuple[int, str], ...] = ()
    for name, box in drawing.boxes.items():
        same = 0
        while same < min(len(open_ones), len(box.within)) and open_ones[same] == box.within[same]:
            same += 1
        lines += ["    " * (k + 1) + "}" for k in range(len(open_ones) - 1, same - 1, -1)]
        for k, (number, title) in enumerate(box.within[same:], same + 1):
            lines += ["    " * k + f"subgraph cluster_{number} {{",
                      "    " * (k + 1) + f'label="{quoted(title)}";']
        open_ones = box.within
        label = "\\n".join(map(quoted, box.lines))
        lines.append("    " * (len(open_ones) + 1) + f'{name} [label="{label}"];')
    lines += ["    " * (k + 1) + "}" for k in range(len(open_ones) - 1, -1, -1)]
    lines += [f"    {a} -> {b};" for a, b in drawing.edges]
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
    for name, box in drawing.boxes.items():
        color = _COLORS.get(name[0], "#dce9f5")
        axes.text(*places[name], "\n".join(box.lines), ha="center", va="center", fontsize=9,
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
            rankdir: str) -> tuple[dict[str, tuple[float, float]], float, float]:
    """Middles of boxes, in inches, and the picture's width and height."""
    along = rankdir in ("LR", "RL")
    ranks: dict[int, list[str]] = {}
    for number, box in drawing.boxes.items():
        ranks.setdefault(box.depth, []).append(number)
    order: dict[str, float] = {}
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


def _border(drawing: _Drawing, places: dict[str, tuple[float, float]], number: str,
            other: str) -> tuple[float, float]:
    """Where the line from a box's middle to another's leaves the box."""
    (x, y), (u, v), (wide, high) = places[number], places[other], drawing.boxes[number].size
    dx, dy = u - x, v - y
    shares = [half / abs(d) for half, d in ((wide / 2, dx), (high / 2, dy)) if d]
    share = min([*shares, 1.0]) if shares else 0.0
    return x + dx * share, y + dy * share
