"""Refuse to start what the runs' own guardrail would block: a critical factor without its staged rollout."""

import time

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.preflight import judge_rollout
from cvntrade_assets.settings import Settings
from resources.guardrail_log import Occasion, record_evaluations
from resources.rollouts import standing
from resources.warehouse import Warehouse


def require_rollout(warehouse: Warehouse, settings: Settings) -> None:
    """Say before anything is launched that a factor of these settings must be rolled out in stages first.

    Raises:
        CommandError: a factor needs a staged rollout, its canary has not passed, and no override is given; the refusal
            is on record.
    """
    began = time.perf_counter()
    judged = judge_rollout(settings, standing(warehouse, settings.variants, None))
    if judged.stops:
        occasion = Occasion(None, None, None, settings.variants, "command")
        record_evaluations(warehouse, occasion, [judged], time.perf_counter() - began)
        raise CommandError(judged.message)
