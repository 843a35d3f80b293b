"""
Folding
=======

In inference batch norm is a factor and a shift for each channel, and the layer beside it can take
them in: one layer less, the same outputs but for rounding (Ioffe and Szegedy, 2015, section 3.1).

Look at the largest difference of a probability against the bound that the fold's own check allows,
and at the times. In the whole study the convolutions gain and the dense networks hardly: beside
their matrix products a factor and a shift for each unit take next to nothing. Times of a page that
is built on a shared machine are noisy; the whole study ran alone on its machine.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("folding", quick=True)
result.figure(plt.figure(figsize=(6, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show folding`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/folding.json")
whole.figure(plt.figure(figsize=(6, 3.8)))
print(whole)
