"""The settings of one run: the layers resolved once, when the run starts, and the run tagged with what was chosen."""

import time

import dagster as dg
import pandas as pd
import sqlalchemy as sa
from pydantic import Field

from cvntrade_assets.operations.factors import FACTOR_TAG, VARIANT_TAG, resolve_run, variant_tags
from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.settings import Settings, SettingsError
from resources.code_version import code_version
from resources.guardrail_log import Occasion, record_evaluations, session_of
from resources.secrets import process_mask
from resources.warehouse import Warehouse, WarehouseError

OVERRIDE_TAG = "cvntrade/override"
CODE_TAG = "cvntrade/code"


class RunSettings(dg.ConfigurableResource[Settings]):
    """Resolves default < base_env < variants < run for everything that happens in one run."""

    settings: dict[str, str] = Field(
        default_factory=dict,
        description="CVN_* keys that this run sets, above the variants, the operators' base_env and the defaults; "
        "`cvntrade settings show` lists the keys.",
    )
    variants: dict[str, str] = Field(
        default_factory=dict,
        description="The variant of every factor that this run is given, factor to variant; `cvntrade factors` lists "
        "them.",
    )
    warehouse: dg.ResourceDependency[Warehouse]

    def create_resource(self, context: dg.InitResourceContext) -> Settings:
        """The run's settings, its tags set; what is wrong is recorded and ends the run before any work, once."""
        began = time.perf_counter()
        try:
            now = pd.Timestamp.now("UTC")
            settings = resolve_run(
                base_env=self.warehouse.base_env(), run=self.settings, variants=self.variants, now=now
            )
        except SettingsError as error:
            refused = error
        else:
            _tag(context, settings)
            return settings
        # Outside the handler: what Dagster stores of a failure includes the error that it was raised from, unmasked.
        seconds = time.perf_counter() - began
        reason = record_refusal(self.warehouse, self._occasion(context), refused, seconds)
        raise dg.Failure(description=reason, allow_retries=False)

    def _occasion(self, context: dg.InitResourceContext) -> Occasion:
        run = context.run
        if run is None:
            return Occasion(None, None, None, self.variants, "settings")
        crypto = run.tags.get("dagster/partition")
        return Occasion(run.run_id, crypto, session_of(run.run_id, run.tags), self.variants, "settings")


def record_refusal(warehouse: Warehouse, occasion: Occasion, error: SettingsError, seconds: float) -> str:
    """Write down that settings or variants were refused; returns why, as it may be shown.

    The refusal is what the user must read: when it cannot be written down, the text says so too.
    """
    reason = process_mask().text(_storable(str(error)))
    variants = {_storable(factor): _storable(variant) for factor, variant in occasion.variants.items()}
    kept = Occasion(occasion.run_id, occasion.crypto, occasion.session, variants, occasion.source)
    try:
        record_evaluations(warehouse, kept, [Evaluation("settings_valid", Verdict.BLOCKED, reason)], seconds)
    except (WarehouseError, sa.exc.SQLAlchemyError) as unrecorded:
        # The driver's own message repeats what was to be written.
        why = unrecorded if isinstance(unrecorded, WarehouseError) else type(unrecorded).__name__
        return f"{reason} This refusal could not be recorded: {why}"
    return reason


def _storable(text: str) -> str:
    # PostgreSQL takes neither NUL nor what is not Unicode, and a refused text may hold either.
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()


def _tag(context: dg.InitResourceContext, settings: Settings) -> None:
    """Say on the run what it was given, whichever door started it."""
    if context.run is None or context.instance is None:
        return
    tags = {CODE_TAG: code_version(), **variant_tags(settings.variants)}
    if settings.override_reason:
        tags[OVERRIDE_TAG] = process_mask().text(settings.override_reason)
    # A run started again from another one carries that one's tags, and they cannot be taken off.
    inherited = {name: "" for name in (FACTOR_TAG, VARIANT_TAG, OVERRIDE_TAG) if context.run.tags.get(name)}
    context.instance.add_run_tags(context.run.run_id, {**inherited, **tags})
