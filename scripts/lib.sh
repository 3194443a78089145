# Shared by the scripts: what they need on the machine, and where they build. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# mkfs.ext4 and losetup are where the PATH of an ordinary user does not lead.
export PATH="$PATH:/usr/sbin:/sbin"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/das/target}"
export DAS_BIN_DIR="$CARGO_TARGET_DIR/release"

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
        fail "no Rust toolchain. Install rustup, the Rust project's installer, then run this again: rust-toolchain.toml names the rest."
    need_packages g++=build-essential make=build-essential pkg-config=pkg-config \
        "/usr/lib/llvm-*/lib/libclang*.so*=libclang-dev"
}

# All programs, release profile. RocksDB is compiled once for each target directory and takes a quarter of an hour on
# two cores.
build_programs() {
    say "building into $CARGO_TARGET_DIR (the first time takes 20 minutes or more, RocksDB most of them)"
    cargo build --release --workspace --bins
}
