#!/usr/bin/env bash
# All that only a GPU can show, in at most five minutes: tests/gpu/run_all.sh [FOLDER] [ARGUMENTS]
#
# ARGUMENTS are those of `python -m tests.gpu.check`. In the environment: PYTHON, which is python3
# otherwise, and BUDGET, the seconds that all may take. Wheels in .whl/ are installed into a
# temporary folder at first, for a machine without a network.
set -uo pipefail
out=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/../.."
out=${out:-${OUT:-output/gpu}}
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ -d .whl ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  # detectron2's wheel says that it is for another Python: unpacked, its Python files serve any,
  # and its compiled part, which nothing here needs, is taken away.
  find .whl -type f -name '*.whl' ! -name '*detectron2*' -print0 |
    xargs -0 "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
      --upgrade --target "$site" || exit 1
  for wheel in .whl/*detectron2*.whl; do
    "$python" -m zipfile -e "$wheel" "$site" || exit 1
  done
  rm -f "$site"/detectron2/_C*.so
  export PYTHONPATH="$PYTHONPATH:$site"
fi
"$python" -m tests.gpu.check --out "$out" --budget $((${BUDGET:-300} - SECONDS)) "${@:2}"
