"""The three ways to an optimal split of compute: `frontier`, `isoflop` slices, and a surface.

`allocation` is what each ends in; `frontier_intervals` says how far the law of a frontier can be trusted.
"""
