"""The shortest way from an array to an answer: a network compiled for inference, and the folded model around it."""

from __future__ import annotations

import numpy as np

from nbbn import compiler
from nbbn.fallback import NumpyBlocks
from nbbn.fold.report import FoldReport
from nbbn.network import Network

KINDS = (None, "classifier", "multilabel", "regressor")


class Predictor:
    """A network ready for inference; callable on rows, safe from many threads at once.

    On compiled kernels, or on NumPy where there is no compiler.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network):
        self._blocks = _compiled(network) if compiler.available() else NumpyBlocks(network)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs, `(rows, numbers of an output)` of the network's dtype, for numeric rows.

        Others than writeable C-contiguous ones of that dtype are converted a few thousand at a time.
        """
        return self._blocks.run(x)


def _compiled(network: Network):
    # Here, not above: these import numba.
    from nbbn.program.inference import InferenceProgram
    from nbbn.program.run import blocks_of

    lowered = InferenceProgram(network.layers, network.shapes, network.dtype)
    memory = lowered.parameters.memory()
    lowered.parameters.upload(memory, network.weights)
    return blocks_of(lowered, memory)


class FoldedModel:
    """A network for inference alone; what `nbbn.fold` makes and `nbbn.load` opens.

    Many threads may call it at once. It cannot be trained.

    Parameters
    ----------
    network : Network
        Folded or not.
    kind : {None, "classifier", "multilabel", "regressor"}
        What the outputs mean; None for a plain network.
    classes : ndarray of shape (n_classes,), optional
        Of a classifier: what `predict` answers with.
    report : FoldReport, optional
        How the fold went.

    Attributes
    ----------
    classes_ : ndarray
        Of a classifier.
    report : FoldReport
    network : Network
    """

    def __init__(self, network: Network, *, kind: str | None = None, classes=None, report: FoldReport | None = None):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        self.network, self.kind = network.check(), kind
        self.report = report if report is not None else FoldReport()
        if classes is not None:
            self.classes_ = np.asarray(classes)
        if kind == "classifier" and (classes is None or len(classes) != max(2, network.output_shape[0])):
            raise ValueError(
                f"a classifier with {network.output_shape[0]} outputs needs a class for each (2 for one), got {classes!r}"
            )
        self._row, self._dtype = network.input_shape, network.dtype
        self._out = network.output_shape
        self._predictor: Predictor | None = None

    def _outputs(self, x) -> np.ndarray:
        """The network's outputs; a C-contiguous array of its dtype goes straight to the kernels."""
        if not (type(x) is np.ndarray and x.dtype == self._dtype and x.shape[1:] == self._row):
            x = self._checked(x)
        if self._predictor is None:
            self._predictor = Predictor(self.network)
        outputs = self._predictor(x)
        return outputs if len(self._out) == 1 else outputs.reshape(len(x), *self._out)

    def _checked(self, x) -> np.ndarray:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"X must be numeric, got dtype {x.dtype}; convert it to {self._dtype}")
        if x.ndim == 2 and len(self._row) == 1 and x.shape[1:] != self._row:
            raise ValueError(f"X has {x.shape[1]} features, but the model expects {self._row[0]} features as input")
        if x.shape[1:] != self._row or x.ndim == 0:
            raise ValueError(f"X must have shape (rows, {', '.join(map(str, self._row))}), got {x.shape}; reshape it")
        return x

    def predict(self, X) -> np.ndarray:
        """Classes `(rows,)`, an indicator matrix of a multilabel model, or the outputs of any other.

        Parameters
        ----------
        X : array-like of shape (rows, features) or (rows, height, width, channels)
            A C-contiguous array of the model's dtype goes straight to the kernels; a NaN gives NaN, or the first class.

        Returns
        -------
        ndarray

        Raises
        ------
        TypeError
            For rows that are not numeric.
        ValueError
            For another shape.
        """
        outputs = self._outputs(X)
        if self.kind == "multilabel":
            return (outputs > 0.5).astype(np.int64)
        if self.kind == "classifier":
            index = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0.5).astype(np.int64)
            return self.classes_[index]
        if self.kind == "regressor" and outputs.shape[1] == 1:
            return outputs[:, 0]
        return outputs

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities `(rows, n_classes)` of a classifier, in the order of `classes_`.

        Raises
        ------
        AttributeError
            For a model that is no classifier.
        TypeError, ValueError
            As `predict`.
        """
        if self.kind not in ("classifier", "multilabel"):
            raise AttributeError(f"predict_proba needs a classifier, this model is {self.kind or 'a plain network'}")
        outputs = self._outputs(X)
        if self.kind == "classifier" and outputs.shape[1] == 1:
            return np.hstack([1 - outputs, outputs])
        return outputs

    def fit(self, *_args, **_kwargs):
        """Not possible: raises TypeError."""
        raise TypeError("a folded model cannot be trained: its batch norms are gone; train the source and fold again")

    partial_fit = fit

    def save(self, path) -> None:
        """Write one safetensors file with a JSON header; `nbbn.load` opens it."""
        from nbbn.saving import save_folded

        save_folded(self, path)

    def to_onnx(self, path=None):
        """Write an ONNX model (needs the extra `onnx`); return the `onnx.ModelProto`.

        Parameters
        ----------
        path : path-like, optional
            None writes no file.
        """
        from nbbn.formats.onnx.write import write

        return write(self.network, path, classes=getattr(self, "classes_", None), kind=self.kind)

    def to_c(self, path=None, *, name: str | None = None) -> str:
        """Write C99 source that computes the same with nothing but the C library; return it.

        Parameters
        ----------
        path : path-like, optional
            None writes no file.
        name : str, optional
            What `NAME_predict` and the other names begin with; None: the file's name without its ending, or `model`.
        """
        from nbbn.interop.csource import to_c

        return to_c(self.network, path, name=name, classes=getattr(self, "classes_", None), kind=self.kind)

    def __getstate__(self):
        return {**self.__dict__, "_predictor": None}

    def __repr__(self):
        sizes = [n for layer in self.network.layers if (n := getattr(layer, "units", getattr(layer, "filters", None)))]
        layers = " -> ".join(["x".join(map(str, self._row)), *map(str, sizes)])
        return f"<FoldedModel {layers}, {self._dtype}, {self.kind or 'network'}>"
