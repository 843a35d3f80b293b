"""
Before or after the activation
==============================

Ioffe and Szegedy (2015, section 3.2) put batch norm before the activation. Others have measured it
to be better behind a ReLU.

Look at each activation apart, and at both moments: after few steps and after many.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("before-or-after", quick=True)
result.figure(plt.figure(figsize=(9, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show before-or-after`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/before-or-after.json")
whole.figure(plt.figure(figsize=(9, 3.8)))
print(whole)
