#!/bin/sh
# Writes the table of values in charts/gantry/README.md, between its two marks, from values.yaml and its comments. With --check only says whether
# it is current. A value without a comment is an error.
set -eu
cd "$(dirname "$0")/gantry"

table() {
    echo '| value | default | meaning |'
    echo '|---|---|---|'
    awk '
        function fail(text) { printf "values.yaml:%d: %s\n", NR, text > "/dev/stderr"; failed = 1; exit 1 }
        /^ *#/ { line = $0; sub(/^ *# ?/, "", line); comment = comment == "" ? line : comment " " line; next }
        /^ *$/ { comment = ""; next }
        !/^( |  )?[A-Za-z]+:/ { fail("expected a comment or `key: value`, indented by nothing or two spaces") }
        {
            indented = /^ /
            key = $1; sub(/:$/, "", key)
            value = $0; sub(/^ *[A-Za-z]+: */, "", value)
            if (!indented) parent = ""
            if (value == "") { parent = key "."; comment = ""; next }
            if (comment == "") fail(parent key " has no comment")
            gsub(/\|/, "\\|", comment)
            printf "| `%s` | `%s` | %s |\n", parent key, value, comment
            comment = ""
        }
        END { if (failed) exit 1 }
    ' values.yaml
}

new=$(table)
readme=$(awk -v table="$new" '
    /<!-- values: end -->/ { inside = 0 }
    !inside { print }
    /<!-- values: begin/ { inside = 1; print table }
' README.md)
if [ "${1:-}" = --check ]; then
    [ "$readme" = "$(cat README.md)" ] || { echo "the table in charts/gantry/README.md is not current: run charts/update-readme.sh" >&2 && exit 1; }
else
    echo "$readme" >README.md
fi
