"""How far ahead of the alternatives each figure is: the peer's time over nbbn's.

Both are measured in turn in one process. Above 1, nbbn is faster. A peer that is not installed is
skipped by name. Where the work has an answer, the two answers are compared before anything is
timed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbbn.functional import max_pool2d

from . import graphs as with_branches
from .contest import figures, keep
from .images import IMAGES, TAPS, pixels
from .images import Inputs as ImageInputs
from .norm import SHAPES, WITHIN_ROWS, Inputs
from .peers import functions, graphs, inference, norm, training
from .timed import Call
from .workloads import (
    CNN_BATCH,
    HIDDEN,
    SPARSE_BATCH,
    SPARSE_HIDDEN,
    cnn,
    cnn_fit,
    fit,
    make_images,
    pictures,
    sparse_rows,
)

Pair = tuple[Call, Call]


class _Ratio:
    """A benchmark whose `prepare(*params)` returns nbbn's call and the peer's.

    Its own name is private: asv passes it by.
    """

    prepare: Callable[..., Pair]
    timeout = 900
    unit = "peer's time / nbbn's"

    def setup(self, *params: object) -> None:
        self.own, self.peer = self.prepare(*params)

    def track_ratio(self, *params: object) -> float:
        found = figures(self.own, self.peer)
        keep(f"versus.{type(self).__name__}.track_ratio", params, found)
        return found["ratio"]


def agree(own: Call, peer: Call, tolerance: float) -> Pair:
    """The two calls, if they give the same numbers.

    A few in a million may differ: what stands within rounding of ReLU's corner falls on one side
    here, on the other there.
    """
    ours, theirs = np.asarray(own()), np.asarray(peer())
    if ours.shape != theirs.shape:
        raise AssertionError(f"nbbn gives shape {ours.shape}, the peer {theirs.shape}")
    different = np.mean(~(np.abs(ours - theirs) <= tolerance))
    if different > 3e-6:
        raise AssertionError(
            f"{100 * different:.3g} % of the numbers differ by more than {tolerance}"
        )
    return own, peer


class Training(_Ratio):
    """An epoch of 784-128-64-32-10 with Adam, as a whole fit.

    scikit-learn's without batch norm, which it has not.
    """

    params = ([32, 256, 1024], list(training.DENSE))
    param_names = ("batch_size", "peer")
    version = "1"

    def prepare(self, batch_size: int, peer: str) -> Pair:
        x, y = make_images()
        theirs = training.DENSE[peer](x, y, HIDDEN, batch_size)
        return lambda: fit(x, y, batch_size), theirs


class ConvolutionalTraining(_Ratio):
    """An epoch of the README's convolutional network over 3,200 images at batch 128."""

    params = list(training.IMAGES)
    param_names = ("peer",)
    version = "1"

    def prepare(self, peer: str) -> Pair:
        x, y = pictures(25 * CNN_BATCH)
        model = cnn()
        theirs = training.IMAGES[peer](x, y, model.network(), CNN_BATCH)
        return lambda: cnn_fit(model, x, y), theirs


class Inference(_Ratio):
    """Probabilities of the folded 784-128-64-32-10, from a NumPy array to a NumPy array."""

    params = ([1, 32, 1000, 10_000], list(inference.DENSE))
    param_names = ("rows", "peer")
    version = "1"

    def prepare(self, rows: int, peer: str) -> Pair:
        x, y = make_images(max(rows, 2000))
        folded = fit(x[:2000], y[:2000], 256).fold()
        x = np.ascontiguousarray(x[:rows])
        return agree(lambda: folded.predict_proba(x), inference.DENSE[peer](folded, x), 2e-5)


class ConvolutionalInference(_Ratio):
    """Probabilities of the README's convolutional network, folded, from array to array."""

    params = ([1, 32, 1000], list(inference.IMAGES))
    param_names = ("images", "peer")
    version = "1"

    def prepare(self, images: int, peer: str) -> Pair:
        x, y = pictures(max(images, 640))
        folded = cnn_fit(cnn(), x[:640], y[:640]).fold()
        x = np.ascontiguousarray(x[:images])
        return agree(lambda: folded.predict(x), inference.IMAGES[peer](folded, x), 5e-5)


class GraphInference(_Ratio):
    """Probabilities of a folded network with branches, images of 32 x 32 x 3."""

    params = (with_branches.NETWORKS, [1, 32], list(graphs.INFERENCE))
    param_names = ("network", "images", "peer")
    version = "1"

    def prepare(self, name: str, images: int, peer: str) -> Pair:
        model, (x, _) = with_branches.network(name), with_branches.images(images)
        folded, theirs = model.fold(), graphs.INFERENCE[peer]
        own, _ = agree(lambda: folded.predict(x), theirs(model, x, exact=True), 5e-5)
        return own, theirs(model, x)


