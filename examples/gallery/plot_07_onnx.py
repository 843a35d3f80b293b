"""
ONNX, there and back
====================

Write a model as ONNX, run it in ONNX Runtime, read it again, and fold a graph that still has its
batch norms.
"""

# %%

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx
import onnxruntime
from sklearn.datasets import load_iris

import nbbn
from nbbn.interop import from_onnx, to_onnx
from nbbn.interop.onnx_fold import fold_onnx

folder = Path(tempfile.mkdtemp())
X, y = load_iris(return_X_y=True)
X = X.astype("float32")
names = np.array(["setosa", "versicolor", "virginica"])[y]
clf = nbbn.MLPClassifier((16,), max_iter=500, learning_rate_init=0.01, random_state=0)
clf.fit(X, names)

# %%
# ``to_onnx`` folds the batch norms unless it is told not to. A classifier's graph gives labels and
# probabilities.

to_onnx(clf, folder / "folded.onnx")
to_onnx(clf, folder / "whole.onnx", fold=False)
for name in ("whole", "folded"):
    graph = onnx.load(folder / f"{name}.onnx").graph
    print(f"{name:6}", [node.op_type for node in graph.node])

# %%

session = onnxruntime.InferenceSession(folder / "folded.onnx", providers=["CPUExecutionProvider"])
labels, probabilities = session.run(None, {session.get_inputs()[0].name: X})
print("labels agree:", (labels == clf.predict(X)).all())
print(f"probabilities differ by {np.abs(probabilities - clf.predict_proba(X)).max():.1e} at most")

# %%
# Read again, it is a model that predicts without ONNX Runtime.

again = from_onnx(folder / "folded.onnx")
print(type(again).__name__, again.predict(X[:3]))

# %%
# Any exporter's graph can be folded. The report tells what went where, and the check has run the
# two graphs on the same rows.

graph, report = fold_onnx(onnx.load(folder / "whole.onnx"), check=X)
print(report)

# %%

fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
sizes = [(folder / f"{name}.onnx").stat().st_size for name in ("whole", "folded")]
nodes = [len(onnx.load(folder / f"{name}.onnx").graph.node) for name in ("whole", "folded")]
ax.barh(["whole", "folded"], nodes)
ax.set(xlabel="nodes of the graph")
for i, size in enumerate(sizes):
    ax.annotate(f" {size} bytes", (nodes[i], i), va="center")
ax.margins(x=0.2)
plt.show()
