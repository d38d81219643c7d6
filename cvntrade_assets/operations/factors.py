"""The factors of an ablation: each has named variants, and a variant is a handful of CVN_* keys set on purpose.

A run that is given variants resolves them as the settings' factor layer, so that a guardrail can tell what somebody
chose from what merely happened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from cvntrade_assets.operations.masking import shown
from cvntrade_assets.settings import Layer, Settings, SettingsError, read_value, resolve

Category = Literal["data", "labels", "features", "training", "calibration", "execution"]
Texts = Mapping[str, str]


class FactorError(SettingsError):
    """A factor or variant that does not exist, or two variants at odds; the message names what is valid."""


@dataclass(frozen=True)
class Factor:
    """One thing that is tried in several ways.

    Attributes:
        name: How people ask for it.
        category: What it belongs to.
        kind: `training` retrains the model; `runtime` changes what is decided with a trained one.
        variants: Variant name to the CVN_* keys that it sets, as text. The first one spells out the defaults.
        staged: Why a staged rollout is required before the factor runs on a group; empty when it is not.
        meaning: What is varied, and which other setting it needs to have an effect.
    """

    name: str
    category: Category
    kind: Literal["training", "runtime"]
    variants: Mapping[str, Texts]
    staged: str
    meaning: str

    def definition(self) -> str:
        """A short hash of the variants: a factor whose variants change needs a new rollout."""
        spelt = json.dumps({name: dict(texts) for name, texts in self.variants.items()}, sort_keys=True)
        return hashlib.sha256(spelt.encode()).hexdigest()[:12]

    @property
    def keys(self) -> frozenset[str]:
        """Every key that some variant sets."""
        return frozenset(key for texts in self.variants.values() for key in texts)


def _one_key(key: str, words: Mapping[str, str]) -> dict[str, Texts]:
    return {variant: {key: text} for variant, text in words.items()}


def _words(key: str, *words: str) -> dict[str, Texts]:
    return _one_key(key, {word: word for word in words})


def _cusum(threshold: str, mode: str = "event") -> Texts:
    return {
        "CVN_CUSUM_TRAINING_ENABLED": "1",
        "CVN_CUSUM_FILTER_MODE": mode,
        "CVN_CUSUM_THRESHOLD_H": threshold,
    }


def _costs(fee: str, slippage: str) -> Texts:
    return {"CVN_FEE_BPS": fee, "CVN_SLIPPAGE_BPS": slippage}


def _focal(gamma: str) -> Texts:
    return {"CVN_FOCAL_LOSS": "1", "CVN_FOCAL_GAMMA": gamma}


_DECLARED: tuple[Factor, ...] = (
    Factor(
        "cusum_training_mode",
        "data",
        "training",
        {
            "legacy_3_0": _cusum("3.0"),
            "relaxed_1_5": _cusum("1.5"),
            "stable_3_0": _cusum("3.0", "stable"),
            "disabled": {"CVN_CUSUM_TRAINING_ENABLED": "0"},
        },
        "it changes CUSUM and with it how many rows the model is trained on",
        "which candles of the training slice the model learns from",
    ),
    Factor(
        "pte_envelope",
        "labels",
        "training",
        _one_key(
            "CVN_DEFAULT_PTE",
            {
                "h4_sl1_tp2": "H4_SL1.0_TP2.0",
                "h4_sl1_tp1": "H4_SL1.0_TP1.0",
                "h4_sl1_tp3": "H4_SL1.0_TP3.0",
                "h2_sl1_tp2": "H2_SL1.0_TP2.0",
                "h6_sl1_tp2": "H6_SL1.0_TP2.0",
                "h6_sl1_5_tp3": "H6_SL1.5_TP3.0",
            },
        ),
        "",
        "horizon, stop-loss and take-profit together; CVN_SL_MULT and CVN_TP_MULT would still be laid over them",
    ),
    Factor(
        "sl_multiplier",
        "labels",
        "training",
        _one_key("CVN_SL_MULT", {"from_pte": "", "sl_0_8": "0.8", "sl_1_0": "1.0", "sl_1_2": "1.2", "sl_1_5": "1.5"}),
        "",
        "how far the stop-loss stands, in ATR",
    ),
    Factor(
        "tp_multiplier",
        "labels",
        "training",
        _one_key("CVN_TP_MULT", {"from_pte": "", "tp_1_0": "1.0", "tp_1_5": "1.5", "tp_2_0": "2.0", "tp_3_0": "3.0"}),
        "",
        "how far the take-profit stands, in ATR",
    ),
    Factor(
        "n_features",
        "features",
        "training",
        _one_key("CVN_MAX_FEATURES", {"top_60": "60", "top_30": "30", "top_120": "120", "all": "1000"}),
        "it changes the feature selection",
        "at most how many features reach the model",
    ),
    Factor(
        "label_smoothing",
        "labels",
        "training",
        _words("CVN_LABEL_SMOOTHING", "none", "mild", "aggressive"),
        "",
        "how far BUY labels are softened before training",
    ),
    Factor(
        "cleanlab",
        "labels",
        "training",
        _words("CVN_CLEANLAB", "off", "filter", "reweight"),
        "it changes how many rows the model is trained on, or what they weigh",
        "what happens to training labels that cleanlab suspects",
    ),
    Factor(
        "focal_loss",
        "training",
        "training",
        {
            "off": {"CVN_FOCAL_LOSS": "0"},
            "gamma_1": _focal("1.0"),
            "gamma_2": _focal("2.0"),
            "gamma_5": _focal("5.0"),
        },
        "it changes the model: another loss is minimised",
        "the logistic loss, or the focal one with an exponent; needs CVN_BINARY_CLASSIFICATION=1",
    ),
    Factor(
        "hpo_objective",
        "training",
        "training",
        _words("CVN_HPO_OBJECTIVE", "precision_recall_auc", "f1_binary"),
        "",
        "what tuning maximises on held-out folds; f1_binary needs CVN_BINARY_CLASSIFICATION=1",
    ),
    Factor(
        "calibration",
        "calibration",
        "runtime",
        _words("CVN_CALIBRATION", "sigmoid", "none", "platt", "isotonic", "hybrid"),
        "",
        "how scores become probabilities",
    ),
    Factor(
        "threshold_method",
        "calibration",
        "runtime",
        _words("CVN_THRESHOLD_METHOD", "f1_binary", "expected_value"),
        "",
        "what the threshold from which BUY is said maximises; f1_binary needs CVN_BINARY_CLASSIFICATION=1",
    ),
    Factor(
        "cost",
        "execution",
        "runtime",
        {"bps_20": _costs("7.5", "2.5"), "bps_10": _costs("2.5", "2.5"), "bps_40": _costs("15", "5")},
        "",
        "what a round trip costs: backtests pay it, and a threshold that maximises the expected value heeds it",
    ),
    Factor(
        "cooldown",
        "execution",
        "runtime",
        _one_key("CVN_COOLDOWN_CANDLES", {"none": "0", "candles_2": "2", "candles_4": "4", "candles_8": "8"}),
        "",
        "how many candles pass after a trade before the next one",
    ),
    Factor(
        "trend_filter",
        "execution",
        "runtime",
        _words("CVN_TREND_FILTER", "off", "ema_50", "ema_200"),
        "",
        "above which moving average a trade may be entered",
    ),
)

FACTORS: Mapping[str, Factor] = {factor.name: factor for factor in _DECLARED}

FACTOR_TAG, VARIANT_TAG = "cvntrade/factor", "cvntrade/variant"

_SAME_BARRIER = {"sl_multiplier": "the stop-loss", "tp_multiplier": "the take-profit"}


def resolve_run(
    *, base_env: Texts, run: Texts, variants: Mapping[str, str] | None = None, now: pd.Timestamp
) -> Settings:
    """The settings of a run: default < base_env < the variants' keys < what the run sets.

    Args:
        base_env: The operators' table, key to text.
        run: What the run sets, key to text.
        variants: The variant chosen of every factor, factor to variant.
        now: The wall clock, UTC.

    Raises:
        FactorError: a factor or variant does not exist, or two variants set one key to different texts.
        SettingsError: as `settings.resolve` raises it.
    """
    chosen = variants or {}
    return resolve(base_env=base_env, run=run, factor=variant_texts(chosen), variants=chosen, now=now)


def variant_texts(variants: Mapping[str, str]) -> dict[str, str]:
    """What the chosen variants set, key to text; FactorError as `resolve_run` raises it."""
    texts: dict[str, str] = {}
    setters: dict[str, str] = {}
    for factor, variant in variants.items():
        for key, text in find_variant(factor, variant).items():
            if texts.setdefault(key, text) != text:
                raise FactorError(
                    f"{setters[key]} sets {key}={texts[key]} and {factor}={variant} sets {key}={text}: one run has one "
                    "value. Choose one of the two variants, or run them one after the other."
                )
            setters[key] = f"{factor}={variant}"
    return texts


def find_variant(factor: str, variant: str) -> Texts:
    """The keys that a variant sets; FactorError names the factors, or the factor's variants."""
    if factor not in FACTORS:
        raise FactorError(f"factor {shown(factor)!r} does not exist; there are {_listed(FACTORS)}.")
    known = FACTORS[factor].variants
    if variant not in known:
        raise FactorError(f"factor {factor} has no variant {shown(variant)!r}; it has {_listed(known)}.")
    return known[variant]


