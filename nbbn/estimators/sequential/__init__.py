"""scikit-learn's contract around any list of layers."""
