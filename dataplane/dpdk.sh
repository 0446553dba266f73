#!/bin/bash
# Builds the pinned DPDK from Debian's source package into the user's cache, once per version, options and CPU class.
# Prints the prefix on stdout; progress goes to stderr. Nothing to do takes milliseconds.
set -euo pipefail
export PATH="/usr/sbin:/usr/bin:/sbin:/bin:$PATH" LC_ALL=C.UTF-8 # Debian's python3 for meson, whatever else is in PATH

readonly release=22.11                     # the LTS branch: security fixes only
readonly version=22.11.11-0+deb12u1        # Debian's package, and what the archive's files hash to
readonly checksums='
27a3bb1f57e02eb68c7c0a6f8bbf9fb74ec198c5aab74ed602da5b71c492a476  dpdk_22.11.11.orig.tar.xz
e56866e585bd83c3095c178d10669f4ff12360a09f69e7bd6bd32d079f4f1451  dpdk_22.11.11-0+deb12u1.debian.tar.xz'

patch=$(dirname "$(readlink -f "$0")")/dpdk.patch
readonly patch

drivers=(
    bus/pci bus/vdev mempool/ring
    net/virtio net/vhost net/af_packet net/af_xdp net/tap net/null net/ring net/pcap
    common/iavf net/e1000 net/ixgbe net/i40e net/iavf net/ice net/bnxt net/ena net/vmxnet3
)
unused_libs=(
    bitratestats cfgfile flow_classify gpudev gro jobstats kni latencystats metrics node
    pdump pipeline port power table
)

say() { printf '%s\n' "dpdk: $*" >&2; }
die() { say "$*"; exit 1; }
join() { local IFS=,; printf '%s' "$*"; }

# The oldest CPU that the result runs on: this machine's class, so that a cache can move within a cluster.
cpu_class() {
    [ "$(uname -m)" = x86_64 ] || die "only x86-64 is supported, this machine is $(uname -m)"
    local flags flag
    flags=" $(grep -m1 '^flags' /proc/cpuinfo) "
    for flag in avx2 fma bmi2 movbe; do
        [[ $flags == *" $flag "* ]] || { echo x86-64-v2; return; }
    done
    echo x86-64-v3
}

# configure SOURCE PREFIX: everything in this function, and the patch, is part of the cache's key.
configure() {
    patch --quiet --directory="$1" --strip=1 --fuzz=0 < "$patch" || return 1
    # Each virtqueue takes two memzones: Debian's 2560 do not last for 512 ports.
    sed -i 's/^#define RTE_MAX_MEMZONE 2560$/#define RTE_MAX_MEMZONE 16384/' "$1/config/rte_config.h" &&
        grep -x '#define RTE_MAX_MEMZONE 16384' "$1/config/rte_config.h" || return 1
    # librte_vhost watches two descriptors a port, the listening and the connected one: 1024 do not last for 512 ports.
    sed -i 's/^#define MAX_FDS 1024$/#define MAX_FDS 4096/' "$1/lib/vhost/fd_man.h" &&
        grep -x '#define MAX_FDS 4096' "$1/lib/vhost/fd_man.h" || return 1
    # initial-exec: a module that Python loads reads DPDK's thread-locals without a call. They must then fit into the
    # 1.6 KB that glibc keeps free, so a path (4 KB) that only EAL's start remembers ceases to be thread-local.
    sed -i 's/static __thread char last_dir_checked/static char last_dir_checked/' "$1/lib/eal/common/eal_common_options.c" &&
        ! grep '__thread char' "$1/lib/eal/common/eal_common_options.c" || return 1
    meson setup "$1/build" "$1" --prefix="$2" --libdir=lib --buildtype=release \
        -Ddefault_library=static -Dplatform=generic -Dcpu_instruction_set="$cpu" \
        -Dc_args=-ftls-model=initial-exec -Dmax_ethports=1024 -Dtests=false -Ddisable_apps='*' \
        -Ddisable_libs="$(join "${unused_libs[@]}")" -Denable_drivers="$(join "${drivers[@]}")"
}

# Debian's entries of the machine's apt sources, of both forms, as deb-src.
source_entries() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] || continue
        sed -nE '/^deb(-src)?[[:space:]].*[[:space:]]bookworm[^[:space:]]*[[:space:]].*\bmain\b/ s/^deb(-src)?/deb-src/p' "$file"
    done > "$1/debian.list"
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] || continue
        awk -v RS= -v ORS='\n\n' '
            /(^|\n)Types:[^\n]*deb/ && /(^|\n)Suites:[^\n]*bookworm/ && /(^|\n)Components:[^\n]*main/ &&
            !/(^|\n)Enabled:[ \t]*no/ { gsub(/(^|\n)Types:[^\n]*/, "\nTypes: deb-src"); sub(/^\n/, ""); print }' "$file"
    done > "$1/debian.sources"
    [ -s "$1/debian.list" ] || [ -s "$1/debian.sources" ] ||
        die "no source of Debian 12 (suite bookworm, component main) in /etc/apt: add one, or use DPDK=system"
}

