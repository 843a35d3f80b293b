"""What MLPClassifier and MLPRegressor share: fit, activations of any layer, files."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from nbbn.estimators import checks, of_group, partitions
from nbbn.estimators.lazy_rows import outputs_of
from nbbn.estimators.mlp import architecture as networks
from nbbn.estimators.mlp import callbacks, rules
from nbbn.estimators.mlp.callbacks import CallbackSupportMixin, with_callbacks
from nbbn.estimators.mlp.fit_data import FitData, Given
from nbbn.estimators.mlp.fit_state import FitState, Fitted
from nbbn.estimators.mlp.fitting import Fitting, task_attributes
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.streamed_data import StreamedData
from nbbn.estimators.mlp.target_scale import TargetScale
from nbbn.estimators.stored_parameters import from_json, to_json
from nbbn.formats import Content
from nbbn.formats.content import labels_to_json
from nbbn.group import ALONE, Group
from nbbn.network import Network
from nbbn.partitions.partitions import Partitions
from nbbn.predictor import Predictor
from nbbn.recalibration import recalibrated
from nbbn.sparse_rows import SparseRows
from nbbn.warning import warn


class _OfLayer:
    """An estimator as scikit-learn's `set_output` asks it, with the names of one layer."""

    def __init__(self, estimator: Activations, layer: int):
        self._estimator, self._layer = estimator, layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)

    def get_feature_names_out(self) -> np.ndarray:
        return self._estimator.get_feature_names_out(layer=self._layer)


def _copied(x: np.ndarray | SparseRows, dtype: np.dtype) -> np.ndarray:
    """The rows themselves, which are the activations of the input."""
    if isinstance(x, SparseRows):
        return x.astype(dtype).toarray()
    return np.array(x, dtype, order="C")


class Activations(Fitted):
    """What the layers of a fitted MLP make of rows.

    Stands outside scikit-learn's transformers: they wrap the `transform` of their subclasses, and
    know the names of one layer alone.
    """

    def _outputs(self, X: Any, layer: int = -1) -> np.ndarray:
        """Activations of a layer for rows of any kind; the last one's are the network's outputs."""
        check_is_fitted(self)
        with self._own_threads():
            X = checks.check_rows(self, X, reset=False, contiguous=False)
            checks.check_range(X, self._dtype)
            return outputs_of(self._predictor(layer, isinstance(X, SparseRows)), X)

    def _predictor(self, layer: int, sparse: bool) -> Any:
        """The compiled network up to a layer; anew when an attribute holds another array."""
        held_norms = (a for name in networks.NORM_ATTRIBUTES for a in getattr(self, name))
        arrays = [*(a for a in held_norms if a is not None), *self.coefs_, *self.intercepts_]
        held, predictor = self._predictors.get((layer, sparse), ([], None))
        if len(held) != len(arrays) or any(a is not b for a, b in zip(held, arrays)):
            network = self.network()
            if layer != -1:
                network = self._architecture.leading_to(layer, network)
            copies = partial(_copied, dtype=network.dtype)
            predictor = Predictor(network, sparse=sparse) if network.layers else copies
            self._predictors[layer, sparse] = arrays, predictor
        return predictor

    def transform(self, X: Any, layer: int = -2) -> Any:
        """Activations of one layer for the rows, as they are in inference.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Partitions
            The input data.
        layer : int, default=-2
            0 is the input, 1 the first hidden layer; -1 is the output layer, -2 the last hidden
            one.

        Returns
        -------
        activations : ndarray of shape (n_samples, units)
            Of the computing dtype; batch norm by the running statistics, no dropout. A frame after
            `set_output`.

        Raises
        ------
        ValueError
            For a layer that the network does not have.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> X = np.random.default_rng(0).normal(size=(300, 4))
        >>> clf = nbbn.MLPClassifier((8, 3), tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
        >>> clf.transform(X).shape, clf.transform(X, layer=1).shape
        ((300, 3), (300, 8))
        """
        if isinstance(X, Partitions):
            return partitions.of_each(self, X, lambda model, rows: model.transform(rows, layer))
        at = self._layer_number(layer)
        activations = self._outputs(X, -1 if at == self.n_layers_ - 1 else at)
        return _wrap_data_with_container("transform", activations, X, _OfLayer(self, at))

    def get_feature_names_out(self, input_features: Any = None, layer: int = -2) -> np.ndarray:
        """Names of the columns that `transform` gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the input's columns; they have to be those of the fit.
        layer : int, default=-2
            As of `transform`.

        Returns
        -------
        names : ndarray of object
            The class's name in lower case with the unit's number; of layer 0 the input's names.

        Raises
        ------
        ValueError
            For a layer that the network does not have, or other names than those of the fit.
        """
        at = self._layer_number(layer)
        names = _check_feature_names_in(self, input_features)
        if at == 0:
            return names
        units = self._architecture.shapes[self._architecture.until(at)][0]
        return np.array([f"{type(self).__name__.lower()}{unit}" for unit in range(units)], object)

    def _layer_number(self, layer: Any) -> int:
        """The layer counted from the input."""
        check_is_fitted(self)
        count = self.n_layers_
        whole = isinstance(layer, Integral) and not isinstance(layer, bool)
        if not whole or not -count <= layer < count:
            raise ValueError(f"layer must be a whole number from {-count} to {count - 1}: the "
                             f"network has {count} layers, input and output included; got "
                             f"{layer!r}")
        return int(layer) % count


