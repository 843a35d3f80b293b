<<<<<<< HEAD
"""Folding of ONNX models of any graph: `fold_onnx` in memory, `fold_onnx_file` file to file."""
=======
"""Folding of ONNX models of any graph: `fold_onnx` in memory, `fold_onnx_file` between files."""
>>>>>>> main

from nbbn.formats.onnx.fold import fold_onnx, fold_onnx_file

__all__ = ["fold_onnx", "fold_onnx_file"]
