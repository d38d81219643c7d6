#!/bin/sh
# wheel.sh FOLDER [PYTHON]: this project as a wheel, installed in FOLDER/.venv; nothing is written beside the sources.
set -eu
folder=$1
python=${2:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

"$python" -m venv "$tools/venv"
for name in uv setuptools; do sed -n "/^$name==/,/[^\\\\]\$/p" "$source/requirements-build.lock"; done >"$tools/bootstrap.lock"
"$tools/venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps \
    -r "$tools/bootstrap.lock"
mkdir "$tools/source"
(cd "$source" && cp -R pyproject.toml README.md cvntrade_assets asset_checks resources "$tools/source/")
find "$tools/source" -name __pycache__ -prune -exec rm -rf {} +
"$tools/venv/bin/uv" build --quiet --offline --no-build-isolation --wheel --python "$tools/venv/bin/python" \
    --out-dir "$tools/wheel" "$tools/source"
"$tools/venv/bin/uv" pip install --quiet --offline --python "$folder/.venv/bin/python" --no-deps --compile-bytecode \
    "$tools"/wheel/*.whl
