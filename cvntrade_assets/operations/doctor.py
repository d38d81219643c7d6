"""What is wrong with a deployment after a change of code or settings, and the exact command that mends each thing.

A process keeps the code that it was started with, and a run the settings that it began with: both outlive a deployment
that nobody finished. Facts come in, findings go out; nothing is asked here.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from cvntrade_assets.settings import Layer, Settings, SettingsError, read_value

SERVERS: tuple[str, ...] = ("webserver", "daemon", "code-server")
# The labels of Dagster's own chart, by role.
_COMPONENTS = {"webserver": "dagster-webserver", "daemon": "dagster-daemon", "code-server": "user-deployments"}
# A run's pod is named after its run.
_RUN_POD = "dagster-run-"
_BEGUN = ("STARTED", "CANCELING")
_REASON = "found by cvntrade doctor"
# In the project's folder.
_INSTALL_NEWER = "git pull && make .venv/installed"


@dataclass(frozen=True)
class LocalStack:
    """What `cvntrade up` runs on this machine: its process and its folder."""

    pid: int
    home: str

    def restart(self, role: str) -> str:
        """The servers of a local stack start and stop together."""
        del role
        wait = f"while kill -0 {self.pid} 2>/dev/null; do sleep 1; done"
        return f"kill {self.pid}; {wait}; {self.start()}"

    def start(self) -> str:
        """Bring everything up."""
        return f"CVN_HOME={shlex.quote(self.home)} cvntrade up"

    def end(self, process: "LiveProcess") -> str:
        """End one process that serves no run."""
        return f"kill {process.pid}"


@dataclass(frozen=True)
class Cluster:
    """A deployment on Kubernetes, by Dagster's chart."""

    namespace: str = "cvntrade"

    def restart(self, role: str) -> str:
        """Pods keep old code and old environment until they are replaced."""
        label = f"component={_COMPONENTS.get(role, role)}"
        return f"kubectl rollout restart deployment -n {self.namespace} -l {label}"

    def end(self, process: "LiveProcess") -> str:
        """Delete the pod of a process that serves no run."""
        return f"kubectl delete pod -n {self.namespace} {shlex.quote(process.host)}"


Deployment = LocalStack | Cluster


@dataclass(frozen=True)
class LiveProcess:
    """A process that is connected to PostgreSQL right now.

    Attributes:
        role: webserver, daemon, code-server, run, command, or a program's name.
        code: Its code version.
        pid: Its process id, on its host.
        host: Where it runs; only the beginning of a long name.
        since: Since when its oldest connection is open; None when PostgreSQL does not show it.
    """

    role: str
    code: str
    pid: int
    host: str
    since: pd.Timestamp | None


@dataclass(frozen=True)
class LiveRun:
    """A run that Dagster believes in progress.

    Attributes:
        run_id: Dagster's.
        crypto: Its partition; empty when it has none.
        status: Dagster's: STARTING, STARTED or CANCELING.
        code: The code version that the run itself recorded; None when it recorded none.
        worker: Process id of its worker, when the run has said it.
        last_event: When it last wrote an event.
    """

    run_id: str
    crypto: str
    status: str
    code: str | None
    worker: int | None
    last_event: pd.Timestamp

    def is_served_by(self, process: LiveProcess) -> bool:
        """Whether a process is this run's worker: by its id, and in a cluster by its pod's name too."""
        if process.role != "run" or process.pid != self.worker:
            return False
        if not process.host.startswith(_RUN_POD):
            return True
        pod = _RUN_POD + self.run_id
        return process.host.startswith(pod) or pod.startswith(process.host)


@dataclass(frozen=True)
class WeakSecret:
    """A secret too short, or too common a word, to be looked for in texts: it is masked by name only."""

    name: str
    mend: str


@dataclass(frozen=True)
class Facts:
    """Everything that is known of a deployment at one moment.

    Attributes:
        installed: The code version that is installed where this is asked.
        deployment: Where it runs.
        processes: Everything of ours that is connected.
        runs: The runs in progress.
        base_env: The operators' table, key to text.
        resolve: Resolves a `base_env` as a run would; raises SettingsError.
        schema: The operations schema's newest applied migration (None: no tables at all) and the newest there is.
        weak_secrets: Secrets of this environment that are too short, or too common, to be masked by value.
        now: The wall clock, UTC.
    """

    installed: str
    deployment: Deployment
    processes: Sequence[LiveProcess]
    runs: Sequence[LiveRun]
    base_env: Mapping[str, str]
    resolve: Callable[[Mapping[str, str]], Settings]
    schema: tuple[str | None, str]
    weak_secrets: Sequence[WeakSecret] = field(default=())
    now: pd.Timestamp = field(default_factory=lambda: pd.Timestamp.now("UTC"))


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and the command that mends it."""

    what: str
    command: str


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that is wrong, the most far-reaching first."""
    return [finding for rule in _RULES for finding in rule(facts)]


