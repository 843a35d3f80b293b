"""
Exact statistics
================

In inference batch norm takes running averages, which lag behind weights that move fast. Wu and
Johnson (2021) compute the statistics of the training rows at fixed weights instead; here
`recalibrate` does.

The three curves are of the same weights. Look at the left: after few steps a momentum of 0.99 has
hardly forgotten where it began, and a good network seems bad. That is the trap of short fits.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("exact-statistics", quick=True)
result.figure(plt.figure(figsize=(6, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show exact-statistics`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/exact-statistics.json")
whole.figure(plt.figure(figsize=(6, 3.8)))
print(whole)
