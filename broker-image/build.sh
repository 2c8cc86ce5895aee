#!/bin/bash
# Builds an image into a docker archive that is named by its content, and prints the archive's path on standard output.
#
#   broker-image/build.sh [engine] [--version 5.5.0]    gantry/rocketmq:5.5.0
#   broker-image/build.sh operator                      gantry/operator:<version of the workspace>
#   … --print-tag                                       prints the image's name and builds nothing
#
# With docker or podman the Containerfile is built whole, in containers. Without them (or with GANTRY_IMAGE_BUILD=staged) its parts are
# made on this machine: the base from Debian packages, the jars by Maven, the Java runtime by jlink, the binary by cargo, and Debian's
# buildah puts them together. That needs root, Maven, a JDK 17 and cargo; missing Debian packages are installed by name.
# GANTRY_PROFILE=dev builds binaries without optimization there, in seconds after an edit.
#
# Everything is kept by content below ${GANTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry}: what did not change is not built again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
cache=${GANTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry}

image=engine version=5.5.0 print_tag=
while [ $# -gt 0 ]; do
    case $1 in
        engine | operator) image=$1 ;;
        --version) version=${2:?--version needs a version} && shift ;;
        --print-tag) print_tag=yes ;;
        *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done
case $image in
    engine) name=gantry/rocketmq:$version containerfile=$here/Containerfile ;;
    operator)
        version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
        name=gantry/operator:$version containerfile=$root/operator/Containerfile
        ;;
esac
[ -z "$print_tag" ] || { echo "$name" && exit; }

say() { printf '%-34s %s\n' "$1" "$2" >&2; }
hash() { sha256sum | cut -c1-16; }
files() { (cd "$root" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum); }

# step WHAT PATH COMMAND…: makes PATH by COMMAND… PATH.new unless it is there, and says how long it took.
step() {
    local what=$1 path=$2 begun=$SECONDS
    shift 2
    if [ -e "$path" ]; then say "$what" cached && return; fi
    rm -rf "$path.new"
    "$@" "$path.new" >&2
    mv "$path.new" "$path"
    say "$what" "$((SECONDS - begun)) s"
}

# need COMMAND=PACKAGE…
need() {
    local missing=() pair
    for pair; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "build.sh: install these first: ${missing[*]}" >&2 && exit 1
    fi
    local begun=$SECONDS
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}"; } >"$cache/apt.log" 2>&1 ||
        { cat "$cache/apt.log" >&2 && exit 1; }
    say "packages ${missing[*]}" "$((SECONDS - begun)) s"
}

builder() {
    [ -z "${GANTRY_IMAGE_BUILD:-}" ] || { echo "$GANTRY_IMAGE_BUILD" && return; }
    for engine in docker podman; do
        if command -v $engine >/dev/null && $engine info >/dev/null 2>&1; then echo $engine && return; fi
    done
    echo staged
}

sources=(Cargo.toml Cargo.lock rust-toolchain.toml remoting broker-image/parts.sh)
case $image in
    engine) sources+=(broker-image/entrypoint) package=gantry-entrypoint binary=rocketmq ;;
    operator) sources+=(crds operator) package=gantry-operator binary=gantry ;;
esac

build_in_containers() {
    local engine=$1 archive=$2
    local tag=()
    [ "$engine" = docker ] || tag=(--format docker)
    "$engine" build "${tag[@]}" -f "$containerfile" --build-arg ROCKETMQ_VERSION="$version" -t "$name" "$root"
    "$engine" save -o "$archive" "$name"
}

# Layers are cut where change is: base, Java, engine, entry point. Times of files are fixed, so that the same parts give the same layers.
build_from_parts() {
    local archive=$1 store context status=0
    store=$(mktemp -d "$cache/store.XXXXXX") context=$(mktemp -d "$cache/context.XXXXXX")
    local buildah=(buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs)
    (
        set -e
        export BUILDAH_ISOLATION=chroot
        cp -al "${parts[@]}" "$context/"
        base_arg=()
        if [ "$image" = engine ]; then
            container=$("${buildah[@]}" from scratch)
            "${buildah[@]}" add --quiet "$container" "$base" / >/dev/null
            "${buildah[@]}" commit --quiet --timestamp 0 "$container" localhost/base >/dev/null
            base_arg=(--build-arg BASE=localhost/base)
        fi
        id=$("${buildah[@]}" build --quiet --layers --timestamp 0 --format docker --target staged "${base_arg[@]}" -f "$containerfile" "$context")
        "${buildah[@]}" push --quiet "$id" "docker-archive:$archive:$name"
    ) || status=$?
    rm -rf "$store" "$context"
    return $status
}

mkdir -p "$cache/images" "$cache/parts"
exec 9>"$cache/images/lock"
flock 9

kind=$(builder)
if [ "$kind" != staged ]; then
    key=$({ echo "$kind $name" && files "${sources[@]}" "${containerfile#"$root"/}" broker-image/pom.xml broker-image/guard broker-image/admin.logback.xml; } | hash)
    archive=$cache/images/${name##*/}-$key.tar
    archive=${archive//:/-}
    step "image $name ($kind)" "$archive" build_in_containers "$kind"
    echo "$archive"
    exit
fi

need cargo=cargo
key=$({ echo "${GANTRY_PROFILE:-release}" && files "${sources[@]}"; } | hash)
mkdir -p "$cache/parts/binary-$image-$key"
step "binary $binary" "$cache/parts/binary-$image-$key/bin" "$here/parts.sh" binary "$package" "$binary"
parts=("$cache/parts/binary-$image-$key/bin")
inputs="$(files "${containerfile#"$root"/}") $(sha256sum <"${parts[0]}/$binary")"
if [ "$image" = engine ]; then
    need mvn=maven jlink=openjdk-17-jdk-headless
    key=$({ java -version 2>&1 && files broker-image/parts.sh; } | hash)
    mkdir -p "$cache/parts/java-$key"
    step "Java runtime" "$cache/parts/java-$key/java" "$here/parts.sh" java
    parts+=("$cache/parts/java-$key/java")
    inputs+=" java-$key"
    key=$({ echo "$version" && files broker-image/pom.xml broker-image/guard broker-image/parts.sh broker-image/admin.logback.xml; } | hash)
    mkdir -p "$cache/parts/engine-$key"
    step "RocketMQ $version" "$cache/parts/engine-$key/engine" "$here/parts.sh" engine "$version"
    parts+=("$cache/parts/engine-$key/engine")
    inputs+=" engine-$key"
    key=$({ cat /etc/os-release && files broker-image/parts.sh; } | hash)
    base=$cache/parts/base-$key.tar
    [ -e "$base" ] || need mmdebstrap=mmdebstrap
    step "base from Debian packages" "$base" "$here/parts.sh" base
    inputs+=" base-$key"
fi
archive=$cache/images/${name##*/}-$(hash <<<"$inputs").tar
archive=${archive//:/-}
[ -e "$archive" ] || need buildah=buildah
step "image $name" "$archive" build_from_parts
echo "$archive"
