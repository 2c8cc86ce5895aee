#!/bin/sh
# The parts of the images, each into a folder of its own. The same script makes them on a machine (build.sh) and in the
# Containerfiles' build stages, so that an image is the same whichever way it is built.
#
#   parts.sh base FILE.tar            root file system from Debian packages (where no base image can be pulled)
#   parts.sh java FOLDER              Java runtime
#   parts.sh engine VERSION FOLDER    the engine's jars, and the guard's
#   parts.sh binary PACKAGE NAME FOLDER   a static Rust binary of this workspace
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# libc and what native libraries inside the jars link to: RocksDB libstdc++ and libgcc, tcnative (TLS) libcrypt, zstd and the JVM zlib.
# busybox is the shell for `kubectl exec`.
debian_packages=libc6,zlib1g,libstdc++6,libgcc-s1,libcrypt1,busybox-static

# java.desktop has java.beans, which the JSON and Hessian libraries use; jdk.crypto.ec the curves of TLS; jdk.httpserver serves
# Prometheus; jdk.jcmd and jdk.jfr are there to look into a running role; java.instrument lets a -javaagent in.
java_modules=java.base,java.logging,java.management,java.naming,java.sql,java.xml,java.desktop,java.instrument
java_modules=$java_modules,jdk.management,jdk.httpserver,jdk.unsupported,jdk.crypto.ec,jdk.jcmd,jdk.jfr

base() {
    root=$(mktemp -d)
    mmdebstrap --quiet --variant=extract --include="$debian_packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/lib/*/gconv/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root"
    # Of the machine that built it nothing stays.
    rm -rf "$root/var/lib/apt" "$root/var/cache" "$root/etc/apt" "$root/etc/resolv.conf" "$root/etc/hostname" "$root/etc/fstab"
    mkdir -p "$root/etc" "$root/run" "$root/proc" "$root/sys"
    printf 'root:x:0:0:root:/:/sbin/nologin\nrocketmq:x:10001:10001:rocketmq:/run/rocketmq:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\nrocketmq:x:10001:\n' >"$root/etc/group"
    # Without it libc asks DNS before /etc/hosts.
    printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    chmod 755 "$root"
    tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 -C "$root" -cf "$1" .
    rm -rf "$root"
}

java_runtime() {
    jlink --add-modules "$java_modules" --strip-java-debug-attributes --no-header-files --no-man-pages --compress=2 --output "$1"
    # A replaced pod has a new address at once: names are asked again after 5 s (else 30) and failures after 1 s (else 10).
    sed -i -e 's/^#\{0,1\}networkaddress.cache.ttl=.*/networkaddress.cache.ttl=5/' \
        -e 's/^networkaddress.cache.negative.ttl=.*/networkaddress.cache.negative.ttl=1/' "$1/conf/security/java.security"
    grep -qx 'networkaddress.cache.ttl=5' "$1/conf/security/java.security"
    grep -qx 'networkaddress.cache.negative.ttl=1' "$1/conf/security/java.security"
    # The JDK's own classes, read in: every role starts faster and shares them with the others on its node.
    "$1/bin/java" -XX:+UseSerialGC -Xshare:dump >/dev/null
    test -s "$1/lib/server/classes.jsa"
}

engine() {
    mkdir -p "$2/lib"
    mvn --batch-mode --quiet --file "$here/pom.xml" -Drocketmq.version="$1" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$2/lib"
    # Jars that hold native libraries of other platforms and nothing else; those of this one stay.
    case $(uname -m) in
        x86_64) other=aarch_64 ;;
        aarch64) other=x86_64 ;;
        *) echo "no native libraries of the engine for $(uname -m)" >&2 && return 1 ;;
    esac
    rm -f "$2"/lib/*-osx-*.jar "$2"/lib/*-windows-*.jar "$2"/lib/*-linux-riscv64.jar "$2"/lib/*-linux-$other.jar
    # Four of its classes are changed: guard/. Its tests run here, with this version of the engine.
    mvn --batch-mode --quiet --file "$here/guard/pom.xml" -Drocketmq.version="$1" -Dgantry.target="$2.guard" clean package
    mkdir -p "$2/guard"
    cp "$2.guard/gantry-guard.jar" "$2/guard/"
    rm -rf "$2.guard"
    cp "$here/admin.logback.xml" "$2/"
    chmod -R a+rX "$2"
}

binary() {
    target=$(rustc -vV | sed -n 's/^host: //p')
    # Static: it must run whatever the base is, and in an image without one. Of glibc only what resolves names is needed, which is in the archive.
    profile=${GANTRY_PROFILE:-release}
    (cd "$here/.." && RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --profile "$profile" --locked --target "$target" -p "$1" --bin "$2")
    mkdir -p "$3"
    [ "$profile" != dev ] || profile=debug
    cp "$here/../target/$target/$profile/$2" "$3/$2"
}

part=$1
shift
case $part in
    base) base "$@" ;;
    java) java_runtime "$@" ;;
    engine) engine "$@" ;;
    binary) binary "$@" ;;
    *) echo "no part $part" >&2 && exit 2 ;;
esac
