"""
A network as a C file
=====================

Write a folded network as one C99 file, compile it where there is a compiler, and compare.
"""

# %%
# A small network in float32: eight by eight pixels in, ten classes out.

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nbbn

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
folder = Path(tempfile.mkdtemp())
folded = {}
for units in (8, 16, 32, 64):
    clf = nbbn.MLPClassifier((units,), learning_rate_init=0.01, tol=1e-3, random_state=0)
    folded[units] = clf.fit(X[:1200], y[:1200]).fold(check=X)
    folded[units].to_c(folder / f"digits{units}.c")
source = (folder / "digits16.c").read_text()
print(source[:900])

# %%
# Nothing is allocated, and nothing but constants is static. What it needs on a device: the weights
# in read-only memory, and the scratch of a call on the stack.

compiler = shutil.which("cc") or shutil.which("gcc")
if compiler:
    command = [compiler, "-std=c99", "-O2", "-shared", "-fPIC", "digits16.c", "-o", "digits16.so"]
    subprocess.run([*command, "-lm"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "digits16.so"))
    rows, answers = np.ascontiguousarray(X), np.empty((len(X), 10), "float32")
    library.digits16_predict(
        rows.ctypes.data_as(ctypes.c_void_p), answers.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_size_t(len(X)),
    )  # fmt: skip
    apart = np.abs(answers - folded[16].predict_proba(X)).max()
    print(f"largest difference to Python on {len(X)} rows: {apart:.1e}")
else:
    print("no C compiler here")

# %%
# What accuracy costs in bytes.

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for units, model in folded.items():
    size = sum(a.nbytes for arrays in model.network.weights for a in arrays.values())
    score = (model.predict(X[1200:]) == y[1200:]).mean()
    ax.plot(size, score, "o")
    ax.annotate(f"  {units} units", (size, score), va="center")
    print(f"{units:3} units: {size:6} bytes of weights, accuracy {score:.3f}")
ax.set(xlabel="bytes of weights", ylabel="accuracy on the last rows")
ax.margins(x=0.25)
plt.show()
