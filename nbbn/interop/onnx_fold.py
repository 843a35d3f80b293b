"""Folding of ONNX models of any graph: `fold_onnx` in memory, `fold_onnx_file` between files."""

from nbbn.formats.onnx.fold import fold_onnx, fold_onnx_file

__all__ = ["fold_onnx", "fold_onnx_file"]
