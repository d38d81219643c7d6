#!/usr/bin/env bash
# check.sh [PYTHON]: what the Dockerfile does, without Docker: its scripts into a temporary folder, then image/verify.py in
# a root filesystem like the image's (jail.sh). Says how long each part took; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# step NAME COMMAND…
step() {
    local name=$1 began=$SECONDS
    shift
    "$@"
    echo "$name: done ($((SECONDS - began)) s)"
}

# Every file of ours is in the wheel, migrations and their template too.
is_whole() {
    local missing
    missing=$(find cvntrade_assets asset_checks resources -type f -not -path '*/__pycache__/*' | while read -r file; do
        cmp --silent "$file" "$work"/image/.venv/lib/python3*/site-packages/"$file" || echo "$file"
    done)
    [ -z "$missing" ] || { echo "not in the wheel, or not the same there:" $missing >&2; return 1; }
}

step "packages, bill of materials" image/packages.sh "$work/image" "$python"
step "wheel" image/wheel.sh "$work/image" "$python"
step "every file is in the wheel" is_whole
mkdir "$work/image/instance"
step "inside" image/jail.sh "$work/image" "$python" image/verify.py
