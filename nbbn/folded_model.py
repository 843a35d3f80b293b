"""The folded model: a network for inference alone, its files, and what its outputs mean."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from nbbn import formats, markup
from nbbn.answers import chosen, probabilities
from nbbn.fold import FoldReport, fold_checked
from nbbn.formats import native
from nbbn.formats.files import PathLike
from nbbn.network import Network, apart, beside
from nbbn.operations import Indices
from nbbn.predictor import Predictor
from nbbn.sparse_rows import SparseRows, stored_elements

# Classes that a notebook shows.
_SHOWN_CLASSES = 10
KINDS = (None, "classifier", "multilabel", "regressor")


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

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> folded = model.fold()
    >>> folded.predict(np.zeros((2, 4), "float32")).shape
    (2, 3)
    >>> folded.save("model.safetensors")
    >>> nbbn.load("model.safetensors").report.n_folded
    1
    """

    classes_: np.ndarray

    def __init__(self, network: Network, *, kind: str | None = None,
                 classes: ArrayLike | None = None, report: FoldReport | None = None):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        self.network, self.kind = network.check(), kind
        self.report, outputs = report or FoldReport(), network.output_shape
        if classes is not None:
            self.classes_ = np.asarray(classes)
        if kind == "classifier" and (classes is None or len(self.classes_) != max(2, outputs[0])):
            raise ValueError(f"a classifier with {outputs[0]} outputs needs a class for each (2 "
                             f"for one), got {classes!r}")
        self._row, self._dtype, self._out = network.input_shape, network.dtype, outputs
        graph = network.graph
        self._inputs = graph.inputs if graph else (self._row,)
        self._answers = graph.output_shapes(network.layers) if graph else [outputs]
        # By whether they take rows of stored elements.
        self._predictors: dict[bool, Predictor] = {}

    @classmethod
    def of(cls, network: Network, kind: str | None = None, classes: ArrayLike | None = None, *,
           strict: bool = False, check: ArrayLike | None = None) -> FoldedModel:
        """A network, folded and checked.

        Parameters
        ----------
        network : Network
        kind, classes
            As of the class.
        strict, check
            As of `nbbn.fold`.

        Returns
        -------
        FoldedModel

        Raises
        ------
        FoldRefused
            With `strict`, where a batch norm could not be folded.
        FoldCheckFailed
            Where the outputs differ by more than rounding explains.
        """
        folded, report = fold_checked(network, strict=strict, check=check, run=Predictor)
        return cls(folded, kind=kind, classes=classes, report=report)

    def fold(self, *, strict: bool = False, check: ArrayLike | None = None) -> FoldedModel:
        """The same function with what batch norms are left folded; `nbbn.fold` says more.

        Parameters
        ----------
        strict, check
            As of `nbbn.fold`.

        Returns
        -------
        FoldedModel
        """
        classes = getattr(self, "classes_", None)
        rows = None if check is None else self._flat(check)
        return FoldedModel.of(self.network, self.kind, classes, strict=strict, check=rows)

    # -- inference

    @functools.cached_property
    def _indices(self) -> list[Indices]:
        """Numbers of a row that say which rows of tables are taken."""
        return self.network.computation().indices

    def _outputs(self, x: Any) -> np.ndarray:
        """The network's outputs; a C-contiguous array of its dtype goes straight to the kernels."""
        if not (type(x) is np.ndarray and x.dtype == self._dtype and x.shape[1:] == self._row):
            x = self._checked(x, self._row)
        sparse = isinstance(x, SparseRows)
        for some in self._indices:
            for rows in x.dense_parts() if sparse else (x,):
                some.check(rows, "X")
        if sparse not in self._predictors:
            self._predictors[sparse] = Predictor(self.network, sparse=sparse)
        outputs = self._predictors[sparse](x)
        return outputs if len(self._out) == 1 else outputs.reshape(len(x), *self._out)

    def _checked(self, x: Any, row: tuple[int, ...]) -> Any:
        """Numeric rows of a shape, as an array or as stored elements."""
        sparse = hasattr(x, "tocsr")  # scipy's
        x = x.tocsr() if sparse else np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"X must be numeric, got dtype {x.dtype}; convert it to {self._dtype}")
        if x.ndim == 2 and len(row) == 1 and x.shape[1:] != row:
            raise ValueError(f"X has {x.shape[1]} features, "
                             f"but the model expects {row[0]} features as input")
        if x.shape[1:] != row or x.ndim == 0:
            wanted = ", ".join(map(str, row))
            raise ValueError(f"X must have shape (rows, {wanted}), got {x.shape}; reshape it")
        return stored_elements(x) if sparse else x

    def _flat(self, X: Any) -> Any:
        """Rows of several inputs beside each other; of one input, and flat ones, as they are."""
        if isinstance(X, dict):
            names = self.network.graph.input_names if self.network.graph else ()
            if X.keys() != {*names}:
                known = f"have the keys {', '.join(names)}" if names else "be no dict"
                raise ValueError(f"X must {known}, got {', '.join(map(str, X))}")
            X = [X[name] for name in names]
        if len(self._inputs) == 1 or not isinstance(X, list | tuple) or len(X) != len(self._inputs):
            return X
        return beside([self._checked(x, row) for x, row in zip(X, self._inputs)], self._dtype, "X")

    def predict(self, X: Any) -> Any:
        """Classes `(rows,)`, an indicator matrix of a multilabel model, or any other's outputs.

        Parameters
        ----------
        X : array-like of shape (rows, features) or (rows, height, width, channels)
            A C-contiguous array of the model's dtype goes straight to the kernels; a NaN gives
            NaN, or the first class. Sparse matrices of scipy's are read by their stored elements.
            Of a network of several inputs a list of arrays, a dict of them by the inputs' names, or
            all rows flat beside each other.

        Returns
        -------
        ndarray
            Of a network of several outputs a list of them.

        Raises
        ------
        TypeError
            For rows that are not numeric.
        ValueError
            For another shape, and for numbers that an Embedding reads and has no row for.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> X = np.random.default_rng(0).normal(size=(300, 4))
        >>> labels = np.where(X[:, 0] > 0, "up", "down")
        >>> folded = nbbn.MLPClassifier((8,), tol=1e-2, random_state=0).fit(X, labels).fold()
        >>> folded.predict([[3.0, 0.0, 0.0, 0.0], [-3.0, 0.0, 0.0, 0.0]]).tolist()
        ['down', 'down']
        """
        X = self._flat(X)
        if len(self._answers) > 1:
            return apart(self._outputs(X), self._answers)
        found = chosen(self._outputs(X), self.kind)
        return self.classes_[found] if self.kind == "classifier" else found

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities `(rows, n_classes)` of a classifier, in the order of `classes_`.

        Parameters
        ----------
        X : array-like
            As of `predict`.

        Returns
        -------
        ndarray of the model's dtype

        Raises
        ------
        AttributeError
            For a model that is no classifier.
        TypeError, ValueError
            As `predict`.
        """
        if self.kind not in ("classifier", "multilabel"):
            own = self.kind or "a plain network"
            raise AttributeError(f"predict_proba needs a classifier, this model is {own}")
        outputs = self._outputs(X)
        return probabilities(outputs) if self.kind == "classifier" else outputs

    def fit(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Not possible.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("a folded model cannot be trained: its batch norms are gone; "
                        "train the source and fold again")

    partial_fit = fit

    # -- files

    def save(self, path: PathLike) -> None:
        """Write one safetensors file with a JSON header; `nbbn.load` opens it.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        FileError
            Where the file cannot be written.
        """
        classes = getattr(self, "classes_", None)
        native.save(path, *formats.of_answers(self.network, self.kind, classes, self.report))

    def to_onnx(self, path: PathLike | None = None, *, dtype: str | None = None) -> Any:
        """Write an ONNX model (needs the extra `onnx`).

        Parameters
        ----------
        path : path-like, optional
            None writes no file.
        dtype : {None, "float32", "float64"}
            What the file computes in and its inputs are made of; None: as the network. The folded
            weights are rounded once.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            Without the package onnx.
        LayerError, ValueError
            For a network that ONNX cannot express, or another dtype.
        FileError
            Where the file cannot be written.

        Examples
        --------
        >>> import nbbn
        >>> dense = nbbn.layers.Dense(3, input_shape=(4,))
        >>> model = nbbn.Sequential([dense, nbbn.layers.BatchNormalization()])
        >>> written = model.fold().to_onnx("model.onnx")
        >>> [node.op_type for node in written.graph.node]
        ['Gemm', 'Identity']
        """
        return self._export(".onnx", path, dtype)

    def to_c(self, path: PathLike | None = None, *, name: str | None = None,
             dtype: str | None = None) -> str:
        """Write C99 source that computes the same with nothing but the C library.

        Parameters
        ----------
        path : path-like, optional
            None writes no file.
        name : str, optional
            What `NAME_predict` and the other names begin with; None: the file's name without its
            ending, or `model`.
        dtype : {None, "float32", "float64"}
            What the file computes in and `NAME_real` is; None: as the network. The folded
            weights are rounded once.

        Returns
        -------
        str
            The source.

        Raises
        ------
        LayerError, ValueError
            For a network that has no C functions, a name that is no C identifier, a class label
            that is no C string, and another dtype.
        FileError
            Where the file cannot be written.

        Notes
        -----
        Weights are hexadecimal literals, exactly the network's own; a comment says what to call and
        how to compile. Nothing is allocated and nothing is static but constants, so that many
        threads may call the functions at once. Activations take turns in buffers, two in a chain of
        layers: on the stack, where they take at most 256 KiB together, or the caller's. Several
        inputs and outputs have pointers of their own, named after them.

        A number that has no row in an Embedding's table takes the nearest, without a word.

        Outputs differ from nbbn's own by the order of sums and by the C library's exponentials, a
        few units in the last place of the largest term.

        Examples
        --------
        >>> import nbbn
        >>> dense = nbbn.layers.Dense(3, input_shape=(4,))
        >>> model = nbbn.Sequential([dense, nbbn.layers.BatchNormalization()])
        >>> source = model.fold().to_c("net.c")
        >>> [line for line in source.splitlines() if line.startswith("#define NET_INPUTS")]
        ['#define NET_INPUTS 4']
        """
        return self._export(".c", path, dtype, name=name)

    def write(self, path: PathLike) -> None:
        """Write a file of the format that its name says.

        Parameters
        ----------
        path : path-like
            Ends in `.safetensors`, nbbn's own format, or in one of `nbbn.formats.WRITERS`.

        Raises
        ------
        ValueError
            For another ending.
        ImportError, LayerError, FileError
            As of `save`, `to_onnx` and `to_c`.

        Examples
        --------
        >>> import nbbn
        >>> dense = nbbn.layers.Dense(3, input_shape=(4,))
        >>> model = nbbn.Sequential([dense, nbbn.layers.BatchNormalization()])
        >>> model.fold().write("model.c")  # the ending says which format
        """
        suffix = Path(path).suffix.lower()
        if suffix == native.SUFFIX:
            self.save(path)
        elif suffix in formats.WRITERS:
            self._export(suffix, path)
        else:
            known = ", ".join([native.SUFFIX, *formats.WRITERS])
            raise ValueError(f"{path}: the name must end in one of {known}")

    def _export(self, suffix: str, path: PathLike | None, dtype: str | None = None,
                **options: Any) -> Any:
        """What the format's writer returns."""
        write, classes = formats.WRITERS[suffix].write, getattr(self, "classes_", None)
        network = self.network.astype(dtype)
        return write(network, path, kind=self.kind, classes=classes, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictors": {}}

    def __repr__(self) -> str:
        layers = self.network.layers
        sizes = [n for a in layers if (n := getattr(a, "units", getattr(a, "filters", None)))]
        shown = " -> ".join(["x".join(map(str, self._row)), *map(str, sizes)])
        return f"<FoldedModel {shown}, {self._dtype}, {self.kind or 'network'}>"

    def _repr_html_(self) -> str:
        """For notebooks: layers and their shapes, what the outputs mean, how the fold went."""
        network, shapes = self.network, [after for _, after in self.network.layer_shapes]
        rows = [(str(i), layer.name or type(layer).__name__, type(layer).__name__,
                 " x ".join(map(str, shape)), f"{sum(a.size for a in arrays.values()):,}")
                for i, (layer, shape, arrays) in enumerate(
                    zip(network.layers, shapes, network.weights))]
        about = [f"takes rows of {' x '.join(map(str, self._row))} numbers of {self._dtype}"]
        if self.kind == "classifier":
            shown = ", ".join(map(str, self.classes_[:_SHOWN_CLASSES]))
            more = len(self.classes_) - _SHOWN_CLASSES
            about.append(f"classes: {shown}{f' and {more} more' if more > 0 else ''}")
        report, fold = self.report, []
        if report.entries:
            title = f"fold: {report.n_folded} of {report.n_total} batch norms are gone"
            fold = [markup.details(title, report._repr_html_())]
        return markup.block(
            markup.heading(f"FoldedModel, {self.kind or 'network'}"), *map(markup.line, about),
            markup.table(("", "layer", "type", "output of a row", "parameters"), rows, (0, 3, 4)),
            *fold)
