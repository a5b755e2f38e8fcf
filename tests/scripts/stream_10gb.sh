#!/usr/bin/env bash
# Memory does not grow with the file: makes a JSONL of some gigabytes and looks at the peak memory of commands on it.
#
#   tests/scripts/stream_10gb.sh CORE_CLI [GIGABYTES] [FOLDER]
set -euo pipefail
cli=$1 gigabytes=${2:-10} folder=${3:-$(mktemp -d)}
mkdir -p "$folder"
data="$folder/rows.jsonl"
trap 'rm -rf "$data" "$folder"/out*' EXIT
# A block of rows of some 500 bytes with a source and a time; then the block again and again, each time with
# another number in every row.
awk 'BEGIN {
    srand(7)
    for (w = 0; w < 4096; w++) { word[w] = ""; for (c = 0; c < 3 + w % 6; c++) word[w] = word[w] sprintf("%c", 97 + int(26 * rand())) }
    while (sum < 100000000) {
        text = ""
        for (w = 0; w < 70; w++) text = text word[int(4096 * rand())] " "
        line = sprintf("{\"instruction\":\"say %d %s\",\"input\":\"\",\"output\":\"%s\",\"source\":\"s%d\",\"day\":%d}",
            n, substr(text, 1, 60), text, n % 7, n)
        n++; sum += length(line) + 1; print line
    }
}' >"$folder/block"
for number in $(seq $((gigabytes * 10))); do
    sed "s/\"say /\"say $number /; s/\"day\":/&$number/" "$folder/block"
done >"$data"
rm "$folder/block"
printf '%s\n' "$(wc -l <"$data") rows, $(wc -c <"$data") bytes"
printf '| command | peak memory, MB | seconds |\n|---|---|---|\n'
measure() {
    rm -rf "$folder"/out*
    /usr/bin/time -f '%M %e' -o "$folder/out.time" "$cli" "$@" >"$folder/out.log" 2>&1 \
        || { cat "$folder/out.log"; exit 1; }
    local words=$*
    awk -v what="${words//$folder\//}" '{ printf "| %s | %d | %d |\n", what, $1 / 1024, $2 }' "$folder/out.time"
}
measure data inspect "$data"
measure data stats "$data"
measure data split "$data" --out "$folder/out"
measure data split "$data" --out "$folder/out" --by order --column day
measure data convert "$data" --drop day --out "$folder/out.jsonl"
measure data sample "$data" --rows 1000 --source source --out "$folder/out.jsonl"
