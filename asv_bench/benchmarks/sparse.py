"""CSR rows: 2,000 of 60,000 features, 80 stored in each; 100 hidden units, batch norm."""

from __future__ import annotations

from .timed import Call, Timed
from .workloads import SPARSE_BATCH, SPARSE_HIDDEN, fit, sparse_rows


class Rows(Timed):
    """One epoch as a whole fit, and probabilities of all rows."""

    params = ["fit", "predict_proba"]
    param_names = ("work",)
    version = "1"

    def prepare(self, work: str) -> Call:
        x, y = sparse_rows()
        if work == "fit":
            return lambda: fit(x, y, SPARSE_BATCH, hidden=SPARSE_HIDDEN)
        model = fit(x, y, SPARSE_BATCH, hidden=SPARSE_HIDDEN)
        return lambda: model.predict_proba(x)

    def time_csr(self, _: object) -> None:
        self.call()
