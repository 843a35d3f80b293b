"""Repeated work costs little: programs are lowered once, and nothing of a fit depends on it."""

from __future__ import annotations

import gc
import itertools
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.base import clone

import nbbn
from nbbn import runtime
from nbbn.estimators import checks
from nbbn.estimators.mlp.lbfgs import Objective
from nbbn.network import computation
from nbbn.optimizers import SGD
from nbbn.program import kept
from nbbn.program.program import Program, Segment
from nbbn.thread_choice import ThreadChoice
from nbbn.trainer import Trainer

L = nbbn.layers
F64 = np.dtype("f8")
rng = np.random.default_rng(5)
X = rng.standard_normal((240, 6))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
ROWS = [40, 3, 64, 33, 90, 2, 17, 128, 65, 12, 199, 31, 200, 100, 7, 150, 55, 180, 9, 77]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def lowered(monkeypatch):
    """What is lowered from here on, an entry each time; nothing is kept from before."""
    kept._made.cache_clear()
    made = []
    for name in ("lower_training", "InferenceProgram"):
        plain = getattr(kept, name)

        def counted(*args, plain=plain, name=name, **kwargs):
            made.append(name)
            return plain(*args, **kwargs)

        monkeypatch.setattr(kept, name, counted)
    return made


def sequential(optimizer="adam", dtype="float64"):
    nbbn.utils.set_random_seed(1)
    model = nbbn.Sequential([
        L.Dense(8, dtype=dtype), L.BatchNormalization(), L.ReLU(), L.Dropout(0.2),
        L.Dense(2, activation="softmax"),
    ])  # fmt: skip
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def bits(arrays):
    return [np.ascontiguousarray(array).tobytes() for array in arrays if array is not None]


def bits_of(estimator):
    norms = (*estimator.running_means_, *estimator.running_vars_)
    return bits([*estimator.coefs_, *estimator.intercepts_, *norms, estimator.loss_curve_])


# -- lowering


@pytest.mark.parametrize("batch_size", [32, 300])
def test_fits_of_many_numbers_of_rows_share_few_programs(lowered, batch_size):
    model = sequential()
    for rows in ROWS:
        model.fit(X[:rows], Y[:rows], batch_size=batch_size, verbose=0)
        model.train_on_batch(X[:rows], Y[:rows])
    # One for each time that the batch outgrows the room there is.
    assert lowered.count("lower_training") <= 6


def test_evaluation_and_prediction_after_every_fit_lower_nothing_anew(lowered):
    model = sequential()
    for rows in ROWS:
        model.fit(X[:rows], Y[:rows], verbose=0)
        model.evaluate(X[:rows], Y[:rows], verbose=0)
        model.predict(X[:rows])
    # 32 rows are a batch, and 33, whose last one joins those before.
    assert (lowered.count("lower_training"), lowered.count("InferenceProgram")) == (2, 1)


@pytest.mark.parametrize("solver", ["lbfgs", "adam", "sgd"])
def test_warm_starts_and_clones_are_lowered_once(lowered, solver):
    model = nbbn.MLPClassifier((5,), solver=solver, max_iter=1, warm_start=True, random_state=0)
    for _ in range(20):
        model.fit(X, Y)
        clone(model).fit(X, Y)
    assert lowered.count("lower_training") == 1


def test_partial_fit_of_many_numbers_of_rows(lowered):
    model = nbbn.MLPClassifier((5,), random_state=0)
    for rows in ROWS:
        model.partial_fit(X[:rows], Y[:rows], classes=[0, 1])
    assert lowered.count("lower_training") <= 5


def test_a_sequential_estimator_is_lowered_once(lowered):
    model = nbbn.SequentialClassifier([L.Dense(5), L.BatchNormalization()], epochs=1,
                                      random_state=0)
    for rows in (100, 120, 140):
        clone(model).fit(X[:rows], Y[:rows]).predict(X)
    assert (lowered.count("lower_training"), lowered.count("InferenceProgram")) == (1, 1)


