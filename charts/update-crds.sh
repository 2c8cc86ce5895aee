#!/bin/sh
# Copies the definitions from crds/manifests into the chart; with --check only says whether they are the same. Helm wants them inside the chart.
set -eu
cd "$(dirname "$0")"
from=../crds/manifests to=gantry/crds
if [ "${1:-}" = --check ]; then
    # An empty folder equals an empty folder.
    [ -n "$(ls $from/*.yaml 2>/dev/null)" ] || { echo "crds/manifests has no definitions: write them with \`gantry crds\`" >&2 && exit 1; }
    diff -r $from $to >&2 || { echo "charts/gantry/crds is not crds/manifests: run charts/update-crds.sh" >&2 && exit 1; }
else
    rm -f $to/*.yaml
    cp $from/*.yaml $to/
fi
