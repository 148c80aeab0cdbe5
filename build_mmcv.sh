#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# Set up everything mmface needs: a virtual environment, torch, mmengine, mmcv built with its
# operators for the available device, mmdet, and mmface itself (editable, with its development
# tools). A second run only checks the environment.
#
# Usage: bash build_mmcv.sh [options]
#   --device auto|cpu|cuda|npu  device to build mmcv's operators for (default: auto)
#   --stack onedl|openmmlab     distributions of the mm packages: the maintained onedl-mmengine,
#                               onedl-mmcv 2.3.6 and onedl-mmdetection, or the original mmengine
#                               0.10.7, mmcv 2.1.0 and mmdet 3.3.0 (default: the stack that the
#                               environment has, else onedl)
#   --no-torch                  never install torch; fail if it is missing
#   --python X                  Python of the virtual environment to use, or Python to create the
#                               environment with (default: the active environment, else python3)
#   --check-npu-sources         only check whether the mmcv of --stack (default: onedl) compiles for
#                               NPU with the headers of torch_npu 2.13.0; needs torch and g++, no CANN
#   --help
# The environment is the active one or that of --python. If neither is a virtual environment, it is
# .venv (.venv-openmmlab for that stack).
#
# torch 2.13.0 is installed if torch is missing. An installed torch (2.6 or later) stays. pip's own
# settings select its build; for the small CPU build, for example:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu bash build_mmcv.sh --device cpu
# An NPU needs CANN 9.2 (at least 8.5), with its set_env.sh sourced, and on x86 that CPU build.
#
# Environment:
#   MMFACE_CACHE        folder for built wheels (default: ${XDG_CACHE_HOME:-~/.cache}/mmface)
#   MAX_JOBS            number of parallel compiler jobs (default: all cores)
#   MMFACE_MIN_FREE_MB  required free disk space (default: depends on what must be installed)
#
# Example:
#   bash build_mmcv.sh --device cpu && . .venv/bin/activate
set -euo pipefail
invoked="$PWD"
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/tools/setup/_common.sh"

device=auto stack='' with_torch=1 python='' only_npu_sources=0
while (($#)); do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --device) device="${2-}"; shift ;;
    --stack) stack="${2-}"; shift ;;
    --python) python="${2-}"; shift; [[ -n "$python" ]] || die '--python needs a value' ;;
    --no-torch) with_torch=0 ;;
    --check-npu-sources) only_npu_sources=1 ;;
    *) die "unknown option $1: see bash build_mmcv.sh --help" ;;
  esac
  shift || die 'the last option needs a value: see bash build_mmcv.sh --help'
