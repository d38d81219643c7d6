#!/bin/sh
# wheel.sh FOLDER [PYTHON]: this project as a wheel, installed in FOLDER/.venv; nothing is written beside the sources.
set -eu
. "$(dirname "$0")/tools.sh"

bootstrap uv setuptools
mkdir "$tools/source"
(cd "$source" && cp -R pyproject.toml README.md cvntrade_assets asset_checks resources "$tools/source/")
find "$tools/source" -name __pycache__ -prune -exec rm -rf {} +
"$tools/venv/bin/uv" build --quiet --offline --no-build-isolation --wheel --python "$tools/venv/bin/python" \
    --out-dir "$tools/wheel" "$tools/source"
"$tools/venv/bin/uv" pip install --quiet --offline --python "$folder/.venv/bin/python" --no-deps --compile-bytecode \
    "$tools"/wheel/*.whl
