#!/usr/bin/env bash
# Export both stages and run the gate in the mode of export.compare.mode.
#
#   bash scripts/export_onnx.sh
#   CONFIG=path/to/config.yaml OPSET=18 bash scripts/export_onnx.sh
#
# Prints `[OK] Exported: <path>` per export that has passed and `Report: <path>` and exits 0, or `[FAIL] …` with the
# log's path and exits 1. Takes no arguments: exits 2 with any.
set -euo pipefail

if (($#)); then
    printf 'no argument is known: %s\nusage: [CONFIG=PATH] [OPSET=N] bash scripts/export_onnx.sh\n' "$*" >&2
    exit 2
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CONFIG="${CONFIG:-${PILLSNAP_CONFIG:-$root/config.yaml}}"
PYTHON="${PYTHON:-}"
if [[ -z "$PYTHON" ]]; then
    PYTHON=python3
    [[ -x "$root/.venv/bin/python" ]] && PYTHON="$root/.venv/bin/python"
fi

fail() {
    printf '[FAIL] %s\n' "$*" >&2
    exit 1
}

command -v yq >/dev/null 2>&1 \
    || fail "yq is not installed: apt-get install yq, or https://github.com/mikefarah/yq"
[[ -f "$CONFIG" ]] || fail "no config file: $CONFIG"
CONFIG="$(cd "$(dirname "$CONFIG")" && pwd)/$(basename "$CONFIG")"
cd "$root"

# Plain paths only, so that mikefarah's yq and the jq wrapper both understand; the wrapper quotes. One
# that snap has installed may open no file outside the home folder: it is fed the file.
setting() {
    local value
    value="$(yq "$1" "$CONFIG" 2>/dev/null || yq "$1" - <"$CONFIG")" \
        || fail "yq cannot read $1 in $CONFIG"
    value="${value#\"}"
    printf '%s' "${value%\"}"
}

# A folder of the config as the library reads it: `~`, ${ENV} and relative paths expand there.
folder() {
    "$PYTHON" -c 'import sys
from pathlib import Path
from pillsnap.config.load import load_config
from pillsnap.core.errors import PillsnapError
try:
    print(getattr(load_config(Path(sys.argv[1])), sys.argv[2]))
except PillsnapError as error:
    sys.exit(str(error))' "$CONFIG" "$1" || fail "config: $CONFIG"
}

exp_dir="$(setting .paths.exp_dir)"
[[ -n "$exp_dir" && "$exp_dir" != null ]] || fail "paths.exp_dir is not set in $CONFIG"
exp_dir="$(folder exp_dir)"
out_dir="$(setting .export.out_dir)"
if [[ -z "$out_dir" || "$out_dir" == null ]]; then out_dir="$exp_dir/export"; else out_dir="$(folder out_dir)"; fi
mode="$(setting .export.compare.mode)"
[[ -n "$mode" && "$mode" != null ]] || mode=smoke

# The demo puts its own checkpoints in place, and a stage without data need not be there.
if [[ "$(setting .demo)" != true ]]; then
    "$PYTHON" -c 'import sys
from pathlib import Path
from pillsnap.config.load import load_config
from pillsnap.engines.torch.checkpoints import checkpoint_paths
config = load_config(Path(sys.argv[1]))
val = config.data.val
for stage, data in ("detection", val.combo), ("classification", val.single):
    paths = checkpoint_paths(config, stage)
    if data is not None and not any(path.is_file() for path in paths):
        sys.exit(f"[FAIL] no checkpoint: {paths[0]}")' "$CONFIG" || exit 1
fi
mkdir -p "$out_dir" 2>/dev/null || fail "cannot make the folder $out_dir"
[[ -w "$out_dir" ]] || fail "cannot write to $out_dir"

log="$out_dir/export_onnx.log"
code=0
"$PYTHON" -m pytest tests/test_export_compare.py -m "$mode" --config="$CONFIG" -q 2>&1 \
    | tee "$log" || code="${PIPESTATUS[0]}"
[[ "$code" == 0 ]] || fail "exit code $code, log: $log"

report="$out_dir/export_report.json"
"$PYTHON" -c 'import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    latest = json.load(file)["gate"]["latest"]
models = [latest[stage] for stage in ("detection", "classification") if latest[stage]]
for model in models:
    print("[OK] Exported:", model)
sys.exit(not models)' "$report" || fail "no export has passed, log: $log"
printf 'Report: %s\n' "$report"
