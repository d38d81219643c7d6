"""The one table of hyperparameters: which model has which, what may be set, what holds unless it is, what is searched.

Every row is a family of settings, one a timeframe: `CVN_HPO_<MODEL>_<TIMEFRAME>_<PARAMETER>`; the bounds of a search
are two more, `…_LOW` and `…_HIGH`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cvntrade_assets.setting_kinds import Kind, Number, Whole

PREFIX = "CVN_HPO_"
MODELS: Mapping[str, str] = {
    "XGBOOST": "the model of the chain and of the folds, and its search",
    "SCREENING": "the cheap model that ranks the points of a PTE grid",
    "SELECTION": "the model whose gain ranks features",
    "JUDGE": "the model that doubts labels, for CVN_CLEANLAB",
}


@dataclass(frozen=True)
class Search:
    """Where tuning looks unless told otherwise, both ends included; `log` searches the logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of one model.

    Attributes:
        name: XGBoost's name for it.
        low: Least value that may be set.
        high: Largest value that may be set.
        integer: Whether it is a whole number.
        default: What holds when nobody set it. Of a searched one: what is usual, for estimates.
        meaning: What it is, in words.
        search: Where tuning looks; None for what is not searched.
    """

    name: str
    low: float
    high: float
    integer: bool
    default: float
    meaning: str
    search: Search | None = None

    @property
    def searched(self) -> bool:
        """Whether tuning searches it unless it is pinned."""
        return self.search is not None

    @property
    def kind(self) -> Kind:
        """The kind of its value; the empty text lifts what a weaker layer set."""
        if self.integer:
            return Whole(int(self.low), int(self.high), optional=True)
        return Number(self.low, self.high, optional=True)

    @property
    def default_value(self) -> float | int:
        """The default, whole where the hyperparameter is."""
        return int(self.default) if self.integer else self.default


@dataclass(frozen=True)
class Bound:
    """One end of the range that tuning searches for a hyperparameter."""

    of: Hyperparameter
    end: str

    @property
    def name(self) -> str:
        """`max_depth_low`, `max_depth_high`."""
        return f"{self.of.name}_{self.end}"

    @property
    def default_value(self) -> float | int:
        """The declared end of the search, whole where the hyperparameter is."""
        assert self.of.search is not None, self.of.name
        value = self.of.search.low if self.end == "low" else self.of.search.high
        return int(value) if self.of.integer else value


# For one to two thousand weakly predictable rows: shallow trees, strong penalties, few columns a tree.
# name, low, high, integer, XGBoost's own default (of max_bin and what is no parameter of a tree: ours), meaning
_PARAMETERS = (
    ("max_depth", 1, 8, True, 6, "depth of a tree"),
    ("learning_rate", 0.001, 0.3, False, 0.3, "shrinkage of every tree"),
    ("min_child_weight", 0.0, 1000.0, False, 1.0, "least hessian weight in a leaf"),
    ("subsample", 0.1, 1.0, False, 1.0, "share of rows that a tree sees"),
    ("colsample_bytree", 0.01, 1.0, False, 1.0, "share of features that a tree sees"),
    ("colsample_bylevel", 0.01, 1.0, False, 1.0, "share of those that a level of the tree sees"),
    ("colsample_bynode", 0.01, 1.0, False, 1.0, "share of those that a split sees"),
    ("reg_lambda", 0.0, 1000.0, False, 1.0, "L2 penalty on leaf weights"),
    ("reg_alpha", 0.0, 1000.0, False, 0.0, "L1 penalty on leaf weights"),
    ("gamma", 0.0, 100.0, False, 0.0, "least loss reduction of a split"),
    ("max_delta_step", 0.0, 10.0, False, 0.0, "largest step of a leaf's weight; 0: no limit"),
    ("max_bin", 16, 1024, True, 64, "histogram bins per feature"),
    ("num_boost_round", 10, 5000, True, 60, "most trees"),
)
_PATIENCE = ("early_stopping_rounds", 5, 500, True, 15, "trees without gain before training stops")

# What a model has in place of the defaults above.
_OWN: Mapping[str, Mapping[str, float]] = {
    "XGBOOST": {
        "max_depth": 4,
        "learning_rate": 0.05,
        "min_child_weight": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "reg_alpha": 0.001,
        "num_boost_round": 400,
    },
    "SCREENING": {
        "max_depth": 3,
        "learning_rate": 0.05,
        "min_child_weight": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.3,
    },
    "SELECTION": {
        "max_depth": 3,
        "learning_rate": 0.1,
        "min_child_weight": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "num_boost_round": 50,
    },
    "JUDGE": {
        "max_depth": 3,
        "learning_rate": 0.1,
        "min_child_weight": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.5,
        "reg_lambda": 5.0,
    },
}
_SEARCHED: Mapping[str, Search] = {
    "max_depth": Search(2, 6),
    "learning_rate": Search(0.02, 0.3, log=True),
    "min_child_weight": Search(1.0, 50.0, log=True),
    "subsample": Search(0.5, 1.0),
    "colsample_bytree": Search(0.1, 0.8),
    "reg_lambda": Search(0.1, 100.0, log=True),
    "reg_alpha": Search(0.001, 10.0, log=True),
    "gamma": Search(0.0, 5.0),
}


def _declared(model: str) -> Iterator[Hyperparameter]:
    """A model's hyperparameters, with its own defaults; only the chain's model is tuned and stopped early."""
    tuned = model == "XGBOOST"
    for name, low, high, integer, usual, meaning in (*_PARAMETERS, _PATIENCE) if tuned else _PARAMETERS:
        default = _OWN[model].get(name, usual)
        yield Hyperparameter(name, low, high, integer, default, meaning, _SEARCHED.get(name) if tuned else None)


HYPERPARAMETERS: Mapping[str, tuple[Hyperparameter, ...]] = {model: tuple(_declared(model)) for model in MODELS}


def bounds(model: str) -> tuple[Bound, ...]:
    """Both ends of every range that tuning searches for a model."""
    return tuple(Bound(item, end) for item in HYPERPARAMETERS[model] if item.searched for end in ("low", "high"))


def hyperparameter_key(model: str, timeframe: str, parameter: str) -> str:
    """The key of one hyperparameter, or of a bound of its search."""
    return f"{PREFIX}{model}_{timeframe}_{parameter}".upper()


def default_values(model: str) -> dict[str, float | int]:
    """What holds for every hyperparameter of a model that is not searched, by XGBoost's name."""
    return {item.name: item.default_value for item in HYPERPARAMETERS[model] if not item.searched}


def table_digest(*models: str) -> str:
    """Eight digits that change when what these models declare does: other defaults, another code version."""
    return hashlib.sha256(repr([HYPERPARAMETERS[model] for model in models]).encode()).hexdigest()[:8]
