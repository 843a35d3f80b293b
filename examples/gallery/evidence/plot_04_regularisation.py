"""
Regularisation
==============

With batch norm what a row gives depends on the rows beside it. Ioffe and Szegedy (2015, section
3.4) hold this noise for a regulariser that can stand in for dropout.

Four networks are trained on few rows: with the batch's statistics; with running statistics in
training too, so that a row's output is its own; with dropout; with none of these. All of them are
trained at each batch size for as many epochs. Look at batch against running statistics first: the
two differ by more than noise, since running statistics pass no gradient on. Then compare with the
network that has nothing.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("regularisation", quick=True)
result.figure(plt.figure(figsize=(9, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show regularisation`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/regularisation.json")
whole.figure(plt.figure(figsize=(9, 3.8)))
print(whole)
