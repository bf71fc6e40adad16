"""The forms a law may take, each one declaration.

Floor 3 of the numerics: `fitting` chooses among them by name. A new form is a line here if it is a sum of
powers, else a small class like those of `broken` and `surfaces`.
"""

from lawfit.forms.base import Array, Centre, Form, X
from lawfit.forms.broken import Broken, Saturating
from lawfit.forms.power_sums import PowerSum, Term
from lawfit.forms.surfaces import DataConstrained, Kaplan

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

FID_FLOOR = PowerSum(
    "fid_floor", "E + A·x^-alpha, noise floor in FID", ("E", "A", "alpha"), amplitudes=("A",), noise_floor=2.5,
    terms=(Term("A", {"x": "alpha"}),), floor="E",
)  # fmt: skip
"""A power law with floor for FID, whose noise is relative (training seed) at large values and constant (the
sample of images) at small ones. With the assumed 2 % and .05 the two are equal at FID 2.5; `fit(sd=...)` states
others. Without it, the smallest FIDs, which have the largest relative noise, decide the floor."""

KAPLAN = Kaplan("kaplan", "((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D", ("Nc", "Dc", "alpha_N", "alpha_D"), ("N", "D"))

DATA_CONSTRAINED = DataConstrained(
    "data_constrained", "E + A·N'^-alpha + B·D'^-beta", ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
    ("N", "D", "U"), ("A", "B"), origins=("N", "D", "D"), single=CHINCHILLA,
)  # fmt: skip

BNSL = Broken("bnsl", "a + b·x^-c0·(1 + (x/d1)^(1/f1))^(-c1·f1)", ("a", "b", "c0", "c1", "d1", "f1"), amplitudes=("b",))

BNSL2 = Broken(
    "bnsl2", "a + b·x^-c0·(1 + (x/d1)^(1/f1))^(-c1·f1)·(1 + (x/d2)^(1/f2))^(-c2·f2)",
    ("a", "b", "c0", "c1", "d1", "f1", "c2", "d2", "f2"), amplitudes=("b",),
)  # fmt: skip

M4 = Saturating("m4", "(y - E)/(L0 - y)^a = A·x^-b", ("E", "L0", "A", "a", "b"))

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        POWER, POWER_FLOOR, FID_FLOOR, BNSL, BNSL2, M4, CHINCHILLA, CHINCHILLA_TIED, KAPLAN, DATA_CONSTRAINED,
    )
}  # fmt: skip

__all__ = ["CHINCHILLA", "CHINCHILLA_TIED", "FORMS", "POWER", "POWER_FLOOR", "Array", "Centre", "Form", "X"]
