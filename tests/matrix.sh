#!/usr/bin/env bash
# Run the core of the suite over the versions that the package is meant for: every Python, with the
# oldest torch that pyproject.toml allows and the newest that pip finds, with every detectron2.
#
#   tests/matrix.sh                      all combinations
#   tests/matrix.sh --list               their names
#   tests/matrix.sh --only '3.12-*'      those whose name fits; may be given several times
#   tests/matrix.sh --again              those too that an earlier call has run
#
# Each combination has a virtual environment (5 GB with CUDA's libraries) of its own, which is deleted
# afterwards. A call goes on where the last one ended: what passed or failed is not run again. The end
# shows one line per combination; the exit status is 1 if the tests failed in one of them.
#
#   MATRIX_FOLDER       where results, logs and the environment lie; /tmp/solo_family_matrix
#   DETECTRON2_SOURCE   a clone of detectron2's repository: its HEAD is `source`, its tag v0.6 is `0.6`
#   PYTHON3_12=...      the interpreter of a version that is not found as python3.12 or by pyenv
#   JOBS=2              processes that run tests
#   KEEP=1              leave the environments
#   TESTS='...'         these tests in place of the core
#
# With uv (pip install uv) on the PATH it installs faster, and downloads every package once.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

# What a version can break: what every method promises, what registers with detectron2 or changes it,
# training and its steps, loading, evaluation, export, and operators in all their ways. Whether a
# method is the paper's, readers of data sets, and messages depend on no version.
CORE=(
  tests/test_contract.py tests/test_imports.py tests/test_waits.py tests/config tests/predictor
  tests/modeling/layers tests/modeling/test_{base,inference,timm_backbone,cuda_graphs}.py
  tests/ops/test_{front_door,backends,gpu_kernels,masks,float32_precision,run_lengths}.py
  tests/data/loading tests/checkpoint/test_{convert,use}.py
  tests/engine/test_{checkpointer,ema,exact_resume,extending,hooks,optimizer,schedule,step,train_net}.py
  tests/evaluation/test_{build,coco_results,coco_metrics,panoptic_quality,semantic,semantic_tta}.py
  tests/export tests/cli/test_{demo,doctor}.py
)
PYTHONS=(3.11 3.12 3.13)
TORCHES=(oldest newest)
DETECTRONS=(pypi 0.6 source)
FOLDER=${MATRIX_FOLDER:-/tmp/solo_family_matrix}

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }

combinations() {
  local python torch detectron
  for python in "${PYTHONS[@]}"; do
    for torch in "${TORCHES[@]}"; do
      for detectron in "${DETECTRONS[@]}"; do
        echo "$python-$torch-$detectron"
      done
    done
  done
}

