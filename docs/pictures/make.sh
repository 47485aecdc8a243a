#!/usr/bin/env bash
# The pictures of the book, made by the command from the committed data: bash docs/pictures/make.sh target/release/sus-oracle
# tests/pictures.rs makes them again and compares.
set -euo pipefail
command=$(realpath "$1")
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$command" analyze fixtures/real/layer2.safetensors --out "$folder/layer" >"$folder/table"
"$command" analyze fixtures/real/sequences.safetensors --out "$folder/sequences" >"$folder/table"
cp "$folder"/layer/{variance,kept,counts}.svg "$folder"/sequences/increase.svg docs/pictures/
