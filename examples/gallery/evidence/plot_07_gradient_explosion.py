"""
Gradient explosion
==================

The reverse of the medal. In a network that has just been initialised, with batch norm before every
ReLU, the gradient grows from layer to layer on its way back: by the root of pi / (pi - 1), 1.21,
as Yang and others (2019) derive. Over 50 layers that makes thousands. Without batch
norm, with He's weights, it keeps its length.

Look at the slope of the lines, and at residual sums: where each layer adds to its input, the growth
is gone but for the first layers.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("gradient-explosion", quick=True)
result.figure(plt.figure(figsize=(6, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show gradient-explosion`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/gradient-explosion.json")
whole.figure(plt.figure(figsize=(6, 3.8)))
print(whole)
