"""Inference: the estimator, the unfolded network and the folded one, on 1 to 10,000 rows."""

import numpy as np

import nbbn

from .training import fit, make_images


class Predict:
    """784-128-64-32-10 with batch norm and ReLU."""

    params = ([1, 32, 1000, 10_000],)
    param_names = ("rows",)
    version = "1"

    def setup(self, rows):
        x, y = make_images(max(rows, 2000))
        self.estimator = fit(x[:2000], y[:2000], 256)
        self.folded = self.estimator.fold()
        self.unfolded = nbbn.FoldedModel(self.estimator.network(), kind="classifier", classes=self.estimator.classes_)
        self.x = np.ascontiguousarray(x[:rows])
        for model in (self.estimator, self.folded, self.unfolded):
            model.predict_proba(self.x)

    def time_estimator(self, rows):
        self.estimator.predict_proba(self.x)

    def time_unfolded(self, rows):
        self.unfolded.predict_proba(self.x)

    def time_folded(self, rows):
        self.folded.predict_proba(self.x)


class Fold:
    """Folding a network of three batch norms, its numeric check included, and its file."""

    version = "1"

    def setup(self):
        import tempfile

        x, y = make_images(2000)
        self.estimator = fit(x, y, 256)
        self.folder = tempfile.TemporaryDirectory()
        self.path = f"{self.folder.name}/model.safetensors"
        self.estimator.fold().save(self.path)
        nbbn.load(self.path)

    def teardown(self):
        self.folder.cleanup()

    def time_fold(self):
        self.estimator.fold()

    def time_load(self):
        nbbn.load(self.path)
