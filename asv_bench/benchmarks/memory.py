"""Largest memory of processes that fit and predict.

asv counts the whole process: compare with the rows alone.
"""

from .workloads import fit, make_images


class Fit:
    """A process that makes 60,000 rows of 784 features and fits one epoch."""

    version = "1"

    def setup(self) -> None:
        self.x, self.y = make_images()

    def peakmem_rows_alone(self) -> None:
        self.x.sum()

    def peakmem_fit(self) -> None:
        fit(self.x, self.y, 256)


class Predict:
    """A process that makes 60,000 rows, fits on 2,000 and predicts all."""

    version = "1"

    def setup(self) -> None:
        self.x, self.y = make_images()
        self.model = fit(self.x[:2000], self.y[:2000], 256)

    def peakmem_estimator(self) -> None:
        self.model.predict_proba(self.x)

    def peakmem_folded(self) -> None:
        self.model.fold().predict_proba(self.x)
