#!/bin/sh
# Builds the binding to librados (src/blocker/rados/native), which the store `rados` needs. With --if-possible it does nothing, and says
# nothing, where librados-dev or a C++ compiler is missing: that is how `npm ci` calls it. Without, that is an error.
set -eu
cd "$(dirname "$0")/.."

optional=no
if [ "${1:-}" = --if-possible ]; then optional=yes; fi

give_up() {
  if [ "$optional" = yes ]; then exit 0; fi
  echo "the store 'rados' is not built: $1" >&2
  echo "install what is missing, for example with: apt-get install librados-dev g++" >&2
  exit 1
}

compiler=${CXX:-g++}
command -v "$compiler" >/dev/null || give_up "there is no C++ compiler '$compiler'"
echo '#include <rados/librados.h>' | "$compiler" -E -x c++ - >/dev/null 2>&1 || give_up "there is no rados/librados.h"

sources=src/blocker/rados/native
target=build/archipelago_rados.node
if [ -e "$target" ] && [ -z "$(find "$sources" scripts/build-rados.sh -newer "$target")" ]; then exit 0; fi
mkdir -p build
# Under its name only when it is whole: another process may load it meanwhile.
trap 'rm -f "$target.$$"' EXIT
"$compiler" -std=c++17 -O2 -fPIC -fvisibility=hidden -shared -Wall -Wextra "$sources/addon.cc" -o "$target.$$" -lrados ||
  give_up "it does not compile"
mv "$target.$$" "$target"
