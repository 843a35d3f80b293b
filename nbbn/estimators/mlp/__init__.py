"""scikit-learn's multi-layer perceptrons, with batch norm."""