def variant_tags(variants: Mapping[str, str]) -> dict[str, str]:
    """The run tags that name the factors and, in the same order, their variants; none without variants."""
    if not variants:
        return {}
    factors = sorted(variants)
    return {FACTOR_TAG: ", ".join(factors), VARIANT_TAG: ", ".join(variants[name] for name in factors)}


def overlaps(variants: Mapping[str, str]) -> tuple[str, ...]:
    """Chosen factors that move the same barrier, one sentence each: their effects cannot be told apart."""
    if "pte_envelope" not in variants:
        return ()
    return tuple(
        f"pte_envelope and {factor} both move {barrier}: {factor}={variants[factor]} is laid over "
        f"pte_envelope={variants['pte_envelope']}, and their effects cannot be told apart."
        for factor, barrier in _SAME_BARRIER.items()
        if factor in variants
    )


def undone(settings: Settings) -> tuple[str, ...]:
    """What the run's variants set and something else took over, one sentence each: a variant that is one in name only.

    The run may set a variant's key to another value, and CVN_SL_MULT or CVN_TP_MULT is laid over the PTE of a variant.
    """
    sentences = []
    for factor, variant in settings.variants.items():
        for key, text in find_variant(factor, variant).items():
            held = settings[key]
            if held.layer is not Layer.FACTOR and held.text != read_value(key, text, Layer.FACTOR).text:
                sentences.append(
                    f"{factor}={variant} sets {key}={text}, and layer {held.layer} sets it to {held.text!r}, which is "
                    "what holds."
                )
    if "pte_envelope" in settings.variants and str(settings.pte) != settings.text("CVN_DEFAULT_PTE"):
        sentences.extend(_laid_over(settings, "CVN_SL_MULT"))
        sentences.extend(_laid_over(settings, "CVN_TP_MULT"))
    return tuple(sentences)


def _laid_over(settings: Settings, key: str) -> list[str]:
    held = settings[key]
    # What another variant lays over it is told by `overlaps`.
    if not held.text or held.layer is Layer.FACTOR:
        return []
    return [
        f"{key}={held.text} (layer {held.layer}) is laid over pte_envelope={settings.variants['pte_envelope']}, which "
        f"therefore trades {settings.pte}."
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