def test_a_table_is_made_once_for_each_dtype_of_rows(monkeypatch):
    kept._made.cache_clear()
    made, plain = [], Program._table
    monkeypatch.setattr(Program, "_table", lambda self, *args: made.append(1) or plain(self, *args))
    whole = computation([L.Dense(3)], (4,))
    for _ in range(3):
        for source in (F64, np.dtype("u1")):
            Trainer(whole, F64, source, 10, "mean_squared_error", SGD(0.1))._steps.table(1)
    assert len(made) == 2


def test_programs_that_are_equal_but_for_a_sign_or_a_type_are_told_apart():
    whole = computation([L.Dense(3)], (4,))

    def made(**settings):
        return kept.training_program(whole, F64, 8, "huber", SGD(0.1), **settings)

    assert made(decay=0.0) is made(decay=0.0)
    assert made(decay=0.0) is not made(decay=-0.0)
    assert made(decay=1) is not made(decay=1.0)
    assert made(seed=1) is not made(seed=2)


@pytest.mark.parametrize("other", [
    SGD(0.1, momentum=0.5), SGD(0.1, momentum=0.5, nesterov=True), SGD(0.1, clipnorm=1.0),
    SGD(0.1, clipvalue=1.0), SGD(0.1, global_clipnorm=1.0), SGD(0.1, weight_decay=0.1),
    nbbn.optimizers.Adam(0.1),
])  # fmt: skip
def test_optimisers_whose_steps_differ_are_told_apart(other):
    whole = computation([L.Dense(3)], (4,))
    first, second, third = (
        kept.training_program(whole, F64, 8, "mean_squared_error", optimizer)
        for optimizer in (SGD(0.1), other, SGD(0.7))
    )
    assert first is not second
    assert first is third  # a learning rate is an argument of the step


def test_a_kept_program_does_not_hold_the_function_of_the_learning_rate():
    def rate(step):
        return 0.1

    held = weakref.ref(rate)
    kept._made.cache_clear()
    whole = computation([L.Dense(3)], (4,))
    kept.training_program(whole, F64, 8, "mean_squared_error", SGD(rate))
    del rate
    gc.collect()
    assert held() is None


def test_inference_on_trained_parameters_adds_nothing_to_them():
    whole = computation([L.Dense(5), L.BatchNormalization(), L.ReLU(), L.Dense(2)], (4,))
    trainer = Trainer(whole, F64, F64, 8, "mean_squared_error", SGD(0.1))
    sizes = dict(trainer.lowered.program.sizes)
    trainer.outputs(X[:8, :4].copy())
    assert trainer.lowered.program.sizes == sizes
    assert sizes[Segment.PARAMS] == trainer.params.nbytes


# -- bits


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_reused_trainer_has_the_bits_of_one_made_for_the_batch(optimizer, dtype):
    reused, fresh = sequential(optimizer, dtype), sequential(optimizer, dtype)
    for rows in ROWS:
        figures = []
        kept._made.cache_clear()
        fresh = pickle.loads(pickle.dumps(fresh))  # lets go of the trainer
        for model in (reused, fresh):
            history = model.fit(X[:rows], Y[:rows], batch_size=50, verbose=0).history
            figures.append((history, model.evaluate(X[:rows], Y[:rows], verbose=0)))
        assert figures[0] == figures[1]
        assert bits(reused.get_weights()) == bits(fresh.get_weights())


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("solver", ["lbfgs", "adam", "sgd"])
def test_what_was_fitted_before_leaves_no_trace(solver, norm):
    model = nbbn.MLPClassifier((5,), solver=solver, batch_norm=norm, max_iter=3, random_state=0)
    kept._made.cache_clear()
    alone = bits_of(clone(model).fit(X, Y))
    for seed, rows in enumerate(ROWS[:5]):
        clone(model).set_params(random_state=seed, alpha=seed).fit(X[:rows], Y[:rows])
    assert bits_of(clone(model).fit(X, Y)) == alone


def test_fits_in_several_python_threads_share_programs():
    model = nbbn.MLPClassifier((5,), batch_norm=True, max_iter=5, random_state=0)
    alone = bits_of(clone(model).fit(X, Y))
    kept._made.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: bits_of(clone(model).fit(X, Y)), range(12)))
    assert found == [alone] * 12