def _schema_differs(facts: Facts) -> Iterator[Finding]:
    applied, newest = facts.schema
    # Migrations are numbered. None goes back, so that the older code is what has to change.
    if applied is not None and applied > newest:
        yield Finding(
            f"the operations schema is at migration {applied}, and this code knows none after {newest}: newer code has "
            "migrated it, and older code is installed here",
            _INSTALL_NEWER,
        )
    elif applied != newest:
        yield Finding(
            f"the operations schema is at migration {applied or 'none'}, and this code needs {newest}",
            "cvntrade migrate",
        )


def _servers_missing(facts: Facts) -> Iterator[Finding]:
    present = {process.role for process in facts.processes}
    for role in SERVERS:
        if role not in present:
            yield Finding(
                f"no {role} is connected to PostgreSQL: it does not run, or it runs code from before it said who it is",
                facts.deployment.restart(role),
            )


def _servers_outdated(facts: Facts) -> Iterator[Finding]:
    for process in facts.processes:
        if process.role in SERVERS and process.code != facts.installed:
            yield Finding(
                f"the {process.role} (process {process.pid} on {process.host}) runs code {process.code}, and "
                f"{facts.installed} is installed",
                facts.deployment.restart(process.role),
            )


def _runs_stale(facts: Facts) -> Iterator[Finding]:
    for run in facts.runs:
        workers = [process for process in facts.processes if run.is_served_by(process)]
        reasons = list(_why_stale(run, workers, facts))
        if reasons:
            of = f" of {run.crypto}" if run.crypto else ""
            # Nobody is left to be asked politely.
            force = "" if workers else "--force "
            yield Finding(f"run {run.run_id}{of}: {'; '.join(reasons)}", f"cvntrade stop {force}{run.run_id}")


def _why_stale(run: LiveRun, workers: Sequence[LiveProcess], facts: Facts) -> Iterator[str]:
    codes = {worker.code for worker in workers} or {run.code or facts.installed}
    for code in sorted(codes - {facts.installed}):
        yield f"it runs code {code}, and {facts.installed} is installed"
    if run.status in _BEGUN and run.worker is not None and not workers:
        yield f"its process {run.worker} is gone"
    silent = (facts.now - run.last_event) / pd.Timedelta(minutes=1)
    limit = _stuck_minutes(facts)
    if silent >= limit:
        yield f"it has shown no progress for {silent:.0f} minutes (limit {limit:g})"


def _stuck_minutes(facts: Facts) -> float:
    name = "CVN_GUARDRAIL_STUCK_MINUTES"
    try:
        found = read_value(name, facts.base_env[name], Layer.BASE_ENV) if name in facts.base_env else None
    except SettingsError:
        # Refused settings are a finding of their own; until then the default holds.
        found = None
    return facts.resolve({}).number(name) if found is None else float(found.text)


def _workers_astray(facts: Facts) -> Iterator[Finding]:
    """Workers of runs that Dagster does not believe in progress, and that run other code."""
    for process in facts.processes:
        if process.role != "run" or any(run.is_served_by(process) for run in facts.runs):
            continue
        if process.code != facts.installed:
            yield Finding(
                f"a run worker (process {process.pid} on {process.host}) runs code {process.code}, and no run in "
                "progress is its",
                facts.deployment.end(process),
            )


def _settings_refused(facts: Facts) -> Iterator[Finding]:
    good: dict[str, str] = {}
    for key, text in facts.base_env.items():
        try:
            read_value(key, text, Layer.BASE_ENV)
        except SettingsError as error:
            yield Finding(f"base_env: {error}", _unset([key]))
        else:
            good[key] = text
    try:
        facts.resolve(good)
    except SettingsError as error:
        yield Finding(f"base_env contradicts itself: {error}", _unset(_least_removal(good, facts.resolve)))


def _least_removal(base_env: Mapping[str, str], resolve: Callable[[Mapping[str, str]], Settings]) -> Iterable[str]:
    """One key without which the others go together, or else all of them."""
    for key in base_env:
        try:
            resolve({name: text for name, text in base_env.items() if name != key})
        except SettingsError:
            continue
        return [key]
    return base_env


def _unset(keys: Iterable[str]) -> str:
    names = " ".join(shlex.quote(key) for key in keys)
    return f"cvntrade settings unset {names} --reason {shlex.quote(_REASON)}"


def _weak(facts: Facts) -> Iterator[Finding]:
    for secret in facts.weak_secrets:
        yield Finding(
            f"{secret.name} is too short, or too common a word, to be recognised in a text: it is masked where its "
            "name stands, nowhere else",
            secret.mend,
        )


_RULES = (
    _schema_differs,
    _servers_missing,
    _servers_outdated,
    _runs_stale,
    _workers_astray,
    _settings_refused,
    _weak,
)
