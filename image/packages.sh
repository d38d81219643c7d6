#!/bin/sh
# packages.sh FOLDER [PYTHON]: the locked packages in FOLDER/.venv, and the bill of materials in FOLDER/sbom.cdx.json.
#
# The tools that do it stay outside FOLDER. Only wheels are taken, each against the lock's hashes, so nothing is compiled.
# Packages come from pip's own index (PIP_INDEX_URL, or pip's configuration).
set -eu
folder=$1
python=${2:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

"$python" -m venv "$tools/venv"
sed -n '/^uv==/,/[^\\]$/p' "$source/requirements-build.lock" >"$tools/bootstrap.lock"
"$tools/venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps \
    -r "$tools/bootstrap.lock"
index=${PIP_INDEX_URL:-$("$tools/venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)}

# install PYTHON OPTION…: packages of a lock into that Python's environment.
install() {
    into=$1
    shift
    "$tools/venv/bin/uv" pip install --quiet --python "$into" ${index:+--default-index "$index"} \
        --require-hashes --no-deps --only-binary :all: "$@"
}

install "$tools/venv/bin/python" -r "$source/requirements-build.lock"
mkdir -p "$folder"
# Relocatable: the same folder is /opt/cvntrade in the image, and elsewhere where it is tried.
"$tools/venv/bin/uv" venv --quiet --relocatable --no-project --python "$python" "$folder/.venv"
install "$folder/.venv/bin/python" --compile-bytecode -r "$source/requirements-image.lock"
"$tools/venv/bin/python" "$source/image/sbom.py" "$folder/.venv/bin/python" "$folder/sbom.cdx.json"
