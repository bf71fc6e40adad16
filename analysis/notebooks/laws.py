# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The laws of a study
#
# Figures 5 and 6 of the VAR paper (arXiv 2404.02905) from the records of one study: loss and error by model size,
# over all scales and over the last, and the compute frontier. Set the two names below to look at another study.

# %%
import os

import pandas as pd

from lawfit import fit_study, load_study
from lawfit.pictures.corner import corner_plot
from lawfit.pictures.study import curves_and_frontier, distance_by_compute, error_by_size, loss_by_size

# %matplotlib inline
TRACKING_URI = os.environ.get("VARSCALE_TRACKING_URI", "sqlite:///.varscale/mlflow.db")
STUDY = os.environ.get("VARSCALE_STUDY", "emoji-quick")

# %%
study = load_study(TRACKING_URI, STUDY)
study.runs[["run_name", "state", "depth", "n_paper", "flops", "val/loss", "val/loss_last"]]

# %% [markdown]
# ## Exponents
#
# With their 95 % intervals. The hold-out error is that of the largest run, predicted from the smaller ones; notes say
# what limits a law.

# %%
results = fit_study(study)
pd.DataFrame(
    {
        "law": result.law.title,
        "verdict": result.verdict,
        "R²": result.fit.r2_log,
        "hold-out": result.hold_out,
        "n": result.n,
        "notes": "; ".join(result.warnings),
    }
    for result in results
).style.hide(axis="index")

# %% [markdown]
# ## Figure 5: loss and error by model size
#
# The paper fits straight lines to six sizes and more; the strips below show what they leave over.

# %%
loss_by_size(study, results)

# %%
error_by_size(study, results)

# %% [markdown]
# ## Figure 6: the compute frontier
#
# Lowest loss and error that any run reaches for a given compute. As in the paper, points from before the end of a
# learning-rate schedule take part.

# %%
curves_and_frontier(study, results)

# %% [markdown]
# ## Sample quality by training compute

# %%
distance_by_compute(study, results)

# %% [markdown]
# ## How sure are the parameters?
#
# Refits of resampled runs, and what other objectives and the other form would have said of the same points.

# %%
by_size = results[0]
corner_plot(by_size.bootstrap)

# %%
pd.DataFrame({"instead": other.what, **other.fit.params} for other in by_size.alternatives).style.hide(axis="index")
