"""What all estimators share."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import StrOptions

from nbbn.estimators import checks, of_group, suggestions
from nbbn.estimators.partitions import answers_and_targets, hold_targets, of_each
from nbbn.estimators.task import Task
from nbbn.folded_model import FoldedModel
from nbbn.formats import Content, PathLike, native
from nbbn.group import ALONE, Group
from nbbn.network import Network
from nbbn.partitions.partitions import Partitions
from nbbn.runtime import num_threads

# scikit-learn's rules for a classifier's `class_weight`.
CLASS_WEIGHT = [None, dict, list, StrOptions({"balanced"})]


def threads(n_jobs: int | None) -> int | None:
    """How many threads `n_jobs` asks for; None: as many as nbbn uses anyway; ValueError for 0."""
    if n_jobs is None:
        return None
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning; give a number of threads, -1 for all cores, "
                         "or None")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)


class NetworkEstimator(BaseEstimator):
    """A network behind scikit-learn's contract."""

    _classifies: ClassVar[bool] = False  # whether targets are classes

    n_jobs: int | None
    callbacks: Any
    _parameter_constraints: dict[str, list[Any]]
    _task: Task

    def set_params(self, **params: Any) -> Any:
        """Set parameters by name.

        Parameters
        ----------
        **params
            Values by parameter.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that is no parameter, with the one that may be meant.
        """
        known = self.get_params(deep=False)
        for name in params:
            if "__" not in name and name not in known:
                kind, hint = type(self).__name__, suggestions.of_name(name, known)
                raise ValueError(f"Invalid parameter {name!r} for estimator {kind}{hint}"
                                 f"{'' if hint else '.'} Valid parameters are: {sorted(known)!r}.")
        return super().set_params(**params)

    def _outputs(self, X: Any) -> np.ndarray:
        """The network's outputs `(n, units)` for rows as `predict` takes them."""
        raise NotImplementedError

    def network(self) -> Network:
        """The fitted network: layers and weights, as folding and files take it."""
        raise NotImplementedError

    def predict(self, X: Any) -> Any:
        """Labels, or numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, ...), or Partitions
            Rows like those of the fit. Of partitions, a few are in memory at a time, and their
            answers are put together.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of a classifier the most probable class of each row, or an indicator matrix where it was
            fitted on one; of a regressor the outputs.
        """
        if isinstance(X, Partitions):
            return of_each(self, X, lambda model, rows: model.predict(rows))
        outputs = self._outputs(X)
        return self._task.answers(outputs)

    def for_inference(self) -> FoldedModel:
        """The fitted network, batch norms as they are, with the labels that it answers by."""
        network = self.network()
        if only := self._task.one_class:
            raise ValueError(f"the model was fitted on one class, {only[0]!r}, which it answers "
                             "whatever the rows: there is nothing to fold or to write; fit it on "
                             "rows of two classes at least")
        return FoldedModel(network, kind=self._task.kind, classes=self._task.classes)

    def fold(self, *, strict: bool = False, check: Any = None) -> FoldedModel:
        """The same function with every batch norm folded into its neighbours, as a `FoldedModel`.

        Parameters
        ----------
        strict : bool, default=False
            Raise `nbbn.FoldRefused` where a batch norm cannot be folded.
        check : array-like of shape (n_samples, ...), default=None
            Rows like `X` to compare both networks on, besides the random ones always used.

        Returns
        -------
        folded : FoldedModel
            Takes rows of the shape that was fitted; `nbbn.fold` says more.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> X = np.random.default_rng(0).normal(size=(300, 4))
        >>> clf = nbbn.MLPClassifier((8,), tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
        >>> folded = clf.fold(check=X)
        >>> folded.report.n_folded, bool(np.allclose(folded.predict_proba(X), clf.predict_proba(X)))
        (1, True)
        """
        return self.for_inference().fold(strict=strict, check=check)

    def save(self, path: PathLike) -> None:
        """Write the estimator to one file; `nbbn.load` opens it. Nothing in it is executed.

        Parameters, network, labels and curves are in it, and of an estimator around layers the
        optimiser's state; functions among the parameters, callbacks, the state of a random
        generator and the path of a checkpoint are not.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        NotFittedError
            Before the fit.
        FileError
            Where the file cannot be written.
        ValueError
            For parameters that no longer describe the network, and for an optimiser whose learning
            rate is a function.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> X = np.random.default_rng(0).normal(size=(300, 4))
        >>> clf = nbbn.MLPClassifier((8,), tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
        >>> clf.save("model.safetensors")
        >>> bool((nbbn.load("model.safetensors").predict_proba(X) == clf.predict_proba(X)).all())
        True
        """
        native.save(path, *self._content())

    def _content(self) -> Content:
        """What a file keeps of the fitted estimator."""
        raise NotImplementedError

    # -- for the fit

    def _checked_y(self, y: Any, rows: int, dtype: np.dtype, *, multilabel: bool) -> np.ndarray:
        """Targets of so many rows: labels, indicators with `multilabel`, or numbers of `dtype`."""
        if self._classifies:
            return checks.check_labels(self, y, rows, multilabel=multilabel)
        return checks.check_numbers(self, y, rows, dtype)

    def _row_weights(self, sample_weight: Any, y: np.ndarray, *, positive: bool, incremental: bool,
                     group: Group = ALONE) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Weights of rows with checked targets, without and with those of their classes."""
        whole, class_weight = group.world is None, getattr(self, "class_weight", None)
        with group.together():
            own = checks.check_weights(sample_weight, len(y), positive=positive, whole=whole)
        own = of_group.weights_of(group, "sample_weight", own, len(y))
        class_weight = of_group.class_weight_of(group, class_weight, y)
        with group.together():
            by_class = checks.weights_by_class(class_weight, y, incremental=incremental)
            found = checks.product(own, by_class, whole=whole)
        return own, of_group.weights_of(group, "sample_weight times class_weight", found, len(y))

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """A fit that raises leaves the estimator as it was."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _own_threads(self) -> AbstractContextManager[None]:
        """Within, as many threads are used as `n_jobs` says."""
        return num_threads(threads(self.n_jobs))

    def __sklearn_clone__(self) -> Any:
        """A clone has the same callbacks, not copies: what they record comes together."""
        bare = copy.copy(self)
        bare.callbacks = None
        clone = super(NetworkEstimator, bare).__sklearn_clone__()
        clone.callbacks = self.callbacks
        return clone


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """What all classifiers share."""

    _classifies = True
    classes_: np.ndarray

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, ...), or Partitions
            Rows like those of the fit.

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> X = np.random.default_rng(0).normal(size=(300, 4))
        >>> clf = nbbn.MLPClassifier((8,), tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
        >>> shares = clf.predict_proba(X)
        >>> shares.shape, bool(np.allclose(shares.sum(1), 1))
        ((300, 2), True)
        """
        if isinstance(X, Partitions):
            return of_each(self, X, lambda model, rows: model.predict_proba(rows))
        outputs = self._outputs(X)
        return self._task.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, ...), or Partitions
            Rows like those of the fit.

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
            Minus infinity for a probability of 0.
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)

    @hold_targets
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy of what `predict` gives.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, ...), or Partitions
            Rows like those of the fit; partitions hold targets and weights, too.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True labels; None with partitions.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
        """
        if not isinstance(X, Partitions):
            return super().score(X, y, sample_weight)
        if y is not None or sample_weight is not None:
            raise ValueError("y or sample_weight is given beside X, which is Partitions: targets "
                             "and weights are inside; leave them out")
        answers, y, sample_weight = answers_and_targets(self, X)
        return float(accuracy_score(y, answers, sample_weight=sample_weight))

    def _check_classes(self, given: Any) -> np.ndarray | None:
        """The classes that `partial_fit` is given: in a further call the known ones."""
        if given is None:
            return None
        found = np.unique(np.asarray(given))
        if hasattr(self, "classes_") and not np.array_equal(self.classes_, found):
            raise ValueError(f"`classes={given!r}` is not the same as on last call to partial_fit, "
                             f"was: {self.classes_!r}")
        return found