done
[[ "$device" =~ ^(auto|cpu|cuda|npu)$ ]] || die "--device is auto, cpu, cuda or npu, not '$device'"
[[ "$stack" =~ ^(|onedl|openmmlab)$ ]] || die "--stack is onedl or openmmlab, not '$stack'"
[[ "$python" != */* || "$python" == /* ]] || python="$invoked/$python"
cd "$here"

# ---------------------------------------------------------------- Python and its environment
python="${python:-$(active_python)}"
python="$(command -v "${python:-python3}")" ||
  die 'no python3 found: install Python 3.10 or later, on Debian and Ubuntu with: sudo apt-get install python3'
found="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" || die "$python does not run"
case "$found" in
  3.1[0-4]) ;;
  *) die "$python is Python $found but mmface needs 3.10 to 3.14: name another with --python" ;;
esac
in_venv='import sys; sys.exit(sys.prefix == sys.base_prefix)'
if ! "$python" -c "$in_venv" && [[ "$python" != "${CONDA_PREFIX:-/none}/"* || "${CONDA_DEFAULT_ENV:-base}" == base ]]; then
  venv=.venv
  [[ "$stack" != openmmlab || "$only_npu_sources" == 1 ]] || venv=.venv-openmmlab
  if [[ ! -x "$venv/bin/python" ]]; then
    ((!only_npu_sources)) || die "--check-npu-sources needs torch: run bash build_mmcv.sh first"
    "$python" -c 'import venv, ensurepip' 2> /dev/null ||
      die "Python $found has no venv module: install it, on Debian and Ubuntu with: sudo apt-get install python$found-venv"
    echo "creating the virtual environment $venv"
    "$python" -m venv "$venv" || die "python -m venv $venv failed: remove $venv and see the message above"
  fi
  python="$here/$venv/bin/python"
fi
check() { "$python" -B tools/setup/check_env.py "$@"; }
prefix="$("$python" -c 'import sys; print(sys.prefix)')"
log="$prefix/mmface-setup.log" stamp="$prefix/mmface-setup.stamp"

# ---------------------------------------------------------------- requested and installed versions
present="$(check --installed mmcv)"
there=''
case "$present" in
  onedl-*) there=onedl ;;
  ?*) there=openmmlab ;;
esac
stack="${stack:-${there:-onedl}}"
[[ -z "$there" || "$stack" == "$there" || "$only_npu_sources" == 1 ]] ||
  die "$prefix contains $present, which --stack $stack would overwrite: use another environment (python3 -m venv DIR; --python DIR/bin/python)"
if [[ "$stack" == onedl ]]; then
  mmcv=onedl-mmcv==2.3.6
  packages=('onedl-mmengine>=0.10.12,<0.11' 'onedl-mmdetection>=3.5.1,<4' 'imaug>=0.4.3,<0.5')  # mmdet imports imaug
else
  mmcv=mmcv==2.1.0  # mmdet 3.3.0 does not accept 2.2.0
  packages=(mmengine==0.10.7 mmdet==3.3.0)
fi
cache="${MMFACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mmface}"
mkdir -p "$cache" 2> /dev/null || die "cannot write to $cache: set MMFACE_CACHE to a writable folder"
cache="$(cd "$cache" && pwd)"

if ((only_npu_sources)); then
  [[ -n "$(check --installed torch)" ]] ||
    die "--check-npu-sources needs torch, which is missing in $prefix: run bash build_mmcv.sh first"
  exec "$python" -B tools/setup/check_npu_sources.py --mmcv "$mmcv" --cache "$cache/npu-sources"
fi

have_cann() { [[ -n "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]]; }
have_nvcc() { [[ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]] || command -v nvcc > /dev/null; }
if [[ "$device" == auto ]]; then
  device=cpu
  if have_cann && compgen -G '/dev/davinci[0-9]*' > /dev/null; then
    device=npu
  elif command -v nvidia-smi > /dev/null && nvidia-smi -L 2> /dev/null | grep -q GPU; then
    if have_nvcc; then
      device=cuda
    else
      echo 'note: found a GPU but no nvcc, so the operators are built for the CPU only'
    fi
  fi
fi
if [[ "$device" == npu ]]; then
  [[ "$stack" == onedl ]] ||
    die 'mmcv 2.1.0 does not compile for NPU against torch_npu 2.13 (see --check-npu-sources): use --stack onedl'
  if ! have_cann; then
    set_env="$(cann_set_env)"
    [[ -z "$set_env" ]] || die "CANN is installed but not active (ASCEND_HOME_PATH is not set): run: source $set_env"
    die 'CANN was not found (ASCEND_HOME_PATH is not set), and without it torch_npu makes every "import torch" fail: install the Ascend CANN toolkit 9.2 (at least 8.5) with the kernels for your chip, source its set_env.sh and run this again, or use --device cpu; to check only whether mmcv compiles for NPU: bash build_mmcv.sh --check-npu-sources'
  fi
elif [[ "$device" == cuda ]]; then
  have_nvcc ||
    die 'nvcc was not found: install the CUDA toolkit of the version torch was built for and set CUDA_HOME, or use --device cpu'
fi

if [[ -f "$stamp" && "$(< "$stamp")" == "$(check --key --device "$device")" ]] && check --device "$device"; then
  echo "already set up: $prefix"
  exit 0
fi

torch="$(check --installed torch)"
torch="${torch#torch }"
if [[ -z "$torch" ]]; then
  ((with_torch)) ||
    die "torch is missing in $prefix and --no-torch was given: install torch 2.13.0 (2.6 or later) there, or omit --no-torch"
elif ! "$python" -c 'import sys; sys.exit([int(n) for n in sys.argv[1].split(".")[:2]] < [2, 6])' "$torch"; then
  die "torch $torch in $prefix is older than 2.6, the first version that can read checkpoints without unpickling: uninstall it and run this again, or use another environment"
elif [[ "$device" == npu && "$torch" != 2.13.* ]]; then
  die "found torch $torch in $prefix, but torch_npu 2.13 works only with torch 2.13: uninstall it and run this again, or use another environment"
elif [[ "$torch" != 2.13.0* ]]; then
  echo "note: torch $torch stays; mmface is tested with 2.13.0"
fi

cached_wheel() {  # the wheel for exactly this mmcv, torch, Python and device; nothing if none exists
  compgen -G "$wheels/*.whl" | head -n 1 || true
}
need_compiler() {
  local cxx="${CXX:-c++}" include
  command -v "${cxx%% *}" > /dev/null ||
    die "no C++ compiler ($cxx) found: install one, on Debian and Ubuntu with: sudo apt-get install g++"
  include="$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
  [[ -f "$include/Python.h" ]] ||
    die "no Python headers (Python.h) in $include: install them, on Debian and Ubuntu with: sudo apt-get install python$found-dev"
}
wheels_for() { echo "$cache/wheels/${mmcv/==/-}-torch$1-py$found-$device${TORCH_CUDA_ARCH_LIST:+-${TORCH_CUDA_ARCH_LIST//[^0-9.]/_}}-$(uname -m)"; }
wheels="$(wheels_for "${torch:-2.13.0*}")"
[[ -n "$present" || -n "$(cached_wheel)" ]] || need_compiler

free_mb() { df -Pm "$1" | awk 'NR == 2 {print $4}'; }
need_mb=1500  # an environment without torch takes 1 GB
if [[ -z "$torch" ]]; then
  need_mb=3000  # 2 GB with torch for the CPU, and room to unpack
  [[ "$device" == cpu ]] || need_mb=12000  # the CUDA libraries
fi
need_mb="${MMFACE_MIN_FREE_MB:-$need_mb}"
for place in "$prefix" "$cache" "${TMPDIR:-/tmp}"; do
  (($(free_mb "$place") >= need_mb)) ||
    die "$place has $(free_mb "$place") MB of free disk space, but $need_mb MB are needed: free some space, or use MMFACE_CACHE, TMPDIR or another environment to move it"
  need_mb="${MMFACE_MIN_FREE_MB:-500}"
done

# ---------------------------------------------------------------- install
: > "$log"
fail() {  # LOG: show its end and stop
  tail -n 15 "$1" >&2
  if tail -n 50 "$1" | grep -qi 'no space left on device'; then
    die "the disk is full: free some space in $prefix, $cache and ${TMPDIR:-/tmp}, then run this again"
  fi
  die "this step failed (the end of $1 is above): fix the cause and run this again"
}
run() {  # text, command...: the output goes to the log; its end is shown on failure
  local start=$SECONDS
  echo "$1 ..."
  shift
  "$@" >> "$log" 2>&1 || fail "$log"
  ((SECONDS - start < 5)) || echo "  took $((SECONDS - start)) s"
}
# Modules are compiled to bytecode when they are first imported. Most of torch's never are.
pip_install() { "$python" -m pip install --no-compile "$@"; }
export PIP_DISABLE_PIP_VERSION_CHECK=1 MAX_JOBS="${MAX_JOBS:-$(nproc)}"
"$python" -m pip --version > /dev/null 2>&1 || run 'installing pip' "$python" -m ensurepip
# mmcv's setup.py and mmengine's hub import pkg_resources, which setuptools 82 removed.
tools=('setuptools>=77,<82' wheel packaging ninja)
if [[ -z "$torch" ]]; then
  run 'installing torch 2.13.0 (a large download) and build tools' pip_install "${tools[@]}" torch==2.13.0
  torch="$(check --installed torch)"
  torch="${torch#torch }"
else
  run 'installing build tools' pip_install "${tools[@]}"
fi
# No step below may install another torch. The published accuracy was measured with OpenCV 4.12 (the
# package also runs with 5). Python 3.14 has no numpy that OpenCV 4.12 accepts.
constraints="$prefix/mmface-constraints.txt"
printf '%s\n' "torch==$torch" 'setuptools<82' 'opencv-python<4.13; python_version < "3.14"' > "$constraints"
if (($(check --installed opencv | wc -l) > 1)); then  # they overwrite each other's files
  run 'removing all but one OpenCV' "$python" -m pip uninstall -y opencv-python opencv-python-headless \
    opencv-contrib-python opencv-contrib-python-headless
fi

# mmcv is compiled while all else is downloaded and installed.
case "$device" in  # mmcv's own switches; an unwanted GPU must be hidden from its setup.py
  cpu) mmcv_env=(FORCE_CUDA=0 CUDA_VISIBLE_DEVICES='') ;;
  cuda) mmcv_env=(FORCE_CUDA=1) ;;
  npu) mmcv_env=(FORCE_NPU=1) ;;
esac
ops_work() { check --only-ops --device "$device" >> "$log" 2>&1; }
wheels="$(wheels_for "$torch")"
build_wheel() (  # merged|plain SDIST OUTDIR: a wheel of mmcv with its operators
  # "plain" compiles file by file as `pip wheel` does. "merged" merges the sources first. Its flags
  # come last on the command line, so they override those that Python was compiled with. Debug
  # information makes the library 20 times as large. Flags above -O1 make none of our operators
  # faster, and NMS 3.6 times slower (gcc 12 then turns the min and max of its inner loop into
  # branches).
  work="$(mktemp -d "${TMPDIR:-/tmp}/mmface-build.XXXXXX")" || exit
  trap 'rm -rf "$work"' EXIT
  tar -xzf "$2" -C "$work" || exit
  cd "$work"/*/ || exit
  export MMCV_WITH_OPS=1 "${mmcv_env[@]}"
  if [[ "$1" == merged ]]; then
    "$python" "$here/tools/setup/merge_sources.py" . || exit
    export CFLAGS="${CFLAGS:-} -O1 -g0 -w" CXXFLAGS="${CXXFLAGS:-} -O1 -g0 -w"
  fi
  # Not with `pip wheel`, which runs setup.py three times.
  "$python" setup.py bdist_wheel --dist-dir "$3"
)
compile_mmcv() {  # OUTDIR: put a wheel there; its own log, because this runs beside other steps
  "$python" -m pip download --no-deps --no-binary :all: --no-build-isolation -c "$constraints" \
    -d "$1" "$mmcv" || return
  build_wheel merged "$1"/*.tar.gz "$1" || {
    echo 'mmface: the merged sources did not compile here; compiling file by file'
    build_wheel plain "$1"/*.tar.gz "$1"
  }
}
start_compiling() {
  need_compiler
  mkdir -p "$wheels"
  build="$(mktemp -d "$wheels/build.XXXXXX")"
  compile_log="$prefix/mmface-mmcv.log"
  echo "compiling mmcv for $device with $MAX_JOBS jobs (log: $compile_log) ..."
  set -m  # its own process group, to be stopped with all of its compilers
  compile_mmcv "$build" > "$compile_log" 2>&1 < /dev/null &
  compiler=$!
  set +m
  trap 'kill -- "-$compiler" 2> /dev/null || true; rm -rf "$build"' EXIT
}
install_mmcv() {  # wait for the compiler if it runs
  if [[ -n "$compiler" ]]; then
    local start=$SECONDS
    wait "$compiler" || fail "$compile_log"
    compiler=''
    echo "  waited $((SECONDS - start)) s for the compilation of mmcv"
    if grep -q '^mmface: ' "$compile_log"; then
      echo '  note: its merged sources did not compile here; file by file takes ten times as long'
    fi
    mv "$build"/*.whl "$wheels/"
    rm -rf "$build"
    trap - EXIT
  fi
  run "installing $mmcv" pip_install -c "$constraints" --force-reinstall --no-deps "$(cached_wheel)"
}
compiler=''
# setup.py would not show why torch_npu does not load, so this is checked before.
if [[ -z "$present" && -z "$(cached_wheel)" && "$device" != npu ]]; then
  start_compiling
fi
extras=cpu,train,heif,bulk,video,dev
[[ "$device" != npu ]] || extras+=,npu
run 'installing mmface' pip_install -c "$constraints" --no-build-isolation -e ".[$extras]"
check --only-opencv || exit 2  # the system libraries of OpenCV may be missing
[[ "$device" != npu ]] || check --only-torch --device npu || exit 2
# Their dependencies are in mmface's extra "train". pip would install a second OpenCV for imaug.
run "installing ${packages[*]}" pip_install -c "$constraints" --no-deps --no-build-isolation "${packages[@]}"
if ! { [[ -n "$present" ]] && ops_work; }; then
  from_cache="$(cached_wheel)"
  [[ -n "$from_cache$compiler" ]] || start_compiling
  install_mmcv
  if [[ -n "$from_cache" ]] && ! ops_work; then
    echo 'note: the cached wheel does not load here, so it is built again'
    rm -f "$from_cache"
    start_compiling
    install_mmcv
  fi
fi

echo
check --device "$device" || exit 2
check --key --device "$device" > "$stamp"
echo "set up: $prefix (wheels are kept in $cache)"
[[ -n "$(active_python)" ]] || echo "activate it with: . ${prefix#"$here"/}/bin/activate"
