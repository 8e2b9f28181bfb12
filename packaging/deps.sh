#!/usr/bin/env bash
# Installs what the named sets need and is not there yet: packaging/deps.sh build test services lint fuzz bench dist
# Debian and Ubuntu: through apt-get, with sudo when we are not root. Elsewhere: says which packages are meant.
# What counts is whether the thing itself is there, not the package that would bring it.
set -euo pipefail

missing=()

library() { # library PKG-CONFIG-NAME PACKAGE
  pkg-config --exists "$1" 2>/dev/null || missing+=("$2")
}

header() { # header FILE PACKAGE
  printf '#include <stddef.h>\n#include <stdarg.h>\n#include <setjmp.h>\n#include <stdint.h>\n#include <%s>\n' "$1" |
    "${CC:-cc}" -E -x c - >/dev/null 2>&1 || missing+=("$2")
}

tool() { # tool COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

node_is_new_enough() {
  command -v node >/dev/null 2>&1 && [ "$(node -p 'parseInt(process.versions.node)')" -ge 18 ]
}

need_build() {
  tool cc gcc
  tool make make
  tool pkg-config pkg-config
  header stdlib.h libc6-dev
  library libuv libuv1-dev
  library jansson libjansson-dev
  library zlib zlib1g-dev
  library libmicrohttpd libmicrohttpd-dev
  library libcurl libcurl4-openssl-dev
  library librabbitmq librabbitmq-dev
  library libcrypto libssl-dev
}

need_node() {
  node_is_new_enough || missing+=(nodejs)
}

need_test() {
  need_node
  header cmocka.h libcmocka-dev
  tool npm npm
  tool unshare util-linux
  tool script bsdutils
  tool ps procps
  tool curl curl
  tool promtool prometheus
  tool strace strace
}

# What the real servers are built with and run by. Go: 1.21 or newer, which then fetches the version that a server wants.
need_services() {
  tool java default-jdk-headless
  tool mvn maven
  tool go golang
  tool openssl openssl
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
  [ -e /usr/lib/nginx/modules/ngx_http_dav_ext_module.so ] || missing+=(nginx-light libnginx-mod-http-dav-ext)
  [ -x /usr/sbin/apache2 ] || missing+=(apache2)
}

need_lint() {
  need_node
  tool clang-format clang-format
  tool ctags universal-ctags
  tool shellcheck shellcheck
  tool mandoc mandoc
  tool cppcheck cppcheck
}

need_fuzz() {
  tool clang clang
}

need_bench() {
  need_node
  tool npm npm
  tool wrk wrk
  tool taskset util-linux
  tool tini tini
  tool dumb-init dumb-init
  tool g++ g++
  library simdjson libsimdjson-dev
}

need_dist() {
  tool curl curl
  tool cmake cmake
  tool patch patch
  tool flock util-linux
  tool xz xz-utils
  tool perl perl
}

# clang alone brings no fuzzer: it is in a package that is named after the version.
fuzzer_package() {
  local dir
  dir=$(mktemp -d)
  printf '#include <stddef.h>\nint LLVMFuzzerTestOneInput(const void *p, size_t n) { (void)p; return n > 9; }\n' >"$dir/t.c"
  if ! clang -fsanitize=fuzzer,address "$dir/t.c" -o "$dir/t" >/dev/null 2>&1; then
    missing+=("libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev")
  fi
  rm -rf "$dir"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    echo "deps: these packages are missing and we are neither root nor is there sudo: ${missing[*]}" >&2
    exit 1
  fi
}

install_missing() {
  local policy=/usr/sbin/policy-rc.d mine=no
  [ "${#missing[@]}" -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: this is neither Debian nor Ubuntu; install what these of its packages hold: ${missing[*]}" >&2
    exit 1
  fi
  echo "deps: installing ${missing[*]}"
  # Some of the packages (prometheus for promtool) would start a service.
  if [ ! -e "$policy" ]; then
    mine=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  local options=(-y -q --no-install-recommends -o Dpkg::Use-Pty=0) done=no
  if as_root apt-get install "${options[@]}" "${missing[@]}" >/dev/null 2>&1 ||
    { as_root apt-get update -q >/dev/null && as_root apt-get install "${options[@]}" "${missing[@]}" >/dev/null; }; then
    done=yes
  fi
  [ "$mine" = no ] || as_root rm -f "$policy"
  if [ "$done" = no ]; then
    echo "deps: apt-get could not install all of: ${missing[*]}" >&2
    exit 1
  fi
  missing=()
}

[ "$#" -gt 0 ] || set -- build
for set in "$@"; do
  case $set in
    build | node | test | services | lint | fuzz | bench | dist) "need_$set" ;;
    *)
      echo "deps: '$set' is not known; there are build, node, test, services, lint, fuzz, bench and dist" >&2
      exit 64
      ;;
  esac
done
install_missing
case " $* " in
  *" fuzz "*)
    fuzzer_package
    install_missing
    ;;
esac
case " $* " in
  *" node "* | *" test "* | *" lint "* | *" bench "*)
    if ! node_is_new_enough; then
      echo "deps: Node.js 18 or later is wanted; found $(node --version 2>/dev/null || echo none)" >&2
      exit 1
    fi
    ;;
esac
