#!/usr/bin/env bash
# The pictures of the book, made by the command from the committed data: bash docs/pictures/make.sh target/release/sus-oracle
# tests/pictures.rs and tests/kill_matrix.rs make them again and compare.
set -euo pipefail
command=$(realpath "$1")
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$command" analyze fixtures/real/layer2.safetensors --out "$folder/layer" >"$folder/said"
"$command" analyze fixtures/real/sequences.safetensors --out "$folder/sequences" >"$folder/said"
"$command" check fixtures/broken/case.safetensors fixtures/broken/candidate.safetensors --plot "$folder/errors.svg" >"$folder/said" || [ $? = 1 ]
"$command" selftest --plot "$folder/ratios.svg" >"$folder/said" || [ $? = 1 ]
cp "$folder"/layer/{variance,kept,counts,weights}.svg "$folder"/sequences/increase.svg "$folder"/{errors,ratios}.svg docs/pictures/
