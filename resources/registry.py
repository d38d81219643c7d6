"""The registry of models: which exist, in which state, and who changed it when; these tables are the truth.

A state changes by compare-and-set on the model's epoch, in one transaction with its event, which a trigger writes. Of
several callers who saw the same epoch exactly one wins. MLflow mirrors what stands here: `resources/model_mirror.py`.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.market.shown import SIMULATED, shown_market
from cvntrade_assets.operations.lifecycle import PIPELINE, ActingRole, ModelState, Standing, refusal
from resources.secrets import process_mask
from resources.tables import EVALUATIONS, MODEL_EVENTS, MODEL_VERSIONS
from resources.warehouse import Warehouse

_TELL_TRIGGER = sa.text(
    "select set_config('cvntrade.author', :author, true), set_config('cvntrade.role', :role, true), "
    "set_config('cvntrade.reason', :reason, true), set_config('cvntrade.run', :run_id, true)"
)
# One registration of a crypto at a time: numbers follow each other without holes.
_LOCK = sa.text("select pg_advisory_xact_lock(hashtext('cvntrade registry ' || :crypto))")


class RegistryError(RuntimeError):
    """A model could not be registered or changed; says which, why and what to do. Nothing was written."""


class TransitionRefusedError(RegistryError):
    """A change of state that is not allowed."""


class StaleModelError(RegistryError):
    """Somebody else changed the model since it was read."""


@dataclass(frozen=True)
class NewModel:
    """What a model is registered with.

    Attributes:
        crypto: Its crypto.
        market: The market behind the candles that it was trained on.
        pte: Its trade execution parameters.
        rolling_version: Version of the rolling backtest that holds its files.
        model_sha256: Checksum of its UBJSON file.
        evaluation_version: Version of the evaluation behind it.
        fitted_until: When the newest candle closed that it was fitted on: its age counts from there.
        data_until: When the newest candle closed that it was judged on: it has never seen what comes after.
    """

    crypto: str
    market: str
    pte: str
    rolling_version: str
    model_sha256: str
    evaluation_version: str
    fitted_until: datetime
    data_until: datetime


@dataclass(frozen=True)
class ModelVersion:
    """A registered model as it stood when it was read."""

    id: int
    crypto: str
    number: int
    state: ModelState
    epoch: int
    market: str
    pte: str
    rolling_version: str
    model_sha256: str
    evaluation_version: str
    fitted_until: datetime
    data_until: datetime
    run_id: str | None
    challenger_at: datetime | None
    champion_at: datetime | None
    mlflow_version: str | None
    mirrored_epoch: int | None
    created_at: datetime
    changed_at: datetime

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.crypto} model {self.number}"

    @property
    def shown_market(self) -> str:
        """The market as it is shown, with the mark of what was simulated."""
        return shown_market(self.market)

    @property
    def mirrored(self) -> bool:
        """Whether MLflow shows it as it stands here."""
        return self.mirrored_epoch == self.epoch


@dataclass(frozen=True)
class Actor:
    """Who registers a model or changes its state, in which role, why, and in which run; None without one."""

    author: str
    role: ActingRole
    reason: str
    run_id: str | None = None


def register(warehouse: Warehouse, new: NewModel, by: Actor) -> ModelVersion:
    """Register a candidate; the same crypto, rolling backtest and PTE again give the model that is there already.

    As long as it is a candidate, a newer evaluation takes the place of the one that it was registered with.

    Raises:
        RegistryError: the model that is there has other bytes, or is of another market or other data.
        WarehouseError: PostgreSQL did not answer.
    """
    table = MODEL_VERSIONS
    row = process_mask().value({name.name: getattr(new, name.name) for name in fields(new)})
    same = (
        table.c.crypto == row["crypto"],
        table.c.rolling_version == row["rolling_version"],
        table.c.pte == row["pte"],
    )
    next_number = sa.select(sa.func.coalesce(sa.func.max(table.c.number), 0) + 1).where(table.c.crypto == row["crypto"])
    with _told(warehouse, by) as connection:
        connection.execute(_LOCK, {"crypto": row["crypto"]})
        found = connection.execute(sa.select(table).where(*same)).mappings().one_or_none()
        if found is None:
            values = {**row, "number": next_number.scalar_subquery(), "state": "candidate", "epoch": 1}
            statement = insert(table).values(**values, run_id=by.run_id).returning(table)
            return _model(connection.execute(statement).mappings().one())
        _require_same(_model(found), new)
        newer = sa.update(table).where(*same, table.c.state == "candidate")
        connection.execute(newer.values(evaluation_version=row["evaluation_version"]))
        return _model(connection.execute(sa.select(table).where(*same)).mappings().one())


def _require_same(found: ModelVersion, new: NewModel) -> None:
    for name in ("model_sha256", "market", "fitted_until", "data_until"):
        ours, theirs = getattr(found, name), getattr(new, name)
        if ours != theirs:
            raise RegistryError(
                f"{found.name} is registered with {name} {ours}, and rolling backtest {new.rolling_version} now says "
                f"{theirs} of {new.pte}. A version never changes: find out who replaced its files. Nothing was "
                "written."
            )


def transition(warehouse: Warehouse, model: ModelVersion, to: ModelState, by: Actor) -> ModelVersion:
    """Change a model's state, if it still is as it was read; its event is written in the same transaction.

    Args:
        warehouse: Where.
        model: The model as the caller saw it: its epoch is what must not have changed.
        to: The new state.
        by: Who, in which role, and why.

    Raises:
        TransitionRefusedError: the change is not allowed; see `operations/lifecycle.py`.
        StaleModelError: somebody else changed the model first.
        WarehouseError: PostgreSQL did not answer.
    """
    table = MODEL_VERSIONS
    change = sa.update(table).where(table.c.id == model.id, table.c.epoch == model.epoch)
    with _told(warehouse, by) as connection:
        reason = refusal(_standing(connection, model), to, by.role)
        if reason is not None:
            raise TransitionRefusedError(f"{reason} Nothing was written.")
        statement = change.values(state=str(to), epoch=table.c.epoch + 1).returning(table)
        changed = connection.execute(statement).mappings().one_or_none()
        if changed is None:
            now = _model(connection.execute(sa.select(table).where(table.c.id == model.id)).mappings().one())
            raise StaleModelError(
                f"{model.name} was {model.state} (epoch {model.epoch}) when it was read, and is {now.state} (epoch "
                f"{now.epoch}) now: somebody else changed it first. Nothing was written; look at it again with "
                f"`cvntrade registry show --crypto {model.crypto}`."
            )
        return _model(changed)


def _standing(connection: sa.Connection, model: ModelVersion) -> Standing:
    table = EVALUATIONS
    passed = sa.select(sa.literal(True)).where(
        table.c.evaluation_version == model.evaluation_version,
        table.c.rolling_version == model.rolling_version,
        table.c.crypto == model.crypto,
        table.c.market == model.market,
        table.c.pte == model.pte,
        table.c.gates_passed,
    )
    gates_passed = bool(connection.scalar(passed.limit(1)))
    return Standing(model.name, model.state, model.market, model.champion_at is not None, gates_passed)


@contextmanager
def _told(warehouse: Warehouse, by: Actor) -> Iterator[sa.Connection]:
    """A transaction whose triggers know who acts; what they or the constraints refuse is one readable error."""
    mask = process_mask()
    told = {
        "author": mask.value(by.author),
        "role": str(by.role),
        "reason": mask.text(by.reason),
        "run_id": by.run_id or "",
    }
    try:
        with warehouse.begin() as connection:
            connection.execute(_TELL_TRIGGER, told)
            yield connection
    except sa.exc.IntegrityError as error:
        raise TransitionRefusedError(f"{_told_by_database(error)} Nothing was written.") from error


def _told_by_database(error: sa.exc.IntegrityError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    constraint = getattr(diagnosis, "constraint_name", None)
    if constraint == "model_versions_one_champion":
        return "the crypto has a champion already, and it must leave that place in the same transaction."
    return f"PostgreSQL refused: {getattr(diagnosis, 'message_primary', None) or error.orig}."


@dataclass(frozen=True)
class Offer:
    """What became of a candidate that an evaluation offers.

    Attributes:
        model: The model as it stands now.
        reason: Why it is a challenger, or why not.
    """

    model: ModelVersion
    reason: str


def offer_candidate(
    warehouse: Warehouse, new: NewModel, refusals: Mapping[str, str], author: str, run_id: str | None = None
) -> Offer:
    """Register what an evaluation offers, and make it a challenger when no gate refuses it; safe to call again.

    Args:
        warehouse: Where.
        new: The candidate that leads the evaluation.
        refusals: The gates that refuse it, with the reason of each.
        author: Who runs the pipeline.
        run_id: The run that does it.

    Raises:
        RegistryError: the model cannot be registered or changed.
        WarehouseError: PostgreSQL did not answer.
    """
    refused = "; ".join(f"gate {name}: {why}" for name, why in refusals.items())
    version = f"evaluation {new.evaluation_version}"
    model = register(warehouse, new, Actor(author, PIPELINE, f"it leads {version}", run_id))
    if model.state is ModelState.CANDIDATE and not refused:
        passed = Actor(author, PIPELINE, f"it passed every gate of {version}", run_id)
        try:
            model = transition(warehouse, model, ModelState.CHALLENGER, passed)
        except StaleModelError:
            # Another run offered the same candidate at the same moment.
            model = require_model(warehouse, model)
    return Offer(model, _reason(model, refused))


def _reason(model: ModelVersion, refused: str) -> str:
    if model.state is ModelState.CANDIDATE:
        return f"not registered as a challenger: {refused}"
    said = f"it passed every gate, and is {model.state}"
    if refused:
        said = f"it is {model.state} since an earlier evaluation; this one refuses it: {refused}"
    return f"{said}; SIMULATED: it can never be champion" if model.market == SIMULATED else said


def require_model(warehouse: Warehouse, model: ModelVersion) -> ModelVersion:
    """A model as it stands now."""
    return _read(warehouse, sa.select(MODEL_VERSIONS).where(MODEL_VERSIONS.c.id == model.id))[0]


def models(
    warehouse: Warehouse,
    cryptos: Collection[str] | None = None,
    states: Collection[ModelState] | None = None,
    market: str | None = None,
) -> list[ModelVersion]:
    """Registered models, by crypto, the newest first.

    Args:
        warehouse: Where.
        cryptos: Of these only; None for all.
        states: In these only; None for all.
        market: Trained on this market only; None for any.
    """
    table = MODEL_VERSIONS
    query = sa.select(table).order_by(table.c.crypto, table.c.number.desc())
    if cryptos is not None:
        query = query.where(table.c.crypto.in_(list(cryptos)))
    if states is not None:
        query = query.where(table.c.state.in_([str(state) for state in states]))
    if market is not None:
        query = query.where(table.c.market == market)
    return _read(warehouse, query)


def find_model(warehouse: Warehouse, crypto: str, rolling_version: str, pte: str) -> ModelVersion | None:
    """The model that was registered of a rolling backtest's candidate; None when none was."""
    table = MODEL_VERSIONS
    query = sa.select(table).where(
        table.c.crypto == crypto, table.c.rolling_version == rolling_version, table.c.pte == pte
    )
    return next(iter(_read(warehouse, query)), None)


