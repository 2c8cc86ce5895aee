# The part of check.sh that asks an API server; read in by it. Nothing needs a node: hooks, which run pods, are left out.
echo "charts: against the API server $CONTEXT"
namespace=gantry-chart-check-$$
team=gantry-chart-check-$$-team
kubectl() { command kubectl --context "$CONTEXT" "$@"; }
on_server() { "$helm" --kube-context "$CONTEXT" --namespace "$namespace" "$@"; }

remove_all() {
    on_server uninstall release --no-hooks --ignore-not-found >/dev/null 2>&1
    "$helm" --kube-context "$CONTEXT" --namespace "$team" uninstall second --no-hooks --ignore-not-found >/dev/null 2>&1
    kubectl delete namespace "$namespace" "$team" --ignore-not-found --wait=false >/dev/null 2>&1
    kubectl delete clusterrole,clusterrolebinding "gantry-crds-$namespace-release" --ignore-not-found >/dev/null 2>&1
    rm -rf "$work"
}
trap remove_all EXIT

definitions() {
    kubectl apply --server-side --force-conflicts --field-manager helm -f $chart/crds &&
        kubectl wait --for=condition=Established -f $chart/crds --timeout=60s
}

# Pods that are not restricted are refused there, and of what makes pods it is said in a warning.
restricted_namespaces() {
    local name
    for name in "$namespace" "$team"; do
        kubectl create namespace "$name" &&
            kubectl label namespace "$name" pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted || return
    done
    # A pod without its ServiceAccount is refused; where there are no controllers, nobody makes this one.
    kubectl -n "$namespace" create serviceaccount default >/dev/null 2>&1
    kubectl -n "$namespace" get serviceaccount default
}

# taken ARGUMENTS…: all that is rendered, tests and hooks too, would be taken, without a warning.
taken() {
    local output
    output=$("$helm" template release $chart --namespace "$namespace" "$@" |
        kubectl apply --server-side --force-conflicts --dry-run=server --validate=strict -f - 2>&1) || { echo "$output" && return 1; }
    ! grep -i '^warning' <<<"$output"
}

# The examples, in their own words.
examples_taken() {
    local file status=0
    for file in ../examples/*.yaml; do
        kubectl apply --dry-run=server --validate=strict -n "$namespace" -f "$file" >"$work/out" 2>&1 && ! grep -qi '^warning' "$work/out" ||
            { echo "$file:" && cat "$work/out" && status=1; }
    done
    return $status
}

# The Job's rights are enough for what it does, where a definition is not there too, and for no other definition. The role is applied for real.
job_rights() {
    local user=system:serviceaccount:$namespace:gantry-crds other=others.example.com output
    "$helm" template release $chart --namespace "$namespace" --show-only templates/crds-job.yaml >"$work/job.yaml" || return
    awk 'BEGIN { RS = "---\n"; ORS = RS } /kind: ClusterRole/' "$work/job.yaml" | kubectl apply -f - || return
    kubectl apply --server-side --force-conflicts --field-manager helm --dry-run=server -f $chart/crds --as "$user" || return
    output=$(sed "s/topics.rocketmq.gantry.dev/$other/; s/group: rocketmq.gantry.dev/group: example.com/; s/plural: topics/plural: others/" $chart/crds/topics.yaml |
        kubectl apply --server-side --dry-run=server -f - --as "$user" 2>&1)
    grep -q Forbidden <<<"$output" || { echo "another definition was not forbidden: $output" && return 1; }
}

# A first BrokerCluster in the release that brings its definition, an upgrade, and an uninstall that keeps the definitions and what others made.
life_of_a_release() {
    local set=(--set "watchNamespaces={$team}" --set brokerCluster.create=true --set "brokerCluster.namespace=$team" --set brokerCluster.spec.reconcilePolicy=Plan)
    on_server install release $chart --no-hooks "${set[@]}" --set 'brokerCluster.topics[0].name=orders' || return
    kubectl -n "$team" get brokercluster rocketmq -o name && kubectl -n "$team" get topic orders -o name || return
    kubectl -n "$team" apply -f ../examples/consumer-groups.yaml || return
    on_server upgrade release $chart --no-hooks "${set[@]}" --set brokerCluster.spec.brokers.groups=2 || return
    [ "$(kubectl -n "$team" get brokercluster rocketmq -o 'jsonpath={.spec.brokers.groups}')" = 2 ] || { echo "the upgrade changed nothing" && return 1; }
    on_server uninstall release --no-hooks || return
    [ -z "$(kubectl -n "$team" get brokercluster -o name)" ] || { echo "the BrokerCluster is still there" && return 1; }
    kubectl -n "$team" get consumergroup billing -o name && on_server install release $chart --no-hooks "${set[@]}"
}

# A second operator for other namespaces, and none for those that have one.
second_release() {
    local output
    "$helm" --kube-context "$CONTEXT" --namespace "$team" install second $chart --no-hooks --set "watchNamespaces={$namespace}" || return
    "$helm" --kube-context "$CONTEXT" --namespace "$team" uninstall second --no-hooks || return
    if output=$("$helm" --kube-context "$CONTEXT" --namespace "$team" install second $chart --no-hooks --set "watchNamespaces={$team}" 2>&1); then
        echo "a second operator was let into a namespace" && return 1
    fi
    grep -q 'gantry-operator.* exists and cannot be imported' <<<"$output" || { echo "it said: $output" && return 1; }
}

check "definitions are taken" definitions
check "namespaces for restricted pods" restricted_namespaces
check "the API server takes ci/default-values.yaml" taken --values $chart/ci/default-values.yaml
check "the API server takes ci/stack-values.yaml" taken --values $chart/ci/stack-values.yaml
check "the API server takes ci/everything-values.yaml" taken --values $chart/ci/everything-values.yaml \
    --set "watchNamespaces={$namespace,$team}" --set "brokerCluster.namespace=$team"
check "the API server takes examples/" examples_taken
check "the Job before an upgrade has the rights it needs" job_rights
check "install, upgrade, uninstall, install again" life_of_a_release
check "a second release for other namespaces" second_release
