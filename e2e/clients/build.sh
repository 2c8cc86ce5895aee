#!/bin/bash
# Builds the clients' image into a docker archive that is named by its content, and prints the archive's path on standard output.
#
#   e2e/clients/build.sh                 gantry/e2e-clients:1
#   e2e/clients/build.sh --print-tag     prints the image's name and builds nothing
#   e2e/clients/build.sh --engine TAR    the same, on this archive of the engine's image instead of the one that broker-image/build.sh gives
#   e2e/clients/build.sh --local         builds the programs only; prints the folder that holds java/, java.options and bin/
#
# It stands on the engine's image (broker-image/build.sh) and needs Maven, Go and, without docker or podman, root and Debian's buildah.
# Everything is kept by content below ${GANTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry}.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${GANTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry}
name=gantry/e2e-clients:1

only= engine=
case ${1:-} in
    '') ;;
    --engine) engine=${2:?--engine needs an archive} ;;
    --print-tag) echo "$name" && exit ;;
    --local) only=local ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac

say() { printf '%-34s %s\n' "$1" "$2" >&2; }
hash() { sha256sum | cut -c1-16; }
files() { (cd "$here" && find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum); }

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

# Both run the unit tests: a client that misjudges a body is worse than none.
java_part() {
    mvn --batch-mode --quiet --file "$here/java/pom.xml" -Dgantry.target="$1.target" clean package
    mkdir -p "$1"
    mv "$1.target/app" "$1/java"
    cp "$here/java.options" "$1/"
    rm -rf "$1.target"
}

go_part() {
    mkdir -p "$1/bin"
    (cd "$here/go" && go test ./... && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$1/bin/rmq-go" .)
}

parts() { mkdir -p "$1" && cp -al "$java/." "$go/." "$1/"; }

build_from_parts() {
    local archive=$1 store status=0
    store=$(mktemp -d "$cache/store.XXXXXX")
    local buildah=(buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs)
    (
        set -e
        export BUILDAH_ISOLATION=chroot
        base=$("${buildah[@]}" pull --quiet "docker-archive:$engine")
        id=$("${buildah[@]}" build --quiet --layers --timestamp 0 --format docker --build-arg "BASE=$base" -f "$here/Containerfile" "$all")
        "${buildah[@]}" push --quiet "$id" "docker-archive:$archive:$name"
    ) || status=$?
    rm -rf "$store"
    return $status
}

build_in_engine() {
    "$1" load --quiet --input "$engine" >/dev/null
    "$1" build -f "$here/Containerfile" --build-arg "BASE=$("$here/../../broker-image/build.sh" --print-tag)" -t "$name" "$all"
    "$1" save -o "$2" "$name"
}

mkdir -p "$cache/images" "$cache/parts"
java=$cache/parts/clients-java-$({ java -version 2>&1 && files java java.options; } | hash)
go=$cache/parts/clients-go-$({ go version && files go; } | hash)
all=$cache/parts/clients-$(hash <<<"$java $go")
exec 9>"$cache/parts/clients-lock"
flock 9
step "Java clients" "$java" java_part
step "Go client" "$go" go_part
step "clients together" "$all" parts
[ -z "$only" ] || { echo "$all" && exit; }

[ -n "$engine" ] || engine=$("$here/../../broker-image/build.sh")
archive=$cache/images/${name##*/}-$({ echo "$all $engine" && files Containerfile; } | hash).tar
archive=${archive//:/-}
build=build_from_parts
for tool in docker podman; do
    if [ "${GANTRY_IMAGE_BUILD:-}" != staged ] && command -v $tool >/dev/null && $tool info >/dev/null 2>&1; then
        build="build_in_engine $tool" && break
    fi
done
step "image $name" "$archive" $build
echo "$archive"
