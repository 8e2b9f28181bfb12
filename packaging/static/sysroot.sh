#!/bin/bash
# sysroot.sh - builds every library of the static release for one processor and prints the folder they are in.
#
#   packaging/static/sysroot.sh [x86_64|aarch64]
#
# The folder is ${PILLION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pillion}/static-<hash>-<arch>, the hash that of this file,
# sources.txt and the compiler's version: what is there whole is never built again. In it: usr/ (the sysroot), bin/ (compiler
# wrappers, by names without a path), log/ and times.txt. Sources are kept in .../sources, shared by all.
#
# Sources come from the Debian archive that this machine's apt is set up for (or one whose tarballs are in .../sources
# already), checked against sources.txt; apt's own state is not touched. JOBS=n compiles n at a time (2).
# Needs: apt, gcc (for aarch64 gcc-aarch64-linux-gnu and linux-libc-dev-arm64-cross), cmake, make, perl, patch, xz.
set -euo pipefail

ARCH=${1:-$(uname -m)}
HERE=$(cd "$(dirname "$0")" && pwd)
CACHE=${PILLION_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pillion}
SERIES=trixie
JOBS=${JOBS:-2}

die() {
    echo "sysroot.sh: $*" >&2
    exit 1
}

case $ARCH in
x86_64) CROSS='' KERNEL=/usr/include ;;
aarch64) CROSS=aarch64-linux-gnu- KERNEL=/usr/aarch64-linux-gnu/include ;;
*) die "no static build for $ARCH; there are x86_64 and aarch64" ;;
esac
if [ "$ARCH" = "$(uname -m)" ]; then
    CROSS='' KERNEL=/usr/include
fi
GCC=${CROSS}gcc
command -v "$GCC" >/dev/null || die "$GCC is missing"
for tool in cmake make perl patch xz; do
    command -v $tool >/dev/null || die "$tool is missing"
done
KERNEL_ASM=$KERNEL/asm
[ -d "$KERNEL_ASM" ] || KERNEL_ASM=$KERNEL/$($GCC -dumpmachine)/asm
[ -d "$KERNEL_ASM" ] || die "no kernel headers for $ARCH (linux-libc-dev)"

HASH=$({ cat "$0" "$HERE/sources.txt"; $GCC --version | head -n 1; } | sha256sum | cut -c1-12)
WORK=$CACHE/static-$HASH-$ARCH DL=$CACHE/sources
[ -e "$WORK/.whole" ] && { echo "$WORK"; exit; }
mkdir -p "$WORK" "$DL"
exec 9>"$WORK/lock"
flock 9 # two at once: the second waits and finds it whole
[ -e "$WORK/.whole" ] && { echo "$WORK"; exit; }

OUT=$WORK/usr SRC=$WORK/src BIN=$WORK/bin
mkdir -p "$OUT/lib" "$OUT/include" "$SRC" "$BIN" "$WORK/log"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1750000000} LC_ALL=C TZ=UTC ZERO_AR_DATE=1
export PATH=$BIN:$PATH CMAKE_BUILD_PARALLEL_LEVEL=$JOBS
unset MAKEFLAGS MAKELEVEL CPPFLAGS LDFLAGS LDLIBS MODE

# --- sources ------------------------------------------------------------------------------------------------------------------

# Source lines for $SERIES, made from this machine's own lines for the series it runs; apt's state of its own in $WORK/apt.
apt_sources() {
    local codename f
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") ||
        die "the sources come from Debian's archive and this is no Debian: put the files of sources.txt into $DL"
    mkdir -p "$WORK/apt/parts" "$WORK/apt/lists/partial" "$WORK/apt/cache/archives/partial"
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -e "$f" ] || continue
        awk -v RS= -v here="$codename" '$0 ~ "\nSuites:[^\n]*" here || $0 ~ "^Suites:[^\n]*" here { print $0 "\n" }' "$f" |
            sed "s/^Types:.*/Types: deb-src/; s/\b$codename\b/$SERIES/g"
    done >"$WORK/apt/parts/deb822.sources"
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$f" ] || continue
        sed -n "/^deb .*\b$codename\b/{s/^deb /deb-src /; s/\b$codename\b/$SERIES/g; p}" "$f"
    done >"$WORK/apt/parts/lines.list"
    apt_get update >>"$WORK/log/fetch" 2>&1 || true # a mirror that is away shows when its file is missing
}

