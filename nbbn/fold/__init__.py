"""Folding batch norms into the layers next to them."""

from nbbn.fold.arithmetic import fold_conv, fold_dense
from nbbn.fold.check import Check, FoldCheckFailed, check_fold, fold_checked
from nbbn.fold.network import fold_network
from nbbn.fold.report import FoldEntry, FoldRefused, FoldReport, SuspiciousChannel

__all__ = [
    "Check", "FoldCheckFailed", "FoldEntry", "FoldRefused", "FoldReport", "SuspiciousChannel",
    "check_fold", "fold_checked", "fold_conv", "fold_dense", "fold_network",
]


def __dir__() -> list[str]:
    return __all__
