#!/bin/sh
# Prepares the engine's classes when the image is built: every role is started once on the loopback of a network of its own, what classes
# it loads is noted, and all of them are put into one archive that every role maps at its start. That halves the processor time of a
# start, and the roles on a node share the memory. A role that does not come up here fails the build.
#
# Runs inside the image's root file system, where /opt/java and /opt/rocketmq are the final ones: an archive holds for one class path.
set -eu
home=/opt/rocketmq
java=/opt/java/bin/java
work=$(mktemp -d)
export LC_ALL=C MALLOC_ARENA_MAX=2
# The entry point lists the jars in this order too.
class_path=$(ls $home/lib/*.jar | sort | tr '\n' ':')
class_path=${class_path%:}
pids=
trap 'for pid in $pids; do kill -9 "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT

# Long enough for a machine that is busy with other things.
patience=300

# role NAME MESSAGE CLASS ARGUMENTS…: starts a role and waits until it says that it is up.
role() {
    name=$1 message=$2
    shift 2
    $java -XX:DumpLoadedClassList="$work/$name.classes" -Xmx256m -XX:MaxDirectMemorySize=256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        --add-opens=java.base/java.nio=ALL-UNNAMED -Dio.netty.tryReflectionSetAccessible=true \
        --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED \
        -Drocketmq.home.dir=$home -Duser.home="$work" -Drmq.logback.configurationFile="$work/logback.xml" -cp "$class_path" "$@" >"$work/$name.log" 2>&1 &
    pids="$pids $!"
    waited=0
    until grep -q "$message" "$work/$name.log"; do
        if ! kill -0 $! 2>/dev/null || [ $waited -ge $patience ]; then
            tail -n 50 "$work/$name.log" >&2
            echo "classes.sh: $name did not come up within $waited s" >&2
            exit 1
        fi
        sleep 1
        waited=$((waited + 1))
    done
}

# admin ARGUMENTS…: tries until it succeeds; right after its start a broker has no role yet.
admin() {
    waited=0
    until $java -XX:DumpLoadedClassList="$work/admin-$1.classes" -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Drocketmq.namesrv.addr=127.0.0.1:9876 \
        -Drocketmq.home.dir=$home -Duser.home="$work" -Drmq.logback.configurationFile=$home/admin.logback.xml -cp "$class_path" \
        org.apache.rocketmq.tools.command.MQAdminStartup "$@" >"$work/admin.log" 2>&1 && ! grep -qi exception "$work/admin.log"; do
        if [ $waited -ge 60 ]; then
            cat "$work/admin.log" >&2
            echo "classes.sh: mqadmin $1 does not succeed" >&2
            exit 1
        fi
        sleep 1
        waited=$((waited + 1))
    done
}

# A network namespace begins with its loopback down; where it is up already this changes nothing.
/bin/busybox ifconfig lo up 2>/dev/null || true

cat >"$work/logback.xml" <<'EOF'
<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%p %logger{20} - %m%n</pattern></encoder></appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
EOF
printf 'listenPort=9876\n' >"$work/nameserver.conf"
cat >"$work/controller.conf" <<EOF
controllerType=jRaft
jRaftGroupId=classes
jRaftServerId=127.0.0.1:9880
jRaftInitConf=127.0.0.1:9880
jRaftControllerRPCAddr=127.0.0.1:9878
controllerStorePath=$work/controller
EOF
cat >"$work/broker.conf" <<EOF
brokerClusterName=classes
brokerName=classes
brokerIP1=127.0.0.1
brokerIP2=127.0.0.1
listenPort=10911
namesrvAddr=127.0.0.1:9876
enableControllerMode=true
controllerAddr=127.0.0.1:9878
storePathRootDir=$work/store
storePathEpochFile=$work/store/epoch
storePathBrokerIdentity=$work/store/identity
mappedFileSizeCommitLog=16777216
diskSpaceWarningLevelRatio=98
EOF
cat >"$work/proxy.json" <<EOF
{"rocketMQClusterName": "classes", "proxyClusterName": "classes", "proxyMode": "CLUSTER", "namesrvAddr": "127.0.0.1:9876", "localServeAddr": "127.0.0.1"}
EOF

role nameserver 'boot success' -Dtls.server.mode=disabled org.apache.rocketmq.namesrv.NamesrvStartup -c "$work/nameserver.conf"
role controller 'boot success' -Dtls.server.mode=disabled org.apache.rocketmq.controller.ControllerStartup -c "$work/controller.conf"
role broker 'boot success' -Dtls.server.mode=disabled org.apache.rocketmq.broker.BrokerStartup -c "$work/broker.conf"
admin updateTopic -c classes -t classes -r 1 -w 1
role proxy 'startup successfully' org.apache.rocketmq.proxy.ProxyStartup -pc "$work/proxy.json"
admin sendMessage -t classes -p classes
for pid in $pids; do kill "$pid"; done
wait
pids=

# The lists number their classes, each in its own way: only the names are wanted.
cat "$work"/*.classes | sed -e '/^#/d' -e '/source:/d' -e 's/ id: .*//' | sort -u >"$work/all"
$java -Xshare:dump -XX:+UseG1GC -Xmx256m -XX:SharedClassListFile="$work/all" -XX:SharedArchiveFile=$home/classes.jsa -cp "$class_path" >"$work/dump.log" 2>&1 ||
    { tail -n 20 "$work/dump.log" >&2 && exit 1; }
# It must be accepted as the roles are started.
$java -Xshare:on -XX:+UseSerialGC -XX:SharedArchiveFile=$home/classes.jsa -cp "$class_path" -version >"$work/check.log" 2>&1 ||
    { cat "$work/check.log" >&2 && exit 1; }
chmod 644 $home/classes.jsa
