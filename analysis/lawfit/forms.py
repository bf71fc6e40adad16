"""The forms a law may take, each one declaration.

Floor 3 of the numerics: `fitting` chooses among them by name. A new form is a line here if it is a sum of
powers, else a small class like those of `broken` and `surfaces`.
"""

from lawfit.formula import Array, Centre, Form, X
from lawfit.powersum import PowerSum, Term

POWER = PowerSum(
    "power", "A·x^-alpha", ("A", "alpha"), amplitudes=("A",),
    terms=(Term("A", {"x": "alpha"}),),
)  # fmt: skip

POWER_FLOOR = PowerSum(
    "power_floor", "E + A·x^-alpha", ("E", "A", "alpha"), amplitudes=("A",),
    terms=(Term("A", {"x": "alpha"}),), floor="E",
)  # fmt: skip

CHINCHILLA = PowerSum(
    "chinchilla", "E + A·N^-alpha + B·D^-beta", ("E", "A", "B", "alpha", "beta"), ("N", "D"), ("A", "B"),
    terms=(Term("A", {"N": "alpha"}), Term("B", {"D": "beta"})), floor="E",
)  # fmt: skip
"""Hoffmann et al. 2022 (2203.15556), approach 3."""

CHINCHILLA_TIED = PowerSum(
    "chinchilla_tied", "E + A·N^-alpha + B·D^-alpha", ("E", "A", "B", "alpha"), ("N", "D"), ("A", "B"),
    terms=(Term("A", {"N": "alpha"}), Term("B", {"D": "alpha"})), floor="E",
)  # fmt: skip
"""The same with one exponent, as Muennighoff et al. 2023 (2305.16264) fit it."""

FORMS: dict[str, Form] = {form.name: form for form in (POWER, POWER_FLOOR, CHINCHILLA, CHINCHILLA_TIED)}

__all__ = ["CHINCHILLA", "CHINCHILLA_TIED", "FORMS", "POWER", "POWER_FLOOR", "Array", "Centre", "Form", "X"]
