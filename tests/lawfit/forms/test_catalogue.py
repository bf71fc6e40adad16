"""The catalogue: what it offers by itself for a form that is declared and listed."""

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from lawfit.errors import RecordError
from lawfit.fitting.fitting import fit
from lawfit.forms.catalogue import FORMS, automatic, named, simple
from lawfit.forms.power_sums import Term, sum_of_powers
from varscale.spec.study import Analysis

TWO_POWERS = sum_of_powers("two_powers", Term("A", {"x": "alpha"}), Term("B", {"x": "beta"}), auto=True)


def test_a_sum_of_powers_is_declared_by_its_terms() -> None:
    assert TWO_POWERS.formula == "A·x^-alpha + B·x^-beta"
    assert TWO_POWERS.parameters == ("A", "B", "alpha", "beta")
    tied = named("chinchilla_tied")
    assert (tied.formula, tied.parameters) == ("E + A·N^-alpha + B·D^-alpha", ("E", "A", "B", "alpha"))
    assert (tied.floor, tied.variables, tied.amplitudes) == ("E", ("N", "D"), ("A", "B"))


def test_a_listed_form_is_tried_and_named_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "two_powers", TWO_POWERS)
    assert automatic(["x"]) == ("power", "power_floor", "two_powers", "m4", "bnsl")
    assert "two_powers" not in simple()
    x = np.geomspace(1e4, 1e10, 30)
    noise = np.exp(1e-4 * np.random.default_rng(0).standard_normal(30))
    assert fit(x, TWO_POWERS.predict([30.0, 3e3, 0.05, 0.6], x) * noise).form is TWO_POWERS
    with pytest.raises(RecordError, match="two_powers"):
        named("cubic")


def test_forms_are_chosen_by_their_variables() -> None:
    assert automatic(["flops"]) == automatic(["x"])
    assert automatic(["D", "N"]) == ("chinchilla_tied", "kaplan", "chinchilla")
    assert automatic(["N", "D", "U"]) == ("data_constrained",)
    assert simple(["N", "D"]) == ("chinchilla_tied", "chinchilla")
    assert simple(["N", "D", "U"]) == ()
    with pytest.raises(RecordError, match="no form has the variables N, T: auto knows x; N, D; N, D, U"):
        automatic(["N", "T"])


def test_only_laws_of_one_power_of_each_variable_have_closed_solutions() -> None:
    assert [name for name, form in FORMS.items() if form.powers] == [
        "power", "power_floor", "fid_floor", "chinchilla", "chinchilla_tied"
    ]  # fmt: skip
    assert not TWO_POWERS.powers
    product = dataclasses.replace(named("chinchilla"), terms=(Term("A", {"N": "alpha", "D": "beta"}),))
    assert not product.powers


def test_a_study_may_ask_for_the_simple_forms() -> None:
    assert get_args(Analysis.model_fields["form"].annotation) == ("auto", *simple())


def test_the_manual_has_a_row_for_each_form(root: Path) -> None:
    rows = [
        f"| `{name}` | `{form.formula}` | {', '.join(form.variables)} | {form.floor or '–'} "
        f"| {', '.join(form.exponents)} | {'yes' if form.auto else 'no'} |"
        for name, form in FORMS.items()
    ]
    section = (root / "docs" / "LAWFIT.md").read_text().split("\n## Forms\n")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows
