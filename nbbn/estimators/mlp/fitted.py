"""What a fitted estimator does besides predicting: its network, its files, exact statistics."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from nbbn.estimators import checks as data
from nbbn.estimators.lazy_rows import outputs_of
from nbbn.estimators.mlp import fit_state as records
from nbbn.estimators.mlp.architecture import NORM_ATTRIBUTES, Architecture, attributes, collect, mlp
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.estimators.mlp.parameters import check_each, hidden_layers, threads
from nbbn.estimators.mlp.transformer import HiddenActivations
from nbbn.estimators.stored_parameters import stored, taken
from nbbn.estimators.task import Task
from nbbn.models.recalibration import recalibrated
from nbbn.network import Network
from nbbn.predictor import Predictor
from nbbn.runtime import num_threads


class FittedMLP(HiddenActivations):
    """The part of an estimator that needs a fit."""

    # -- inference

    def _outputs(self, X, layer: int = -1) -> np.ndarray:
        """Activations of a layer for rows of any kind; the last one's are the network's outputs."""
        check_is_fitted(self)
        with num_threads(threads(self.n_jobs)):
            X = data.check_rows(self, X, reset=False, contiguous=False)
            data.check_range(X, self._dtype)
            return outputs_of(self._ready(layer), X)

    def _ready(self, layer: int) -> Predictor:
        """The compiled network up to a layer; made anew when an attribute holds another array than it was made from."""
        arrays = [a for name in NORM_ATTRIBUTES for a in getattr(self, name) if a is not None]
        arrays += [*self.coefs_, *self.intercepts_]
        held, predictor = self._compiled.get(layer, ([], None))
        if len(held) != len(arrays) or any(a is not b for a, b in zip(held, arrays)):
            network = self.network()
            if layer != -1:
                count = self._architecture.until(layer)
                network = Network(network.layers[:count], network.input_shape, network.weights[:count], network.dtype)
            predictor = Predictor(network) if network.layers else lambda x: np.array(x, network.dtype, order="C")
            self._compiled[layer] = arrays, predictor
        return predictor

    def recalibrate(self, X):
        """Replace the running statistics of every batch norm by the exact ones of the rows `X`.

        Layer by layer, each on rows normalised by the new statistics of those before it; nothing is drawn, so the same rows give
        the same statistics. Without batch norm nothing changes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Usually the training rows.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For rows as `predict` refuses them, or a single one.
        """
        network = self.network()
        with num_threads(threads(self.n_jobs)):
            x = data.check_rows(self, X, reset=False)
            data.check_range(x, self._dtype)
            if self._architecture.has_norm and len(x) < 2:
                raise ValueError("recalibrate needs at least 2 rows, got 1 sample: its variance would be 0")
            found = recalibrated(network, x)
        for attribute, name in (("running_means_", "mean"), ("running_vars_", "var")):
            setattr(self, attribute, [None if i is None else found[i][name] for i in self._architecture.norms])
        return self

    # -- the network, folding and files

    def network(self) -> Network:
        """The fitted network: layers and weights, as folding and files take it."""
        check_is_fitted(self)
        return self._architecture.network(collect(self, self._architecture, self._dtype), self._dtype)

    def network_and_meaning(self) -> tuple:
        """The fitted network, the kind of its outputs as `FoldedModel` has it, and the labels or None."""
        return self.network(), self._task.kind, self._task.classes

    def fold(self, *, strict: bool = False, check=None):
        """The same function without batch norm, as a `FoldedModel`.

        Parameters
        ----------
        strict : bool, default=False
            Raise `nbbn.FoldRefused` where a batch norm cannot be folded.
        check : array-like of shape (n_samples, n_features), default=None
            Rows to compare both networks on, besides the random ones always used.

        Returns
        -------
        folded : FoldedModel
            `nbbn.fold` says more.
        """
        from nbbn.saving import fold

        return fold(self, strict=strict, check=check)

    def save(self, path) -> None:
        """Write the estimator to one safetensors file; `nbbn.load` opens it. Nothing in it is executed.

        The optimiser's state is not written: training goes on with a fresh one. Nor are functions among the parameters, the state
        of a random generator, callbacks and the path of a checkpoint.

        Parameters
        ----------
        path : path-like
        """
        from nbbn.saving import save_estimator

        check_is_fitted(self)
        save_estimator(self, path)

    def _file_meta(self) -> dict:
        """What a file keeps besides the network."""
        record = self._record
        return {
            "params": stored(self.get_params(deep=False)),
            "loss": self._task.loss,
            "level": self._task.level,
            "epochs": record.epochs,
            "rows_seen": record.rows_seen,
            "steps": record.steps,
            "seed": record.seed,
            "final_loss": float(self.loss_),
            "best_score": float(record.best_score) if np.isfinite(record.best_score) else None,
            "loss_curve": [float(v) for v in record.losses],
            "validation_loss_curve": [float(v) for v in record.validation_losses],
            "validation_scores": [float(v) for v in record.scores],
            "feature_names": [str(n) for n in getattr(self, "feature_names_in_", [])],
        }

    def _restore(self, network: Network, kind: str, classes, meta: dict):
        """Become what a file holds; `nbbn.load` calls it on a new estimator."""
        self.set_params(**taken(self.get_params(deep=False)))
        check_each(self)
        self.n_features_in_ = network.input_shape[0]
        if meta["feature_names"]:
            self.feature_names_in_ = np.array(meta["feature_names"], dtype=object)
        task = Task(kind, network.output_shape[0], classes, str(meta["loss"]), float(meta["level"]))
        vars(self).update(self._task_attributes(task))
        architecture = self._described(self.n_features_in_)
        if architecture.layers != network.layers:
            raise ValueError("its layers are not those that its parameters describe")
        losses, val_losses, scores = (
            [float(v) for v in meta[name]] for name in ("loss_curve", "validation_loss_curve", "validation_scores")
        )
        best_score = -np.inf if meta["best_score"] is None else float(meta["best_score"])
        record = FitState(
            losses, val_losses, scores, min(losses, default=np.inf), best_score, min(val_losses, default=np.inf),
            rows_seen=int(meta["rows_seen"]), epochs=int(meta["epochs"]), steps=int(meta["steps"]), seed=int(meta["seed"]),
        )  # fmt: skip
        early_stopping = self.solver != "lbfgs" and self.early_stopping
        vars(self).update(
            **attributes(architecture, network.weights), **records.attributes(record, early_stopping), _record=record,
            _architecture=architecture, _dtype=network.dtype, _compiled={}, _training=None,
        )  # fmt: skip
        self.loss_ = float(meta["final_loss"])
        return self

    def _described(self, features: int) -> Architecture:
        """The architecture that the parameters describe at this moment."""
        return mlp(features, hidden_layers(self), self.n_outputs_, self.bn_momentum, self.bn_epsilon, self.out_activation_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_") and hasattr(self, "_architecture")
