#!/bin/sh
# packages.sh FOLDER [PYTHON]: the locked packages in FOLDER/.venv, and the bill of materials in FOLDER/sbom.cdx.json.
#
# The tools that do it stay outside FOLDER. Only wheels are taken, each against the lock's hashes, so nothing is compiled.
# Packages come from pip's own index (PIP_INDEX_URL, or pip's configuration).
set -eu
. "$(dirname "$0")/tools.sh"

bootstrap uv
index=${PIP_INDEX_URL:-$("$tools/venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)}
# Its address may hold credentials, and an argument is seen in `ps`.
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"

# install PYTHON OPTION…: packages of a lock into that Python's environment.
install() {
    into=$1
    shift
    "$tools/venv/bin/uv" pip install --quiet --python "$into" --require-hashes --no-deps --only-binary :all: "$@"
}

install "$tools/venv/bin/python" -r "$source/requirements-build.lock"
mkdir -p "$folder"
# Relocatable: the same folder is /opt/cvntrade in the image, and elsewhere where it is tried.
"$tools/venv/bin/uv" venv --quiet --relocatable --no-project --python "$python" "$folder/.venv"
install "$folder/.venv/bin/python" --compile-bytecode -r "$source/requirements-image.lock"
"$tools/venv/bin/python" "$source/image/sbom.py" "$folder/.venv/bin/python" "$folder/sbom.cdx.json"
