"""Reading ONNX graphs: the file (`model`), constants and labels, rows on their way, and a file for each kind of node."""
