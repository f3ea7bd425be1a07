"""Whether measured errors of a linear student agree with the theory."""

import types

import pandas as pd

from rethink_gen.analysis.teacher import agrees_with_theory


def study(*rows):
    """What `agrees_with_theory` takes: rows of examples, measured error, predicted error and standard error."""
    columns = ["train_size", "excess_risk", "predicted_risk", "excess_risk_sem"]
    least_norm = {"relative_penalty": 0.0, "num_features": None, "dimension": 100}
    return types.SimpleNamespace(curves=pd.DataFrame(rows, columns=columns).assign(**least_norm))


def test_a_disagreement_with_theory_beside_the_peak_is_seen():
    """With 100 features, 95 examples are beside the peak, and 100 are at it, where the mean is infinite."""
    right, peak = (40, 0.78, 0.77, 0.01), (100, 446.0, None, 196.0)
    holds, evidence = agrees_with_theory(study(right, (95, 9.0, 6.0, 0.65), peak))
    assert not holds
    assert evidence.startswith("1 of 2")
    assert agrees_with_theory(study(right, (95, 8.0, 6.0, 0.65), peak))[0]
