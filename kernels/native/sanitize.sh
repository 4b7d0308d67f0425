#!/usr/bin/env bash
# Builds the extension with ThreadSanitizer or AddressSanitizer and runs the kernel tests on it:
#   kernels/native/sanitize.sh thread|address [pytest arguments]
# Needs GCC and what the build needs (pip install "nanobind==3.1.*" cmake ninja) in the Python it is run with ($PYTHON).
set -euo pipefail
kind=${1:?usage: sanitize.sh thread|address [pytest arguments]}
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python}
build=${TMPDIR:-/tmp}/instruct-musicgen-$kind
copy=$build/tree

case $kind in
  thread) library=libtsan.so ;;
  address) library=libasan.so ;;
  *) echo "the sanitizer is 'thread' or 'address', not '$kind'" >&2; exit 2 ;;
esac

# A copy of the tree, so that the extension in use stays as it is.
mkdir -p "$copy"
for part in kernels reference model tests pyproject.toml setup.py MANIFEST.in; do
  rm -rf "${copy:?}/$part"
  cp -r "$root/$part" "$copy/$part"
done
rm -f "$copy"/kernels/native/_extension* "$build/cmake/CMakeCache.txt"  # another checkout may have built there
cmake -S "$root/kernels/native" -B "$build/cmake" -DPython_EXECUTABLE="$(command -v "$python")" \
  -DIMN_SANITIZE="$kind" -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$copy/kernels/native" >/dev/null
cmake --build "$build/cmake" --parallel >/dev/null

# The interpreter is not instrumented, so the runtime is loaded ahead of it, and so is libstdc++, whose exceptions it wraps.
# Suppressed: what lies wholly in libraries that we do not build (see the file).
preload="$(gcc -print-file-name=$library) $(gcc -print-file-name=libstdc++.so)"
export TSAN_OPTIONS="exitcode=66 suppressions=$root/kernels/native/tsan.supp ignore_noninstrumented_modules=1 die_after_fork=0"
export CXXFLAGS="-fsanitize=$kind -fno-omit-frame-pointer -g -O1"  # for what the tests compile
export ASAN_OPTIONS="detect_leaks=0 exitcode=66"
cd "$copy"
[ $# -gt 0 ] || set -- tests/kernels -k native --deselect \
  tests/kernels/native/isas/test_isas.py::test_isas_of_other_machines_are_right_on_an_emulator
# ThreadSanitizer's memory layout does not suit every kernel's address randomization.
exec setarch "$(uname -m)" -R env LD_PRELOAD="$preload" "$python" -m pytest -q --capture=sys -p no:cacheprovider "$@"
