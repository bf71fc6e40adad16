"""The forms a law may take: declarations with exact derivatives, which know nothing of data or fits.

`base` says what a form is, `power_sums`, `broken` and `surfaces` are kinds of form, `derivatives` differentiates a
formula, `catalogue` lists all forms.
"""
