"""
Less sensitive to initial weights
=================================

Scale the weights of a layer, and the batch norm behind it takes the scale out again: Ioffe and
Szegedy (2015, section 3.3). The hidden layers here begin with He's weights times 0.001 to 1000; the
last layer, which has no batch norm behind it, begins as ever.

Look at the width of the plateau, and at what is left of it for large scales: a gradient by weights
1000 times as large is 1000 times as small, so the hidden layers hardly learn.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("initial-weights", quick=True)
result.figure(plt.figure(figsize=(6, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show initial-weights`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/initial-weights.json")
whole.figure(plt.figure(figsize=(6, 3.8)))
print(whole)
