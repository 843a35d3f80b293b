"""nbbn's models as ONNX: `models` is the way in, `networks` goes through the layers, `heads` adds labels and probabilities."""
