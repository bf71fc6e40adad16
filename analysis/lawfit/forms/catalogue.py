"""All forms by name, and those that suit some variables.

A new form is declared here, by one line if it is a sum of powers, else as an instance of a class like those of `broken`
and `surfaces`, and listed in `FORMS`. All that offers, tries or explains forms reads this list.
"""

from collections.abc import Collection

from lawfit.errors import RecordError
from lawfit.forms.base import Form
from lawfit.forms.broken import Broken, Saturating
from lawfit.forms.power_sums import Term, sum_of_powers
from lawfit.forms.surfaces import DataConstrained, Kaplan

IRREGULAR = 10.0
"""Margin of a form whose extra parameters are unidentified when the simpler form holds: noise alone then lowers AICc
by several units, and 10 is Burnham and Anderson's bound of no support."""

POWER = sum_of_powers("power", Term("A", {"x": "alpha"}), auto=True)

POWER_FLOOR = sum_of_powers("power_floor", Term("A", {"x": "alpha"}), floor="E", auto=True)

FID_FLOOR = sum_of_powers(
    "fid_floor", Term("A", {"x": "alpha"}), floor="E", note=", noise floor in FID", noise_floor=2.5
)  # fmt: skip
"""A power law with floor for FID, whose noise is relative (training seed) at large values and constant (the
sample of images) at small ones. With the assumed 2 % and .05 the two are equal at FID 2.5; `fit(sd=...)` states
others. Without it, the smallest FIDs, which have the largest relative noise, decide the floor."""

BNSL = Broken(
    "bnsl", "a + b·x^-c0·(1 + (x/d1)^(1/f1))^(-c1·f1)", ("a", "b", "c0", "c1", "d1", "f1"),
    exponents=("c0", "c1"), amplitudes=("b",), floor="a", auto=True, margin=IRREGULAR,
)  # fmt: skip

BNSL2 = Broken(
    "bnsl2", "a + b·x^-c0·(1 + (x/d1)^(1/f1))^(-c1·f1)·(1 + (x/d2)^(1/f2))^(-c2·f2)",
    ("a", "b", "c0", "c1", "d1", "f1", "c2", "d2", "f2"), exponents=("c0", "c1", "c2"), amplitudes=("b",), floor="a",
)  # fmt: skip

M4 = Saturating(
    "m4", "(y - E)/(L0 - y)^a = A·x^-b", ("E", "L0", "A", "a", "b"), exponents=("b",), floor="E", auto=True,
    margin=IRREGULAR,
)  # fmt: skip

CHINCHILLA = sum_of_powers(
    "chinchilla", Term("A", {"N": "alpha"}), Term("B", {"D": "beta"}), floor="E", auto=True
)  # fmt: skip
"""Hoffmann et al. 2022 (2203.15556), approach 3."""

CHINCHILLA_TIED = sum_of_powers(
    "chinchilla_tied", Term("A", {"N": "alpha"}), Term("B", {"D": "alpha"}), floor="E", auto=True
)  # fmt: skip
"""Chinchilla's with one exponent, as Muennighoff et al. 2023 (2305.16264) fit it."""

KAPLAN = Kaplan(
    "kaplan", "((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D", ("Nc", "Dc", "alpha_N", "alpha_D"), ("N", "D"),
    exponents=("alpha_N", "alpha_D"), auto=True,
)  # fmt: skip

DATA_CONSTRAINED = DataConstrained(
    "data_constrained", "E + A·N'^-alpha + B·D'^-beta", ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
    ("N", "D", "U"), exponents=("alpha", "beta"), amplitudes=("A", "B"), floor="E", origins=("N", "D", "D"),
    auto=True, single=CHINCHILLA,
)  # fmt: skip

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        POWER, POWER_FLOOR, FID_FLOOR, BNSL, BNSL2, M4, CHINCHILLA, CHINCHILLA_TIED, KAPLAN, DATA_CONSTRAINED,
    )
}  # fmt: skip


def named(name: str) -> Form:
    """The form called `name`. RecordError for an unknown one, with all there are."""
    if name not in FORMS:
        raise RecordError(f"form {name!r} is unknown: expected one of {', '.join((*FORMS, 'auto'))}")
    return FORMS[name]


def automatic(variables: Collection[str]) -> tuple[str, ...]:
    """Names of the forms that `auto` chooses among, the simplest first. RecordError where there is none."""
    found = tuple(form.name for form in _suited(variables))
    if not found:
        allowed = "; ".join(dict.fromkeys(", ".join(form.variables) for form in FORMS.values()))
        raise RecordError(f"no form has the variables {', '.join(variables)}: auto knows {allowed}")
    return found


def simple(variables: Collection[str] = ("x",)) -> tuple[str, ...]:
    """Names of those with one power of each variable, for answers that need an exponent; none for other variables."""
    return tuple(form.name for form in _suited(variables) if form.powers)


def _suited(variables: Collection[str]) -> list[Form]:
    """The forms that `auto` tries, by the number of their parameters; a single variable may have any name."""
    found = [
        form
        for form in FORMS.values()
        if form.auto and (set(form.variables) == set(variables) or len(form.variables) == len(variables) == 1)
    ]
    return sorted(found, key=lambda form: len(form.parameters))