apt_get() {
    apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$WORK/apt/parts" \
        -o Dir::State::lists="$WORK/apt/lists" -o Dir::Cache="$WORK/apt/cache" -o APT::Sandbox::User=root "$@"
}

fetch() { # PACKAGE VERSION SHA256 FILE
    [ -e "$DL/$4" ] && echo "$3  $DL/$4" | sha256sum --quiet -c - && return
    [ -d "$WORK/apt" ] || apt_sources
    # A .dsc that is gone is no reason to stop: apt still fetches and checks the tarballs that are there.
    (cd "$DL" && apt_get source --download-only "$1=$2") >>"$WORK/log/fetch" 2>&1 || true
    [ -e "$DL/$4" ] || die "$4 ($1 $2) cannot be had: see $WORK/log/fetch"
    echo "$3  $DL/$4" | sha256sum --quiet -c - || die "$DL/$4 is not the file of sources.txt"
}

unpack() { # NAME -> $SRC/NAME, patched
    local name package version sum file orig='' debian='' p
    rm -rf "${SRC:?}/$1"
    while read -r name package version sum file; do
        [ "$name" = "$1" ] || continue
        fetch "$package" "$version" "$sum" "$file"
        case $file in *.debian.tar.*) debian=$DL/$file ;; *) orig=$DL/$file ;; esac
    done <"$HERE/sources.txt"
    [ -n "$orig" ] || die "no source of $1 in sources.txt"
    mkdir -p "$SRC/$1"
    tar xf "$orig" -C "$SRC/$1" --strip-components=1
    [ -n "$debian" ] || return 0
    tar xf "$debian" -C "$SRC/$1" debian/patches
    (cd "$SRC/$1" && sed 's/#.*//; /^\s*$/d' debian/patches/series | while read -r p _; do
        patch -s -p1 <"debian/patches/$p"
    done)
}

# --- compiler -----------------------------------------------------------------------------------------------------------------

# Found by PATH and with the prefix map inside: OpenSSL stores its compile command in the library, so a path in CC or CFLAGS
# would end up in the program. OpenSSL also asks for the assembler's version and from 2.30 on adds 0.7 MB of AES-GCM for
# AVX-512: the answer is 2.29.
cat >"$BIN/pcc" <<EOF
#!/bin/sh
case "\$*" in
*-Wa,-v*) echo "GNU assembler version 2.29"; exit ;;
-v) exit ;;
esac
exec $OUT/bin/musl-gcc -ffile-prefix-map=$WORK=. "\$@"
EOF
printf '#!/bin/sh\nexec %sgcc-ar "$@"\n' "$CROSS" >"$BIN/par"
printf '#!/bin/sh\nexec %sgcc-ranlib "$@"\n' "$CROSS" >"$BIN/pranlib"
# pkg-config for the program's build: this sysroot and nothing else.
cat >"$BIN/ppkg-config" <<EOF
#!/bin/sh
export PKG_CONFIG_LIBDIR=$OUT/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$WORK PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 \\
    PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
