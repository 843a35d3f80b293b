"""
Higher learning rates
=====================

Bjorck and others (2018) find that batch norm helps because it lets a network take learning rates at
which it would otherwise diverge. Here both networks take the same number of steps at each of a grid
of rates. A rate *learns* where the network is right on more than half of the test rows in the end.

Look at where each curve falls, and whether the best accuracy is reached at a rate that the other
network cannot use. The figure for the largest rate is as coarse as the grid.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("higher-rates", quick=True)
result.figure(plt.figure(figsize=(6, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show higher-rates`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/higher-rates.json")
whole.figure(plt.figure(figsize=(6, 3.8)))
print(whole)
