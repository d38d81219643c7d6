# tools.sh: what packages.sh and wheel.sh, which source it, begin with. Their arguments are FOLDER [PYTHON].
#
# Sets folder, python, source and tools, a temporary folder outside FOLDER that goes with the script, and makes an
# environment in it.
folder=$1
python=${2:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools/venv"

# bootstrap NAME…: packages of requirements-build.lock into that environment, by pip and from its own index.
bootstrap() {
    for name in "$@"; do sed -n "/^$name==/,/[^\\\\]\$/p" "$source/requirements-build.lock"; done >"$tools/bootstrap.lock"
    "$tools/venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-compile \
        --require-hashes --no-deps -r "$tools/bootstrap.lock"
}
