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
# Set `VARSCALE_TRACKING_URI` and `VARSCALE_STUDY` to look at another one.

# %%
import os

import pandas as pd

from lawfit import figures, fit_study, load_study

# %matplotlib inline
study = load_study(
    os.environ.get("VARSCALE_TRACKING_URI", "sqlite:///.varscale/mlflow.db"),
    os.environ.get("VARSCALE_STUDY", "emoji-quick"),
)
study.runs[["run_name", "state", "depth", "n_paper", "flops", "val/loss", "val/loss_last"]]

# %% [markdown]
# ## Fits
#
# Exponents with their 95 % intervals. The hold-out error is that of the largest run, predicted from the
# others.

# %%
results = fit_study(study)
pd.DataFrame(
    {
        "law": result.law.title,
        "verdict": result.verdict,
        "R²": result.fit.r2_log,
        "hold-out": result.hold_out,
        "n": result.n,
    }
    for result in results
)

# %% [markdown]
# ## Loss by model size

# %%
figures.loss_by_size(study, results)

# %% [markdown]
# ## Loss by training compute

# %%
figures.curves_and_frontier(study, results)

# %% [markdown]
# ## Sample quality by training compute

# %%
figures.distance_by_compute(study, results)

# %% [markdown]
# ## Residuals

# %%
figures.residuals(results)