def events(warehouse: Warehouse, crypto: str) -> list[dict[str, Any]]:
    """Every change of state of a crypto's models, oldest first, named as the table's columns."""
    table = MODEL_EVENTS
    with warehouse.begin() as connection:
        rows = connection.execute(sa.select(table).where(table.c.crypto == crypto).order_by(table.c.id)).mappings()
        return [dict(row) for row in rows]


def unmirrored(warehouse: Warehouse, crypto: str | None = None) -> list[ModelVersion]:
    """Models that MLflow does not show as they stand here, by crypto, the oldest first.

    Mirrored is what ever was a challenger: a candidate that passed no gate is not offered to anybody.
    """
    table = MODEL_VERSIONS
    query = sa.select(table).where(
        table.c.challenger_at.is_not(None), table.c.mirrored_epoch.is_distinct_from(table.c.epoch)
    )
    if crypto is not None:
        query = query.where(table.c.crypto == crypto)
    return _read(warehouse, query.order_by(table.c.crypto, table.c.number))


def note_mirrored(warehouse: Warehouse, model: ModelVersion, mlflow_version: str) -> None:
    """Remember that MLflow shows a model as it was read; a change since then stays to be mirrored."""
    table = MODEL_VERSIONS
    statement = sa.update(table).where(table.c.id == model.id)
    with warehouse.begin() as connection:
        connection.execute(statement.values(mlflow_version=mlflow_version, mirrored_epoch=model.epoch))


def _read(warehouse: Warehouse, query: "sa.Select[Any]") -> list[ModelVersion]:
    with warehouse.begin() as connection:
        return [_model(row) for row in connection.execute(query).mappings()]


def _model(row: "sa.RowMapping") -> ModelVersion:
    return ModelVersion(**{**row, "state": ModelState(row["state"])})