# private_apt apt-get|apt-cache ARG…: with lists of its own, so that the machine's stay as they are.
private_apt() {
    "$1" -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "${@:2}"
}

# The version to build: the pinned one, else a newer one of the branch, which only apt's signature vouches for.
choose_version() {
    local found newest
    found=$(private_apt apt-get source --print-uris "dpdk=$version" 2>/dev/null || true)
    [ -z "$found" ] || { echo "$version"; return; }
    newest=$(private_apt apt-cache showsrc dpdk 2>/dev/null | sed -n "s/^Version: \($release\..*\)/\1/p" | sort -V | tail -1)
    [ -n "$newest" ] || fail "finding a DPDK $release source package in Debian's archive"
    dpkg --compare-versions "$newest" gt "$version" ||
        die "the archive offers dpdk $newest, older than the pinned $version: use a current mirror, or DPDK=system"
    say "the archive no longer has $version: building $newest, checked by apt's signature only"
    echo "$newest"
}

fetch_sources() {
    mkdir -p "$work/sources" "$work/lists/partial" "$work/src"
    source_entries "$work/sources"
    if [ "$(id -u)" = 0 ]; then chown _apt "$work/src"; fi # apt downloads as its own user
    say "fetching Debian's source package"
    private_apt apt-get update >> "$log" 2>&1 || say "apt-get update met problems (see $log): going on with what it got"
    chosen=$(choose_version)
    cd "$work/src"
    run private_apt apt-get source --download-only "dpdk=$chosen"
    if [ "$chosen" = "$version" ]; then
        run sha256sum --quiet --strict -c - <<< "${checksums#$'\n'}"
    fi
    run dpkg-source -x "dpdk_$chosen.dsc" tree
}

# run CMD…: into the log; on failure its end is shown.
run() {
    "$@" >> "$log" 2>&1 || fail "$1"
}

fail() {
    tail -n 25 "$log" >&2
    die "$1 failed; the whole log is in $log"
}

# One line that is rewritten on a terminal, a line every ten seconds elsewhere.
show_progress() {
    local line done=0 total=0 next=$SECONDS
    while IFS= read -r line; do
        printf '%s\n' "$line" >> "$log"
        [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
        done=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]}
        if [ -t 2 ]; then
            printf '\r\033[Kdpdk: compiling [%d/%d] %d s' "$done" "$total" "$SECONDS" >&2
        elif [ "$SECONDS" -ge "$next" ]; then
            say "compiling [$done/$total] $SECONDS s"
            next=$((SECONDS + 10))
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

compile() {
    SECONDS=0
    ninja -C "$1/build" 2>&1 | show_progress || fail "the compiler"
    DESTDIR="$work/install" run ninja -C "$1/build" install
}

build() {
    say "DPDK is not in the cache yet: building it for $cpu (a few minutes, once)"
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/cni-virtio-dpdk.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    : > "$log"
    fetch_sources
    prefix="$cache/dpdk-$chosen-$key"
    TMPDIR="$work" run configure "$work/src/tree" "$prefix" # one of DPDK's scripts leaves a file there
    compile "$work/src/tree"
    # The archives are linked; shared twins would only make it possible to link the wrong one.
    find "$work/install$prefix" -name '*.so*' -delete
    rm -rf "$cache/.incoming"
    cp -a "$work/install$prefix" "$cache/.incoming"
    mv -T "$cache/.incoming" "$prefix"
    say "DPDK $chosen is in $prefix"
}

# The prefix in the cache, if there: the pinned version, else a newer one that was built when the pinned was gone.
cached() {
    local candidates
    shopt -s nullglob
    candidates=("$cache/dpdk-$version-$key" "$cache/dpdk-$release."*"-$key")
    for prefix in "${candidates[@]}"; do
        [ -e "$prefix/lib/pkgconfig/libdpdk.pc" ] && return 0
    done
    return 1
}

main() {
    cache="${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cni-virtio"
    log="$cache/dpdk.log"
    cpu=$(cpu_class)
    key=$({ declare -f configure; declare -p drivers unused_libs; cat "$patch"; echo "$cpu"; } | sha256sum | cut -c1-12)
    mkdir -p "$cache"
    if ! cached; then
        exec 9> "$cache/.lock"
        flock -n 9 || { say "another run is building DPDK: waiting for it"; flock 9; }
        cached || build
    fi
    echo "$prefix"
}

main
