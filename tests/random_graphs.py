"""Random networks with branches, layers called again, pads, pools and several outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from graph_networks import Drawing

from nbbn import layers as L

SHAPES = ((5,), (3, 4), (4, 5, 3), (6, 6, 2))
MOST_NUMBERS = 600


class Random:
    """A graph in the making, and the shapes of its values."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        inputs = [SHAPES[self.rng.integers(len(SHAPES))]]
        if self.rng.random() < 0.2:
            inputs.append(SHAPES[self.rng.integers(len(SHAPES))])
        self.drawing = Drawing(*inputs)
        self.shapes = {-k: shape for k, shape in enumerate(inputs, 1)}
        self.read, self.takes = set(), []

    def any_of(self, values):
        values = list(values)
        return values[self.rng.integers(len(values))]

    def source(self):
        """Mostly what nobody reads yet: batch norms fold where nobody else reads."""
        unread = [value for value in self.shapes if value not in self.read]
        if unread and self.rng.random() < 0.85:
            return unread[-1] if self.rng.random() < 0.6 else self.any_of(unread)
        return self.any_of(self.shapes)

    def add(self, layer, *sources):
        """A layer, if it can take these rows and does not make them large."""
        shapes = [self.shapes[source] for source in sources]
        try:
            shape = layer.output_shape(*shapes)
        except ValueError:
            return False
        if np.prod(shape) > MOST_NUMBERS or len(shape) > 3 or 0 in shape:
            return False
        self.shapes[self.drawing(layer, *sources)] = shape
        self.takes.append(tuple(shapes))
        self.read |= {*sources}
        return True

    def again(self):
        """Call a layer that is there on rows like its first ones, with all that followed it."""
        which = [k for k, shapes in enumerate(self.takes)
                 if len(shapes) == 1 and self.drawing.layers[k].weight_shapes(*shapes)]
        if not which:
            return
        layer = self.any_of(which)
        alike = [value for value, shape in self.shapes.items() if (shape,) == self.takes[layer]]
        source = self.any_of(alike)
        for _ in range(int(self.rng.integers(1, 4))):
            value = self.drawing.again(layer, source)
            self.shapes[value] = self.drawing.layers[layer].output_shape(self.shapes[source])
            self.read.add(source)
            source = value
            # The layer that took what this one gave, when it was called first.
            first = next(k for k, call in enumerate(self.drawing.calls) if call.layer == layer)
            behind = [call.layer for call in self.drawing.calls if call.sources == (first,)]
            behind = [k for k in behind if self.takes[k] == (self.shapes[value],)]
            if not behind:
                return
            layer = behind[0]

    def join(self):
        """Values of one shape, or that follow one another along an axis."""
        first = self.source()
        shape = self.shapes[first]
        kind = self.any_of([L.Add, L.Add, L.Add, L.Subtract, L.Multiply, L.Maximum, L.Minimum,
                            L.Average, L.Concatenate, L.Concatenate, L.Concatenate])
        if kind is L.Concatenate:
            axis = int(self.rng.integers(len(shape))) if self.rng.random() < 0.2 else -1
            at = axis % len(shape)
            others = [value for value, other in self.shapes.items() if len(other) == len(shape)
                      and (*other[:at], *other[at + 1 :]) == (*shape[:at], *shape[at + 1 :])]
            layer = L.Concatenate(at + 1 if axis >= 0 else -1)
        else:
            fits = {shape, (*(1,) * (len(shape) - 1), shape[-1]), shape[-1:]}
            others = [value for value, other in self.shapes.items() if other in fits]
            layer = kind()
        unread = [value for value in others if value not in self.read and value != first]
        second = self.any_of(unread if unread and self.rng.random() < 0.8 else others)
        sources = [first, second]
        if self.rng.random() < 0.2 and kind is not L.Subtract:
            sources.append(self.any_of(others))
        if self.rng.random() < 0.5:
            sources.reverse()
        self.add(layer, *sources)

    def norm(self):
        at = self.source()
        axis = -1 if self.rng.random() < 0.85 else int(self.rng.integers(len(self.shapes[at]))) + 1
        self.add(L.BatchNormalization(axis=axis), at)

    def layer(self):
        at = self.source()
        width = int(self.rng.integers(2, 5))
        makers = [lambda: L.Dense(width), lambda: L.Dense(width, use_bias=False),
                  lambda: L.Activation("tanh"), L.ReLU, lambda: L.Activation("relu"),
                  lambda: L.LeakyReLU(0.2), lambda: L.Dropout(0.3)]
        if len(self.shapes[at]) > 1:
            makers += [L.Flatten, lambda: L.Reshape((-1, self.shapes[at][-1]))]
        if len(self.shapes[at]) == 3:
            some = self.any_of
            makers += 2 * [
                lambda: L.Conv2D(width, some((1, 2)), padding=some(("same", "valid"))),
                lambda: L.Conv2D(width, some((1, 3)), padding="same", use_bias=False),
                lambda: L.DepthwiseConv2D(some((1, 2)), padding=some(("same", "valid"))),
                lambda: L.Conv2DTranspose(width, 2), lambda: L.ZeroPadding2D(1),
                lambda: L.AveragePooling2D(2, 1, padding=some(("same", "valid"))),
                lambda: L.MaxPooling2D(2, 1, padding=some(("same", "valid"))),
                lambda: L.GlobalAveragePooling2D(keepdims=some((True, False))),
                lambda: L.UpSampling2D((1, 2)), lambda: L.GlobalMaxPooling2D(keepdims=True),
            ]  # fmt: skip
        self.add(self.any_of(makers)(), at)

    def network(self, steps):
        """The network; a third of the batch norms have no shift, and some no scale."""
        acts = [self.norm] * 5 + [self.layer] * 9 + [self.join] * 5 + [self.again]
        while not self.drawing.calls:
            self.layer()
        for _ in range(steps):
            self.any_of(acts)()
        outputs = [v for v in self.shapes if v >= 0 and v not in self.read]
        if self.rng.random() < 0.2:
            outputs.append(self.any_of(v for v in self.shapes if v >= 0))
        made = self.drawing.network(*dict.fromkeys(outputs), seed=int(self.rng.integers(1 << 30)))
        weights = [self.changed(arrays) for arrays in made.weights]
        return replace(made, weights=weights)

    def changed(self, arrays):
        if "gamma" not in arrays:
            return arrays
        arrays, how = dict(arrays), self.rng.integers(3)
        if self.rng.random() < 0.3:
            arrays["gamma"] = arrays["gamma"] * self.rng.choice([-1, 1], arrays["gamma"].shape)
        if how == 0:
            arrays["mean"], arrays["beta"] = (np.zeros_like(arrays["mean"]) for _ in range(2))
        elif how == 1 and self.rng.random() < 0.3:
            arrays["gamma"] = np.sqrt(arrays["var"] + 1e-3)
        return arrays


def network(seed):
    """The random network of a number."""
    made = Random(seed)
    return made.network(int(made.rng.integers(4, 20)))
