# Shared by the scripts: what they need on the machine, and where they build. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# mkfs.ext4 and losetup are where the PATH of an ordinary user does not lead.
export PATH="$PATH:/usr/sbin:/sbin"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/das/target}"
export DAS_BIN_DIR="$CARGO_TARGET_DIR/release"
# Where the dev chain of the tests is installed (need_chain).
export DAS_CHAIN_DIR="${DAS_CHAIN_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/das/chain}"
# Where the key management service of the tests is installed (need_moto).
export DAS_MOTO_DIR="${DAS_MOTO_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/das/moto}"
# Where what drives the browser of the tests is installed (need_browser).
export DAS_BROWSER_DIR="${DAS_BROWSER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/das/browser}"

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Installs the Debian packages that are missing, of those named as command=package or file=package.
need_packages() {
    local missing=() entry
    for entry in "$@"; do
        local probe="${entry%%=*}" package="${entry#*=}"
        if [[ $probe == */* ]]; then
            compgen -G "$probe" >/dev/null || missing+=("$package")
        else
            command -v "$probe" >/dev/null || missing+=("$package")
        fi
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || fail "missing: ${missing[*]} (names of Debian packages). Install them and try again."
    say "installing ${missing[*]}"
    local as_root=()
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null || fail "missing: ${missing[*]}. As root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# What compiling needs: a C++ compiler and libclang for RocksDB, and Rust.
need_build_tools() {
    # cargo is often installed for a user without being in the PATH of a script.
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
        export PATH="$HOME/.cargo/bin:$PATH"
    fi
    command -v cargo >/dev/null ||
        fail "no Rust toolchain. Install rustup, the Rust project's installer (https://rustup.rs), then run this again: \
rust-toolchain.toml names the rest."
    need_rust
    local packages=(g++=build-essential make=build-essential pkg-config=pkg-config)
    has_libclang || packages+=("/nowhere/libclang=libclang-dev")
    need_packages "${packages[@]}"
}

# A Rust toolchain as new as the workspace says.
need_rust() {
    local wanted found
    wanted="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)"
    found="$(rustc --version)" || fail "rustc does not start. Install the toolchain anew: rustup toolchain install stable"
    found="$(cut -d ' ' -f 2 <<<"$found")"
    printf '%s\n' "$wanted" "${found%%-*}" | sort --version-sort --check=quiet ||
        fail "Rust $wanted or newer is needed, this is $found. With rustup: rustup update stable. \
A Rust of the distribution is too old: remove it and install rustup (https://rustup.rs)."
}

# Whether bindgen will find libclang and the compiler's own headers. The runtime packages (libclang.so.1, libclang-cpp)
# are not enough: they bring no stddef.h.
has_libclang() {
    local library headers
    for library in "${LIBCLANG_PATH:-/nowhere}"/libclang*.so* /usr/lib/llvm-*/lib/libclang.so \
        /usr/lib/llvm-*/lib/libclang-[0-9]*.so /usr/lib/libclang.so /usr/lib64/libclang.so /usr/lib/*-linux-gnu/libclang.so; do
        [[ -e $library ]] || continue
        for headers in "${library%/*}"/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h \
            /usr/lib64/clang/*/include/stddef.h; do
            [[ ! -e $headers ]] || return 0
        done
    done
    return 1
}

# The dev chain of the tests: anvil and the parent chain's contracts, the npm packages that testnet/chain names with
# their hashes. Installed once for each state of the lock file; no package's scripts are run.
need_chain() {
    local lock=testnet/chain/package-lock.json hash
    hash="$(sha256sum "$lock" | cut -d ' ' -f 1)"
    if [[ -d $DAS_CHAIN_DIR/node_modules && "$(cat "$DAS_CHAIN_DIR/installed" 2>/dev/null)" == "$hash" ]]; then
        return 0
    fi
    [[ "$(uname -sm)" == "Linux x86_64" ]] ||
        fail "the dev chain of the tests is there for Linux on x86-64 only, this is $(uname -sm)"
    need_packages node=nodejs npm=npm
    say "installing the dev chain (anvil and the contracts, 60 MB) into $DAS_CHAIN_DIR"
    mkdir -p "$DAS_CHAIN_DIR"
    rm -f "$DAS_CHAIN_DIR/installed"
    cp testnet/chain/package.json "$lock" "$DAS_CHAIN_DIR/"
    (cd "$DAS_CHAIN_DIR" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        fail "npm could not install the dev chain; see above"
    printf '%s\n' "$hash" >"$DAS_CHAIN_DIR/installed"
}

# The browser of the tests: Debian's chromium, and the npm package that drives it, by the hash that testnet/browser names.
need_browser() {
    local lock=testnet/browser/package-lock.json hash
    need_packages chromium=chromium node=nodejs npm=npm
    hash="$(sha256sum "$lock" | cut -d ' ' -f 1)"
    if [[ -d $DAS_BROWSER_DIR/node_modules && "$(cat "$DAS_BROWSER_DIR/installed" 2>/dev/null)" == "$hash" ]]; then
        return 0
    fi
    say "installing what drives the browser of the tests (playwright-core, 8 MB) into $DAS_BROWSER_DIR"
    mkdir -p "$DAS_BROWSER_DIR"
    rm -f "$DAS_BROWSER_DIR/installed"
    cp testnet/browser/package.json "$lock" "$DAS_BROWSER_DIR/"
    (cd "$DAS_BROWSER_DIR" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        fail "npm could not install playwright-core; see above"
    printf '%s\n' "$hash" >"$DAS_BROWSER_DIR/installed"
}

# The key management service of the tests: PyPI's moto server, in an environment of its own, with the versions that
# testnet/moto/requirements.txt names. Installed once for each state of that file.
need_moto() {
    local wanted=testnet/moto/requirements.txt hash
    hash="$(sha256sum "$wanted" | cut -d ' ' -f 1)"
    if [[ -x $DAS_MOTO_DIR/bin/moto_server && "$(cat "$DAS_MOTO_DIR/installed" 2>/dev/null)" == "$hash" ]]; then
        return 0
    fi
    need_packages python3=python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages /nowhere/venv=python3-venv
    say "installing the key management service of the tests (moto) into $DAS_MOTO_DIR"
    rm -rf "$DAS_MOTO_DIR"
    python3 -m venv "$DAS_MOTO_DIR" || fail "python3 could not make an environment in $DAS_MOTO_DIR; see above"
    "$DAS_MOTO_DIR/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" ||
        fail "pip could not install moto; see above"
    printf '%s\n' "$hash" >"$DAS_MOTO_DIR/installed"
}

# All programs, release profile. RocksDB is compiled once for each target directory and takes a quarter of an hour on
# two cores.
build_programs() {
    say "building into $CARGO_TARGET_DIR (the first time takes 20 minutes or more, RocksDB most of them)"
    cargo build --release --workspace --bins
}
