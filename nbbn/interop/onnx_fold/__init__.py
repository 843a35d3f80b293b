"""Folding of ONNX models: `folding` is the way from file to file, `model` takes files apart, `graph` and `nodes` make the graph
that `nbbn.fold` works on, `rebuild` writes its result, `check` compares both models.
"""

from nbbn.interop.onnx_fold.folding import fold_onnx, fold_onnx_file

__all__ = ["fold_onnx", "fold_onnx_file"]
