"""Which scikit-learn estimators take NaN as a missing value, by their own tags."""

from typing import Any, Literal, TypeAlias

import numpy as np

Missing: TypeAlias = Literal["refused", "passed on", "filled"]
"""What becomes of NaN in a step: an error, NaN in what it gives, or numbers."""


def missing_after(estimator: Any) -> Missing:
    """What becomes of NaN in an estimator: pipelines step by step, columns part by part, searches as what they tune.

    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> [missing_after(e) for e in (Ridge(), StandardScaler(), make_pipeline(SimpleImputer(), Ridge()))]
    ['refused', 'passed on', 'filled']
    """
    if estimator is None or estimator == "passthrough":
        return "passed on"
    if estimator == "drop":
        return "filled"
    params = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    if "steps" in params:
        return _in_turn([step for _, step in params["steps"]])
    named = params.get("transformers", params.get("transformer_list"))
    if named is not None:
        parts = [part[1] for part in named]
        return _side_by_side([*parts, params["remainder"]] if "remainder" in params else parts)
    if "param_grid" in params or "param_distributions" in params:
        return missing_after(params["estimator"])
    if not _allows_nan(estimator):
        return "refused"
    # An imputer says which value it takes for missing.
    imputes = "missing_values" in params and hasattr(estimator, "transform")
    return "filled" if imputes and _is_nan(params["missing_values"]) else "passed on"


def _in_turn(steps: list[Any]) -> Missing:
    for step in steps:
        after = missing_after(step)
        if after != "passed on":
            return after
    return "passed on"


def _side_by_side(parts: list[Any]) -> Missing:
    each = {missing_after(part) for part in parts}
    return "refused" if "refused" in each else "passed on" if "passed on" in each else "filled"


def _allows_nan(estimator: Any) -> bool:
    """The tag of scikit-learn, of its new kind or its old."""
    try:
        if hasattr(estimator, "__sklearn_tags__"):
            return bool(estimator.__sklearn_tags__().input_tags.allow_nan)
        return bool(estimator._get_tags().get("allow_nan", False))
    except AttributeError:  # an estimator without tags says nothing
        return False


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))
