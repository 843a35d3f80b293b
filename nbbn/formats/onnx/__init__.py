"""ONNX models: read as networks, folded as they are, written.

`file`, `tensors` and `protobuf` take files apart, `graph` says what is known of a graph's values,
`operators` has a row for each operator. `read` makes a `Network` of a graph, `fold` folds any graph
into another, `write` makes a graph of a `Network`, `skl2onnx` puts one within a converter's graph.
"""