class GraphTraining(_Ratio):
    """Four steps of a ResNet-18 a quarter as wide on images of 32 x 32 x 3, batch 64, Adam."""

    params = list(graphs.TRAINING)
    param_names = ("peer",)
    version = "1"

    def prepare(self, peer: str) -> Pair:
        batch, model = with_branches.BATCH, with_branches.compiled()
        x, y = with_branches.images(with_branches.STEPS * batch)
        theirs = graphs.TRAINING[peer](model, x, y, batch)
        return lambda: model.fit(x, y, batch_size=batch, epochs=1, verbose=0), theirs


class BatchNorm(_Ratio):
    """Batch norm and ReLU alone, float32, channels last."""

    params = (SHAPES, ["forward", "forward, backward", "inference"], list(norm.NORM))
    param_names = ("shape", "direction", "peer")
    version = "1"

    def prepare(self, shape: tuple[int, ...], direction: str, peer: str) -> Pair:
        inputs = Inputs(shape, "float32")

        def own() -> object:
            if direction == "inference":
                return inputs.inference("relu")
            y, cache = inputs.forward("relu")
            return y if direction == "forward" else inputs.backward(cache)[0]

        return agree(own, norm.NORM[peer](inputs, direction), 1e-3)


class WithinRows(_Ratio):
    """Layer norm, and group norm of eight groups, with ReLU, float32, channels last."""

    params = (SHAPES, WITHIN_ROWS, list(functions.WITHIN_ROWS))
    param_names = ("shape", "norm", "peer")
    version = "1"

    def prepare(self, shape: tuple[int, ...], name: str, peer: str) -> Pair:
        inputs = Inputs(shape, "float32")
        theirs = functions.WITHIN_ROWS[peer](inputs, name)
        return agree(lambda: inputs.within_rows(name), theirs, 1e-4)


class Convolution(_Ratio):
    """A convolution of 3 x 3 taps and 64 filters with bias and ReLU, float32, channels last."""

    params = (IMAGES, ["valid", "same"], list(functions.CONVOLUTION))
    param_names = ("images", "padding", "peer")
    version = "1"

    def prepare(self, shape: tuple[int, ...], padding: str, peer: str) -> Pair:
        inputs = ImageInputs(shape, "float32", padding=padding)
        return agree(inputs.nbbn, functions.CONVOLUTION[peer](inputs), 1e-3)


class Taps(_Ratio):
    """Other windows and groups on 64 images of 28 x 28 x 32, 64 filters, bias and ReLU, float32."""

    params = (list(TAPS), list(functions.CONVOLUTION))
    param_names = ("taps", "peer")
    version = "1"

    def prepare(self, taps: str, peer: str) -> Pair:
        inputs = ImageInputs(IMAGES[2], "float32", **TAPS[taps])
        return agree(inputs.nbbn, functions.CONVOLUTION[peer](inputs), 1e-3)


class MaxPool(_Ratio):
    """Maximum pools of 2 x 2 side by side, and of 3 x 3 that overlap, float32, channels last."""

    params = (IMAGES, [2, 3], list(functions.POOL))
    param_names = ("images", "window", "peer")
    version = "1"

    def prepare(self, shape: tuple[int, ...], window: int, peer: str) -> Pair:
        x = pixels(shape)
        return agree(lambda: max_pool2d(x, window, strides=2), functions.POOL[peer](x, window), 0)


class SparseRows(_Ratio):
    """An epoch on, and answers to, 2,000 CSR rows of 60,000 features, 80 stored in each.

    100 hidden units; scikit-learn's without batch norm, which it has not.
    """

    params = (["fit", "predict_proba"], list(training.SPARSE))
    param_names = ("work", "peer")
    version = "1"

    def prepare(self, work: str, peer: str) -> Pair:
        x, y = sparse_rows()
        theirs = training.SPARSE[peer](x, y, SPARSE_HIDDEN, SPARSE_BATCH)
        if work == "fit":
            return lambda: fit(x, y, SPARSE_BATCH, hidden=SPARSE_HIDDEN), theirs
        own = fit(x, y, SPARSE_BATCH, hidden=SPARSE_HIDDEN)
        fitted = theirs()
        return lambda: own.predict_proba(x), lambda: fitted.predict_proba(x)
