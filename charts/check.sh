#!/bin/bash
# Checks the chart and the examples, one line each, and fails at the end where one failed.
#
#   charts/check.sh               without a cluster, in seconds; needs Helm 4: $HELM, the PATH, or the cache of gantry-cluster
#   KUBECONFIG=… CONTEXT=… charts/check.sh
#                                 against that API server as well. It needs no node, e.g. gantry-cluster up --control-plane-only and then
#                                 gantry-cluster exec -- charts/check.sh. The definitions stay there; all else is removed.
#   UPDATE=1 charts/check.sh      writes the goldens anew
set -uo pipefail
cd "$(dirname "$0")"
chart=gantry
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# check WHAT COMMAND…: prints what the command said only where it failed.
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf '  ok      %s\n' "$what"
    else
        printf '  FAILED  %s\n' "$what"
        sed 's/^/            /' <<<"$output"
        failed=1
    fi
}

find_helm() {
    local found
    for found in "${HELM:-}" "$(command -v helm)" "${GANTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry}"/parts/helm-*/helm; do
        if [ -x "$found" ] && [[ $("$found" version --template '{{.Version}}') == v4.* ]]; then echo "$found" && return; fi
    done
    echo "check.sh: Helm 4 is needed: put it on the PATH, name it in HELM, or run gantry-cluster build" >&2
    return 1
}

render() { "$helm" template release "$chart" --namespace gantry-system "$@"; }

# accepts VALUES: renders, and every document of it is an object.
accepts() {
    render --values "$1" >"$work/rendered.yaml" || return
    grep -q '^kind: Deployment$' "$work/rendered.yaml" && ! grep -n '<no value>' "$work/rendered.yaml"
}

# refuses SENTENCE ARGUMENTS…: the chart is not rendered, and that is what it says.
refuses() {
    local sentence=$1 output
    shift
    if output=$(render "$@" 2>&1 >/dev/null); then echo "it was taken" && return 1; fi
    grep -qF -- "$sentence" <<<"$output" || { echo "it said: $output" && return 1; }
}

# The rights as rendered, without what changes with every version.
rights() { render --show-only templates/rbac.yaml "$@" | sed '/helm.sh\/chart:/d; /app.kubernetes.io\/version:/d'; }

# same_rights GOLDEN ARGUMENTS…: operator/tests/api_server/rights.rs compares the goldens with what the operator uses.
same_rights() {
    local golden=golden/$1
    shift
    if [ -n "${UPDATE:-}" ]; then rights "$@" >"$golden"; fi
    diff -u "$golden" <(rights "$@")
}

one_version() {
    local workspace
    workspace=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' ../Cargo.toml)
    grep -qx "version: $workspace" $chart/Chart.yaml && grep -qx "appVersion: $workspace" $chart/Chart.yaml ||
        { echo "Cargo.toml says $workspace: write it as version and appVersion into charts/gantry/Chart.yaml" && return 1; }
}

# What the chart tells the operator must be what it listens to.
known_to_the_operator() {
    local name lease status=0
    for name in $(grep -oE 'name: (GANTRY|POD)_[A-Z_]+' $chart/templates/operator.yaml | cut -d' ' -f2); do
        grep -q "env = \"$name\"" ../operator/src/config.rs || { echo "operator/src/config.rs has no $name" && status=1; }
    done
    lease=$(sed -n 's/.*const LEASE: &str = "\(.*\)".*/\1/p' ../operator/src/leader.rs)
    grep -q "resourceNames: \[$lease\]" golden/rbac-all-namespaces.yaml || { echo "the Lease is $lease" && status=1; }
    return $status
}

echo "charts: without a cluster"
helm=$(find_helm) || exit 1
check "helm lint" "$helm" lint --quiet --strict $chart
for values in $chart/ci/*-values.yaml; do
    check "renders with ${values#"$chart"/}" accepts "$values"
    check "helm lint with ${values#"$chart"/}" "$helm" lint --quiet --strict --values "$values" $chart
done

check "refuses an unknown value" refuses "additional properties 'replica' not allowed" --set replica=2
check "refuses an unknown value of a part" refuses "additional properties 'size' not allowed" --set brokerCluster.size=2
check "refuses text for a number" refuses "at '/replicas': got string, want integer" --set replicas=two
check "refuses a number out of range" refuses "at '/resyncSeconds': minimum: got 1, want 5" --set resyncSeconds=1
check "refuses an unknown choice" refuses "must be one of 'IfNotPresent', 'Always', 'Never'" --set image.pullPolicy=Sometimes
check "refuses a topic without a name" refuses "at '/brokerCluster/topics/0': missing property 'name'" --set 'brokerCluster.topics[0].spec.queues=8'
check "refuses text for a list" refuses "at '/watchNamespaces': got string, want array" --set watchNamespaces=team-a
check "refuses a part that was taken out" refuses "missing property 'brokerCluster'" --set brokerCluster=null
check "refuses the tag latest" refuses "a restart could change the operator" --set image.tag=latest
check "refuses a digest that is none" refuses "write sha256: and 64 hexadecimal digits" --set image.digest=abc
check "refuses an engine image without a tag" refuses "e.g. my/engine:{version}" --set engineImage=my/engine
check "refuses a namespace that can't be" refuses "Team_A is no namespace" --set 'watchNamespaces={Team_A}'
check "refuses a cluster name that can't be" refuses "first a letter" --set brokerCluster.name=4shop
check "refuses a cluster where nobody watches" refuses "add the namespace there" --set brokerCluster.create=true --set 'watchNamespaces={team-a}'
check "refuses topics without a cluster" refuses "set brokerCluster.create to true" --set 'brokerCluster.topics[0].name=orders'
check "refuses a clusterRef" refuses "remove clusterRef" --set brokerCluster.create=true --set 'brokerCluster.topics[0].name=a' \
    --set 'brokerCluster.topics[0].spec.clusterRef.name=b'
check "refuses a deletion that nobody would do" refuses "remove deletionPolicy" --set brokerCluster.create=true \
    --set 'brokerCluster.consumerGroups[0].name=a' --set 'brokerCluster.consumerGroups[0].spec.deletionPolicy=Delete'

check "rights in all namespaces are as agreed" same_rights rbac-all-namespaces.yaml
check "rights in two namespaces are as agreed" same_rights rbac-two-namespaces.yaml --set 'watchNamespaces={team-a,team-b}'
check "what the operator is told is what it knows" known_to_the_operator
check "definitions are those of crds/manifests" ./update-crds.sh --check
check "README's table of values is current" ./update-readme.sh --check
check "the version is the workspace's" one_version

if [ -n "${KUBECONFIG:-}" ] && [ -n "${CONTEXT:-}" ]; then
    . ./check-server.sh
fi
[ $failed = 0 ] && echo "charts: all is well in $SECONDS s"
exit $failed
