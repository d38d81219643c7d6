# The image of everything that is ours: code location, runs, jobs, exporter, MLflow, and Dagster's webserver and daemon.
#
#   docker build --target image --tag REGISTRY/cvntrade:VERSION .
#   docker build --target check .      # the same image, and everything that image/verify.py tries inside it
#
# Packages come from the index that pip is configured for; one of your own, as a secret that no layer keeps:
#   docker build --secret id=pip.conf,src=$HOME/.config/pip/pip.conf …
#
# No ENTRYPOINT: Dagster's chart and K8sRunLauncher start containers with `args` alone, which would become arguments of it.

# By digest: a tag moves. Nothing is installed from Debian, so that a newer digest is how the base gets its fixes:
# `docker buildx imagetools inspect python:3.11-slim-bookworm` names it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
# Packages change seldom, and are a layer of their own: a change of our code does not install them again.
COPY requirements-build.lock requirements-image.lock pyproject.toml ./
COPY image/tools.sh image/packages.sh image/sbom.py image/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf image/packages.sh /opt/cvntrade /usr/local/bin/python3
COPY README.md ./
COPY cvntrade_assets cvntrade_assets
COPY asset_checks asset_checks
COPY resources resources
COPY image/wheel.sh image/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf image/wheel.sh /opt/cvntrade /usr/local/bin/python3
# Where a ConfigMap with dagster.yaml is mounted: DAGSTER_HOME.
RUN mkdir /opt/cvntrade/instance

FROM ${PYTHON_IMAGE} AS image
# A name for the user, because PostgreSQL's initdb in the smoke wants one. Nobody installs anything here any more: pip goes,
# and the one that Python keeps for `venv`.
RUN groupadd --gid 65532 cvntrade \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin cvntrade \
    && python3 -m pip uninstall --quiet --yes --root-user-action=ignore pip setuptools wheel \
    && rm -r "$(python3 -c 'import ensurepip; print(ensurepip.__path__[0])')"
# Root's: the user reads it and changes nothing.
COPY --from=build /opt/cvntrade /opt/cvntrade
ENV PATH=/opt/cvntrade/.venv/bin:/usr/local/bin:/usr/bin:/bin
ENV HOME=/tmp
ENV MPLCONFIGDIR=/tmp/matplotlib
ENV NUMBA_CACHE_DIR=/tmp/numba
ENV PYTHONDONTWRITEBYTECODE=1
ENV PYTHONUNBUFFERED=1
ENV MLFLOW_DISABLE_TELEMETRY=true
# MLflow looks for git, and says at length that there is none.
ENV GIT_PYTHON_REFRESH=quiet
WORKDIR /opt/cvntrade
USER 65532:65532
# Kubernetes asks by its own probes.
HEALTHCHECK NONE
CMD ["cvntrade", "--help"]

FROM image AS check
COPY image/verify.py /check/
RUN python /check/verify.py

# What `docker build` without --target makes.
FROM image