exec pkg-config --static "\$@"
EOF
chmod +x "$BIN"/*
export CC=pcc AR=par RANLIB=pranlib
export CFLAGS="-Os -ffunction-sections -fdata-sections -fno-semantic-interposition -fPIE"
export LDFLAGS="-Wl,--gc-sections -Wl,-z,relro,-z,now"

step() { # NAME: build_NAME in its unpacked source, once
    local start=$SECONDS
    [ -e "$WORK/.$1" ] && return
    unpack "$1"
    (set -e && cd "$SRC/$1" && "build_$1") >"$WORK/log/$1" 2>&1 &
    wait $! || {
        tail -n 25 "$WORK/log/$1" >&2
        die "$1 does not build: $WORK/log/$1"
    }
    echo "$1 $((SECONDS - start)) s" | tee -a "$WORK/times.txt" >&2
    touch "$WORK/.$1"
}

cmk() { # cmake with our compiler; installed through DESTDIR so that no path is recorded
    cmake -S . -B b -G "Unix Makefiles" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$ARCH" \
        -DCMAKE_C_COMPILER="$BIN/pcc" -DCMAKE_AR="$BIN/par" -DCMAKE_RANLIB="$BIN/pranlib" \
        -DCMAKE_BUILD_TYPE=None -DCMAKE_C_FLAGS="$CFLAGS -DNDEBUG" \
        -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_FIND_ROOT_PATH="$OUT" \
        -DCMAKE_EXE_LINKER_FLAGS=-static -DBUILD_SHARED_LIBS=OFF "$@"
    cmake --build b
    DESTDIR="$WORK" cmake --install b
}

# --- libraries ----------------------------------------------------------------------------------------------------------------

build_musl() {
    CC=$GCC AR=${CROSS}ar RANLIB=${CROSS}ranlib CFLAGS="-O2 -ffunction-sections -fdata-sections" \
        ./configure --prefix="$OUT" --syslibdir="$OUT/lib" --target="$ARCH-linux-musl" --disable-shared --enable-wrapper=gcc
    make -j"$JOBS"
    make install
    # The wrapper looks for headers nowhere else, and OpenSSL and libuv need the kernel's.
    ln -sfn "$KERNEL/linux" "$OUT/include/linux"
    ln -sfn "$KERNEL/asm-generic" "$OUT/include/asm-generic"
    ln -sfn "$KERNEL_ASM" "$OUT/include/asm"
}

# The only library on the hot path (every record is deflated as it comes) and small: for speed.
build_zlib() {
    CFLAGS=${CFLAGS/-Os/-O3} CHOST=$ARCH-linux-musl ./configure --static --prefix=/usr
    make -j"$JOBS" libz.a
    cp libz.a "$OUT/lib"
    cp zlib.h zconf.h "$OUT/include"
    mkdir -p "$OUT/lib/pkgconfig"
    cp zlib.pc "$OUT/lib/pkgconfig"
}

build_jansson() {
    cmk -DJANSSON_BUILD_DOCS=OFF -DJANSSON_WITHOUT_TESTS=ON -DJANSSON_EXAMPLES=OFF
}

build_libuv() {
    CFLAGS=${CFLAGS/-Os/-O2}
    cmk -DLIBUV_BUILD_TESTS=OFF -DBUILD_TESTING=OFF -DLIBUV_BUILD_SHARED=OFF
    rm -f "$OUT"/lib/libuv.so*
    # libuv.pc is that of the shared library; the static one's is named apart.
    [ ! -e "$OUT/lib/pkgconfig/libuv-static.pc" ] || mv "$OUT/lib/pkgconfig/libuv-static.pc" "$OUT/lib/pkgconfig/libuv.pc"
}

# no-async: musl has no ucontext. no-dso, no-module: a static program loads nothing. no-autoload-config: no openssl.cnf of
# a foreign image is read. What TLS 1.2 and 1.3 do not need is left out; ECDHE, RSA, X25519, ML-KEM, AES-GCM, ChaCha20 stay.
build_openssl() {
    local flags
    read -ra flags <<<"$CFLAGS"
    ./Configure "linux-$ARCH" --prefix=/usr --libdir=lib --openssldir=/etc/ssl \
        no-shared no-dso no-module no-engine no-legacy no-async no-tests no-comp no-zlib no-autoload-config no-ui-console \
        no-ssl3 no-ssl3-method no-tls1 no-tls1_1 no-dtls no-srp no-psk no-srtp no-sctp no-weak-ssl-ciphers no-ssl-trace \
        no-idea no-seed no-camellia no-aria no-bf no-cast no-des no-rc2 no-rc4 no-rc5 no-md2 no-md4 no-mdc2 no-rmd160 \
        no-whirlpool no-sm2 no-sm3 no-sm4 no-gost no-siphash no-ec2m no-dsa no-blake2 no-scrypt no-ocb no-cms no-cmp no-ct \
        no-ts no-rfc3779 no-afalgeng no-padlockeng no-nextprotoneg no-ocsp no-multiblock no-siv no-filenames no-quic \
        no-ml-dsa no-slh-dsa no-apps no-docs no-tls-deprecated-ec no-integrity-only-ciphers no-http no-thread-pool \
        no-default-thread-pool no-dgram "${flags[@]}"
    make -j"$JOBS" build_generated
    make -j"$JOBS" libssl.a libcrypto.a
    cp libssl.a libcrypto.a "$OUT/lib"
    mkdir -p "$OUT/include/openssl"
    cp include/openssl/*.h "$OUT/include/openssl"
    mkdir -p "$OUT/lib/pkgconfig"
    printf 'Name: libcrypto\nDescription: hashes, HMAC\nVersion: 3\nLibs: -L/usr/lib -lcrypto -lpthread\nCflags: -I/usr/include\n' \
        >"$OUT/lib/pkgconfig/libcrypto.pc"
    printf 'Name: libssl\nDescription: TLS\nVersion: 3\nRequires: libcrypto\nLibs: -L/usr/lib -lssl\nCflags: -I/usr/include\n' \
        >"$OUT/lib/pkgconfig/libssl.pc"
}

build_curl() {
    CPPFLAGS="-I$OUT/include" LDFLAGS="-static -L$OUT/lib" LIBS="-lssl -lcrypto -lz -lpthread" PKG_CONFIG=false \
        ./configure --host="$ARCH-linux-musl" --prefix=/usr --disable-shared --enable-static --disable-dependency-tracking \
        --with-openssl="$OUT" --with-zlib="$OUT" --without-nghttp2 --enable-threaded-resolver \
        --without-ca-bundle --without-ca-path --without-ca-fallback --without-brotli --without-zstd --without-libpsl \
        --without-libidn2 --without-librtmp --without-libssh2 --disable-ldap --disable-ldaps --disable-rtsp --disable-ftp \
        --disable-dict --disable-telnet --disable-tftp --disable-pop3 --disable-imap --disable-smb --disable-smtp \
        --disable-gopher --disable-mqtt --disable-file --disable-manual --disable-ntlm --disable-tls-srp --disable-alt-svc \
        --disable-hsts --disable-cookies --disable-netrc --disable-doh --disable-libcurl-option --disable-progress-meter \
        --disable-form-api --disable-mime --disable-bindlocal --disable-docs --disable-ipfs --disable-websockets \
        --disable-openssl-auto-load-config --enable-symbol-hiding
    make -j"$JOBS" -C lib
    make -C lib install DESTDIR="$WORK"
    make -C include install DESTDIR="$WORK"
    # curl's own .pc repeats its build paths; what the link needs is this.
    printf 'Name: libcurl\nDescription: transfers\nVersion: 0\nLibs: -L/usr/lib -lcurl -lssl -lcrypto -lz -lpthread\nCflags: -I/usr/include -DCURL_STATICLIB\n' \
        >"$OUT/lib/pkgconfig/libcurl.pc"
}

build_libmicrohttpd() {
    ./configure --host="$ARCH-linux-musl" --prefix=/usr --disable-shared --enable-static --disable-dependency-tracking \
        --disable-https --disable-curl --disable-doc --disable-examples --disable-tools --disable-postprocessor \
        --disable-bauth --disable-dauth --enable-epoll --with-pic=no
    make -j"$JOBS" -C src/microhttpd libmicrohttpd.la
    make -C src/microhttpd install-libLTLIBRARIES DESTDIR="$WORK"
    cp src/include/microhttpd.h "$OUT/include"
    cp libmicrohttpd.pc "$OUT/lib/pkgconfig"
}

build_librabbitmq() {
    cmk -DENABLE_SSL_ENGINE_API=OFF -DBUILD_STATIC_LIBS=ON -DBUILD_EXAMPLES=OFF -DBUILD_TOOLS=OFF -DBUILD_TOOLS_DOCS=OFF \
        -DBUILD_TESTS=OFF -DBUILD_TESTING=OFF -DBUILD_API_DOCS=OFF -DENABLE_SSL_SUPPORT=ON -DOPENSSL_ROOT_DIR="$OUT" \
        -DOPENSSL_INCLUDE_DIR="$OUT/include" -DOPENSSL_SSL_LIBRARY="$OUT/lib/libssl.a" \
        -DOPENSSL_CRYPTO_LIBRARY="$OUT/lib/libcrypto.a" -DCMAKE_THREAD_LIBS_INIT=-lpthread
}

for library in musl zlib jansson libuv openssl curl libmicrohttpd librabbitmq; do
    step $library
done
rm -rf "$SRC" "$WORK/apt"
touch "$WORK/.whole"
echo "$WORK"