# -- room


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 100, 200, 256, 1000, 4096])
@pytest.mark.parametrize("shape", [(4,), (4096,), (32, 32, 64)])
def test_a_trainer_has_room_for_a_little_more(rows, shape):
    from nbbn.trainer import _room

    room = _room(rows, computation([L.ReLU()], shape))
    least = 32 if shape == (4,) else 16 if shape == (4096,) else 1
    assert max(rows, least) <= room <= max(1.25 * rows, least)
    assert _room(room, computation([L.ReLU()], shape)) == room


# -- threads


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_tiny_network_wakes_no_team(monkeypatch, solver):
    def refuse(*_):
        raise AssertionError("a team for some microseconds of work")

    monkeypatch.setattr(runtime, "run_parallel", refuse)
    with nbbn.num_threads(2):
        nbbn.MLPClassifier((8,), solver=solver, max_iter=50, random_state=0).fit(X, Y)


def test_a_choice_that_begins_alone_tries_the_team_later():
    choice, ways = ThreadChoice(alone=True), []
    for _ in range(400):
        threads, chunk = choice.next(2, 1)
        ways.append(threads)
        choice.note(threads, chunk, {1: 1e-4, 2: 4e-5}[threads])
    assert set(ways[:40]) == {1}
    assert ways[-1] == 2


# -- lbfgs


@pytest.mark.parametrize("norm", [False, True])
def test_lbfgs_measures_no_vector_twice_in_a_row(monkeypatch, norm):
    seen, plain = [], Objective.__call__

    def noted(self, vector):
        seen.append(vector.tobytes())
        return plain(self, vector)

    monkeypatch.setattr(Objective, "__call__", noted)
    model = nbbn.MLPClassifier((5,), solver="lbfgs", batch_norm=norm, max_iter=4, random_state=0)
    model.fit(X, Y)
    assert all(a != b for a, b in itertools.pairwise(seen))
    # The steps of the running statistics, which a fit by another solver goes on from, are as many
    # as if the end had been measured once more.
    assert model._fit_state.steps == len(seen) + 1


@pytest.mark.parametrize("norm", [False, True])
def test_the_end_of_lbfgs_is_where_measuring_again_leads(monkeypatch, norm):
    model = nbbn.MLPClassifier((5,), solver="lbfgs", batch_norm=norm, max_iter=4, random_state=0)
    found = clone(model).fit(X, Y)
    monkeypatch.setattr(Objective, "go_to", lambda self, vector: self(vector))
    again = clone(model).fit(X, Y)
    assert bits_of(found) == bits_of(again)
    assert (found.loss_, found._fit_state.steps) == (again.loss_, again._fit_state.steps)


# -- checks that have nothing to do


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", ">i4", "float64", "bool"])
def test_classes_are_scikit_learns_whatever_the_labels_dtype(dtype):
    from sklearn.utils.multiclass import unique_labels

    y = np.array([1, 0, 1, 1, 0]).astype(dtype)
    found, wanted = checks.classes_of(y), unique_labels(y)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("y, error", [
    (Y[:-1], "inconsistent numbers of samples"), (Y.reshape(-1, 2, 1), "dim 3"),
])  # fmt: skip
def test_labels_that_do_not_fit_are_refused_as_before(y, error):
    with pytest.raises(ValueError, match=error):
        nbbn.MLPClassifier((5,), max_iter=1).fit(X, y)


def test_rows_that_do_not_fit_are_refused_as_before():
    model = nbbn.MLPClassifier((5,), max_iter=1, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="X has 5 features, but MLPClassifier is expecting 6"):
        model.predict(np.ascontiguousarray(X[:, :5]))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        model.predict(X[:0])
    with pytest.raises(ValueError, match=r"Found array with 0 feature\(s\)"):
        model.fit(X[:, :0], Y)


def test_a_subclass_may_leave_a_parameter_without_rules():
    class Own(nbbn.MLPClassifier):
        _parameter_constraints = {
            **nbbn.MLPClassifier._parameter_constraints, "tol": "no_validation",
        }  # fmt: skip

    assert Own(hidden_layer_sizes=(3,), max_iter=1, tol=1e-3).fit(X, Y).coefs_
    with pytest.raises(ValueError, match="The 'alpha' parameter of Own"):
        Own(hidden_layer_sizes=(3,), alpha=-1.0).fit(X, Y)