class BaseMLP(CallbackSupportMixin, TransformerMixin, Activations):
    """An estimator around a trainer and a predictor."""

    @partitions.hold_targets
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None,
            y_val: Any = None, sample_weight_val: Any = None) -> Any:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Partitions
            The input data. float32 rows are computed in float32, all others in float64, unless
            `dtype` says otherwise; integers are converted batch by batch, sparse rows (of any
            format; sorted CSR is not copied) are read by their stored elements and never become
            dense. `nbbn.Partitions` hold targets and weights, too, and are read again every epoch;
            a first pass over their targets finds the classes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The target values: class labels or an indicator matrix in classification, real numbers
            in regression. None with partitions.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights. A batch's loss is the weighted mean over its rows, and batch norms'
            statistics are weighted, as if rows were repeated.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features) or Partitions, default=None
            Rows that are evaluated after every epoch; with `early_stopping` they take the place of
            the rows held out. Of partitions `validation_fraction` holds out that share of each, as
            drawn by `random_state`, but 64 MB of rows in all at most, which stay in memory.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For NaN or infinity, shapes that do not fit, parameters that do not go together, one
            sample with batch norm, or weights that became infinite. The estimator is then as it was
            before.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> rng = np.random.default_rng(0)
        >>> X, X_val = rng.normal(size=(300, 4)), rng.normal(size=(100, 4))
        >>> y, y_val = X[:, 0] > X[:, 1], X_val[:, 0] > X_val[:, 1]
        >>> clf = nbbn.MLPClassifier((8,), early_stopping=True, random_state=0)
        >>> clf = clf.set_params(learning_rate_init=0.01)
        >>> clf = clf.fit(X, y, X_val=X_val, y_val=y_val)
        >>> len(clf.validation_scores_) == clf.n_iter_, clf.best_validation_score_ > 0.9
        (True, True)
        """
        return self._fit(Given(X, y, sample_weight, X_val, y_val, sample_weight_val))

    def fit_in_group(self, group: Group, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any,
                     **given: Any) -> Any:
        """`fit` on the rows of all processes of a group; `nbbn.distributed.fit` calls it."""
        return self._fit(Given(X, y, sample_weight, X_val, y_val, group=group, **given))

    def _fit(self, given: Given, *, incremental: bool = False, task: MLPTask | None = None) -> Any:
        held = self.__dict__.get("_skl_callbacks")
        with self._unchanged_on_error():
            self._fit_checked(given, incremental, task)
        self.__dict__.pop("_skl_callbacks", None)
        if held is not None:
            self._skl_callbacks = held
        return self

    @with_callbacks
    def _fit_checked(self, given: Given, incremental: bool, task: MLPTask | None) -> None:
        """Check the parameters, then fit."""
        with given.group.together():
            rules.check_each(self)
            hidden = rules.hidden_layers(self)
            functions, objects = callbacks.split(self.callbacks)
            rules.check_together(self, hidden, incremental)
            given.check()
            callbacks.register(self, objects)
        with self._own_threads():
            streams = isinstance(given.X, Partitions) and not given.X.fit_into_window
            kind = StreamedData if streams else FitData
            data = kind.of(self, given, hidden, task, incremental=incremental)
            if (only := data.task.one_class) and not incremental:
                # No UserWarning: to scikit-learn those are of names and shapes.
                warn(f"y holds one class, {only[0]!r}: predict gives it whatever the rows",
                     RuntimeWarning)
            Fitting(self, data, incremental=incremental).run(given, functions)

    def _is_stochastic(self) -> bool:
        """Whether there is `partial_fit`; AttributeError where the solver goes by no epochs."""
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is only available for stochastic optimizers. "
                                 f"{self.solver} is not stochastic.")
        return True

    # -- after the fit

    def recalibrate(self, X: Any) -> Any:
        """Replace the running statistics of every batch norm by the exact ones of the rows `X`.

        Layer by layer, each on rows normalised by the new statistics of those before it; nothing is
        drawn, so the same rows give the same statistics. Without batch norm nothing changes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or Partitions
            Usually the training rows. Partitions are read once for each batch norm.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For rows as `predict` refuses them, or a single one.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> X = np.random.default_rng(0).normal(size=(300, 4))
        >>> clf = nbbn.MLPClassifier((8,), tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
        >>> clf = clf.recalibrate(X)
        >>> bool(np.allclose(clf.running_means_[0], (X @ clf.coefs_[0]).mean(0)))
        True
        """
        return self.recalibrate_in_group(ALONE, X)

    def recalibrate_in_group(self, group: Group, X: Any) -> Any:
        """`recalibrate` on the rows of all processes of a group; None for `X`: it has none."""
        network, norms = self.network(), self._architecture.norms
        with self._own_threads():
            x: Any = None
            with group.together():
                if isinstance(X, Partitions):
                    x = partitions.many_rows(self, X, X.headers(), self._dtype)
                elif X is not None or group.world is None:
                    x = checks.check_rows(self, X, reset=False)
                    checks.check_range(x, self._dtype)
            x = of_group.rows_of(group, self, x)
            if self._architecture.has_norm and group.count(len(x)) < 2:
                raise ValueError("recalibrate needs at least 2 rows, got 1 sample: "
                                 "its variance would be 0")
            found = recalibrated(network, x, group)
        for attribute, name in (("running_means_", "mean"), ("running_vars_", "var")):
            setattr(self, attribute, [None if i is None else found[i][name] for i in norms])
        return self

    def network(self) -> Network:
        """The fitted network: layers and weights, as folding and files take it."""
        check_is_fitted(self)
        weights = networks.collect(self, self._architecture, self._dtype)
        return self._architecture.network(weights, self._dtype)

    def _described(self, features: int) -> networks.Architecture:
        """The architecture that the parameters describe at this moment."""
        return networks.mlp(features, rules.hidden_layers(self), self.n_outputs_, self.bn_momentum,
                            self.bn_epsilon, self.out_activation_)

    # -- files

    def _content(self) -> Content:
        network, state, task = self.network(), self._fit_state, self._task
        if not self._described(network.input_shape[0]).is_of(network):
            raise ValueError("hidden_layer_sizes, activation, residual or a parameter of batch "
                             "norm was changed after the fit: set it back, or fit again")
        meta = {"model": type(self).__name__, "kind": task.kind,
                "classes": labels_to_json(task.classes),
                "params": to_json(self.get_params(deep=False)), "loss": task.loss,
                "level": task.level, "target_scale": task.scale and asdict(task.scale),
                "epochs": state.epochs, "rows_seen": state.rows_seen,
                "steps": state.steps, "seed": state.seed, "final_loss": float(self.loss_),
                "best_score": float(state.best_score) if np.isfinite(state.best_score) else None,
                "loss_curve": [float(v) for v in state.losses],
                "validation_loss_curve": [float(v) for v in state.validation_losses],
                "validation_scores": [float(v) for v in state.scores],
                "feature_names": [str(n) for n in getattr(self, "feature_names_in_", [])]}
        return Content(network, meta, {})

    @classmethod
    def from_content(cls, content: Content, classes: np.ndarray | None) -> BaseMLP:
        """What a file holds; `nbbn.load` calls it."""
        network, meta, _ = content
        params = from_json(meta["params"])
        if "target_scale" not in meta and meta["kind"] == "regressor":  # of an earlier version
            params.setdefault("normalize_y", False)
        self = cls(**params)
        rules.check_each(self)
        self.n_features_in_ = network.input_shape[0]
        if meta["feature_names"]:
            self.feature_names_in_ = np.array(meta["feature_names"], dtype=object)
        loss, level, outputs = str(meta["loss"]), float(meta["level"]), network.output_shape[0]
        scale = TargetScale.from_json(meta.get("target_scale"))
        task = MLPTask(meta["kind"], outputs, classes, loss=loss, level=level, scale=scale)
        self.__dict__.update(task_attributes(self, task))
        architecture = self._described(self.n_features_in_)
        if not architecture.is_of(network):
            raise ValueError("its layers are not those that its parameters describe")
        curves = ("loss_curve", "validation_loss_curve", "validation_scores")
        losses, val_losses, scores = ([float(v) for v in meta[name]] for name in curves)
        best = -np.inf if meta["best_score"] is None else float(meta["best_score"])
        names = ("rows_seen", "epochs", "steps", "seed")
        counts: dict[str, Any] = {name: int(meta[name]) for name in names}
        state = FitState(losses, val_losses, scores, min(losses, default=np.inf), best,
                         min(val_losses, default=np.inf), **counts)
        self.__dict__.update(**networks.attributes(architecture, network.weights),
                             **state.attributes(self.solver != "lbfgs" and self.early_stopping),
                             _fit_state=state, _architecture=architecture, _dtype=network.dtype,
                             _predictors={}, _trainer=None, _training=None, _output=None)
        self.loss_ = float(meta["final_loss"])
        return self

    # -- scikit-learn's protocols

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_") and hasattr(self, "_architecture")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        if "_predictors" in state:
            state |= {"_predictors": {}, "_trainer": None}
        return state