# Whether one of the patterns, or there being none, selects a name.
selected() {
  local pattern
  ((${#ONLY[@]})) || return 0
  for pattern in "${ONLY[@]}"; do
    # shellcheck disable=SC2053
    [[ $1 == $pattern ]] && return 0
  done
  return 1
}

# Print the interpreter of a version.
interpreter() {
  local variable=PYTHON${1/./_} candidate
  for candidate in "${!variable:-}" "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
    [[ -n $candidate ]] || continue
    "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null || continue
    echo "$candidate"
    return
  done
  return 1
}

# Print what to ask pip for: the lower bounds of pyproject.toml, or whatever is newest.
torch_requirements() {
  if [[ $1 == oldest ]]; then
    sed -nE 's/^ *"(torch|torchvision)>=([0-9.]+)",$/\1==\2.*/p' pyproject.toml
  else
    printf 'torch\ntorchvision\n'
  fi
}

# Install packages into an environment: by uv where it is on the PATH, since its cache is linked, not
# copied, and 18 environments share most of what they need.
packages_of() {
  local bin=$1
  shift
  if command -v uv >/dev/null; then
    uv pip install -q --python "$bin/python" "$@"
  else
    "$bin/python" -m pip install -q --no-compile --disable-pip-version-check "$@"
  fi
}

# Install detectron2 into an environment. Version 0.6 can't be imported without its compiled file, nor
# with NumPy 1.24 or Pillow 10: names that those have dropped are replaced, as in any 0.6 that runs today.
install_detectron2() {
  local bin=$1 which=$2 packages revision=HEAD
  packages=$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  if [[ $which == pypi ]]; then
    "$bin/python" -m pip install -q --no-compile --no-deps --require-hashes --only-binary=:all: --python-version 3.10 \
      --implementation cp --abi none --platform any --upgrade --target "$packages" \
      -r requirements/detectron2.txt
    return
  fi
  [[ $which == 0.6 ]] && revision=v0.6
  mkdir "$bin/../detectron2"
  git -C "$DETECTRON2_SOURCE" archive "$revision" | tar -x -C "$bin/../detectron2" \
    && realpath "$bin/../detectron2" >"$packages/detectron2.pth" || return
  [[ $which == 0.6 ]] || return 0
  (cd "$bin/../detectron2" \
    && grep -rlE 'np\.(bool|int|float)\b|Image\.LINEAR' --include='*.py' detectron2 \
    | xargs sed -Ei 's/\bnp\.(bool|int|float)\b/\1/g; s/Image\.LINEAR/Image.BILINEAR/g' \
    && FORCE_CUDA=0 "$bin/python" setup.py -q build_ext --inplace) >&2
}

# Make the environment of a combination; print why where that can't be.
install() {
  local python=$1 torch=$2 detectron=$3 env=$4 program
  if ! program=$(interpreter "$python"); then
    echo "not run: there is no Python $python (set PYTHON${python/./_})"
    return 1
  fi
  if [[ $detectron != pypi && ! -d ${DETECTRON2_SOURCE:-} ]]; then
    echo "not run: DETECTRON2_SOURCE is not set to a clone of detectron2"
    return 1
  fi
  rm -rf "$env"
  local bin=$env/bin requirements=$env/requirements.txt
  {
    "$program" -m venv "$env" \
      && { torch_requirements "$torch" && grep -Ev '^torch' requirements/pinned.txt; } >"$requirements" \
      && packages_of "$bin" -r "$requirements" \
      && install_detectron2 "$bin" "$detectron" \
      && packages_of "$bin" --no-deps -r requirements/no_deps.txt \
      && packages_of "$bin" --no-deps --no-build-isolation -e "$SOURCE"
  } >&2 || {
    echo "not run: can't be installed ($(grep -m1 -E '^ERROR|because|unsatisfiable' "$FOLDER/$python-$torch-$detectron.log" | cut -c8-120))"
    return 1
  }
}

# Run the tests of a combination, and leave its line in NAME.result.
run() {
  local name=$1 python torch detectron env=$FOLDER/environment log=$FOLDER/$1.log line versions
  IFS=- read -r python torch detectron <<<"$name"
  if line=$(install "$python" "$torch" "$detectron" "$env" 2>"$log"); then
    versions=$("$env/bin/python" - 2>>"$log" <<'END'
import platform, torch, torchvision
print(f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}")
END
    )
    (cd "$SOURCE" && env -u PYTHONPATH OMP_NUM_THREADS=1 "$env/bin/python" -m pytest -q -p no:cacheprovider \
      -n "${JOBS:-2}" -m "not slow" ${TESTS:-"${CORE[@]}"}) >>"$log" 2>&1
    case $? in
      0) line=passed ;;
      *) line=FAILED ;;
    esac
    line="$line: $(tail -n 1 "$log") ($versions)"
  fi
  echo "$line" >"$FOLDER/$name.result"
  [[ -n ${KEEP:-} ]] && mv "$env" "$FOLDER/$name.environment" 2>/dev/null
  rm -rf "$env"
}

ONLY=() AGAIN='' LIST=''
while (($#)); do
  case $1 in
    --only) ONLY+=("${2:?--only needs a name}") && shift ;;
    --again) AGAIN=1 ;;
    --list) LIST=1 ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
mapfile -t NAMES < <(for name in $(combinations); do selected "$name" && echo "$name"; done)
((${#NAMES[@]})) || { echo "no combination fits: see --list" >&2 && exit 2; }
[[ -n $LIST ]] && printf '%s\n' "${NAMES[@]}" && exit

# The tests run on a copy, so that an edit meanwhile changes nothing, and nothing is written here.
SOURCE=$FOLDER/source
mkdir -p "$FOLDER"
rm -rf "$SOURCE" && mkdir "$SOURCE"
git ls-files -z | tar -c --null -T - | tar -x -C "$SOURCE"
for name in "${NAMES[@]}"; do
  [[ -z $AGAIN ]] && grep -Esq '^(passed|FAILED)' "$FOLDER/$name.result" && continue
  echo "$(date +%H:%M) $name ..."
  run "$name"
done
status=0
for name in "${NAMES[@]}"; do
  printf '%-20s %s\n' "$name" "$(<"$FOLDER/$name.result")"
  grep -q '^FAILED' "$FOLDER/$name.result" && status=1
done
exit $status
