# SPDX-License-Identifier: LGPL-2.1-or-later
# tools/setup.sh — what ./caption and ./check share: Debian's packages, configuring, building.
# Sourced by both with $root (the source tree) and $me (the command's name) set.

# The only list of packages. All are in the main section of Debian 12 and 13.
packages_build="gcc libc6-dev meson ninja-build pkgconf python3 glslang-tools libglib2.0-dev
libvulkan-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libjson-glib-dev libpcre2-dev
libutf8proc-dev libcurl4-openssl-dev"
packages_run="mesa-vulkan-drivers gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-bad gstreamer1.0-libav"
packages_check="clang clang-format clang-tidy llvm binutils spirv-tools vulkan-validationlayers
gstreamer1.0-tools"

say()
{
    echo "$me: $*" >&2
}

# quiet LOG COMMAND...: runs it with its output in LOG, which is shown whole when it fails.
quiet()
{
    local log=$1
    shift
    if "$@" >"$log" 2>&1 </dev/null; then
        return 0
    fi
    cat "$log" >&2
    say "failed: $*"
    return 1
}

# Prints those of the packages given that are not installed.
missing_packages()
{
    local have p
    have=" $(dpkg-query -W -f='${Package}:${db:Status-Status} ' "$@" 2>/dev/null)"
    for p in "$@"; do
        case $have in
        *" $p:installed "*) ;;
        *) echo "$p" ;;
        esac
    done
}

# need_packages PACKAGE...: installs what is missing. Package sources stay as they are.
need_packages()
{
    local missing sudo log
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        command -v meson >/dev/null && command -v ninja >/dev/null && return 0
        say "this is no Debian system; install what these Debian packages hold, then try again:"
        echo "$@" >&2
        return 1
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    sudo=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "packages are missing and there is neither root nor sudo; as root, run:"
            echo "apt-get install --no-install-recommends $missing" >&2
            return 1
        fi
        sudo=sudo
    fi
    say "installing Debian packages: $missing"
    log=$(mktemp)
    # An update that fails (no network, one bad source) need not keep apt from installing.
    $sudo apt-get -q -o DPkg::Lock::Timeout=600 update >"$log" 2>&1 </dev/null \
        || { cat "$log" >&2; say "apt-get update failed, going on with the lists there are"; }
    # shellcheck disable=SC2086
    quiet "$log" $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=600 install --no-install-recommends $missing || return 1
    rm -f "$log"
}

# configure FOLDER [MESON OPTIONS...]: once per folder; meson itself notices later changes.
configure()
{
    local dir=$1
    shift
    [ -f "$dir/build.ninja" ] && return 0
    say "configuring ${dir##*/}"
    mkdir -p "$dir" && quiet "$dir/setup.log" meson setup "$dir" "$root" "$@"
}

# build FOLDER [TARGET...]: quick when there is nothing to do.
build()
{
    local dir=$1
    shift
    if ! ninja -C "$dir" -n "$@" 2>/dev/null </dev/null | grep -q 'no work to do'; then
        say "building ${dir##*/}"
        quiet "$dir/build.log" ninja -C "$dir" "$@" || return 1
    fi
}
