# Sends a message through the first client endpoint and receives it again, over remoting with the engine's own tool, and over gRPC where the image
# has a client for it. mqadmin ends with 0 whatever happened, so what it prints counts.
set -u
topic=gantry-helm-test group=gantry-helm-test
run=$(cat /proc/sys/kernel/random/uuid)
begun=$(date +%s)
deadline=$((begun + TIMEOUT_SECONDS))

# try WHAT EXPECTED COMMAND…: runs it until it prints EXPECTED.
try() {
    what=$1 expected=$2 asked=$(date +%s)
    shift 2
    while true; do
        answer=$("$@" 2>&1)
        case $answer in *"$expected"*) break ;; esac
        if [ "$(date +%s)" -ge "$deadline" ]; then
            echo "FAILED: no message was $what within $TIMEOUT_SECONDS s through $ENDPOINT. The last answer:"
            echo "$answer" | grep -v '^[[:space:]]*at ' | head -n 20
            echo "Look at: kubectl get rocketmq; kubectl describe topic $topic"
            exit 1
        fi
        sleep 1
    done
    echo "$what after $(($(date +%s) - asked)) s"
}

echo "endpoint $ENDPOINT, topic $topic"
# The proxies answer questions for routes with their own address: for this tool they are the name servers.
export GANTRY_NAMESERVERS=$ENDPOINT:8080
try 'sent over remoting' SEND_OK rocketmq admin sendMessage -t $topic -p "message $run"
# From a minute before the start: clocks of nodes differ, and messages of earlier tests may still be there.
try 'received over remoting' "BODY: message $run" rocketmq admin consumeMessage -t $topic -g $group -s "$((begun - 60))000"

if command -v rmq-go >/dev/null; then
    try 'sent over gRPC' '"ok":true' rmq-go produce --endpoint "$ENDPOINT:8081" --topic $topic --run "$run" --count 1
    try 'received over gRPC' '"ok":true' \
        rmq-go consume --endpoint "$ENDPOINT:8081" --topic $topic --consumer-group $group --run "$run" --expect 1 --timeout 20
fi
echo "ok"
