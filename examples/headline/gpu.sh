#!/usr/bin/env bash
# The runs of docs/paper.md on one GPU, each below nine minutes on an H200.
#
#   bash examples/headline/gpu.sh PART OUT [ARGUMENT]
#
# 10m           trains 10.8 million parameters for three minutes, saves its stages, and measures
# 100m          trains 99 million parameters for five and a half minutes, and measures
# curves        dense and SUS from the same start: loss against steps and time
# model FOLDER  measures a folder with model.safetensors, config.json and heldout.txt
# budgets FOLDER FILE...  the same folder with budgets for each layer and head, beside one budget for all
# rows MODEL    the rules of less variance at the count of the paper's at c = 30, below a minute
#
# Results are in OUT; weights and states in $HEADLINE_WORK, or a new folder for temporary files. $HEADLINE_QUICK makes everything small: a test
# that the commands run.
set -euo pipefail
export PYTHONUNBUFFERED=1
part=$1 out=$2
shift 2
work=${HEADLINE_WORK:-$(mktemp -d)}
mkdir -p "$out"
library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
torch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))')
text=(--text "$library" --text "$torch")
if [ -n "${HEADLINE_QUICK:-}" ]; then
    text=(--text "$library/json")
    # Later options win.
    tiny=(--size tiny --lr 1e-3 --n 64 --batch 2 --steps 8 --seconds 20 --save-seconds 1 --held-out 2)
    small=(--n 32,64 --windows 10)
else
    tiny=() small=()
fi

train() { python3 examples/headline train "$@" "${tiny[@]}"; }
measure() { python3 examples/headline measure --state "$work/states" --save-seconds 100000 "$@" "${small[@]}"; }

case $part in
10m)
    train --size 10m --n 4096 --batch 16 --steps 20000 --seconds 180 --stages 0,0.05,0.25,0.5,1 --out "$work" --json "$out/train-10m.json" "${text[@]}"
    measure --model "$work/dense-1.safetensors" --json "$out/measure-10m.json.gz" --n 2048,4096,1024,512,256 --windows 256 \
        --c 10,30,100 --sampler bernoulli,systematic --seconds 40 "${text[@]}"
    measure --model "$work"/dense-{0,0.05,0.25,0.5}.safetensors --json "$out/stages-10m.json.gz" --n 2048 --windows 128 --c 30 --seconds 12 "${text[@]}"
    measure --model "$work/dense-1.safetensors" --json "$out/share-10m.json.gz" --n 2048 --windows 128 --c 30 --rule paper,calibrated --share 30 \
        --seconds 40 "${text[@]}"
    rm -rf "$out/model-10m"
    python3 examples/headline pack --model "$work/dense-1.safetensors" --out "$out/model-10m"
    ;;
100m)
    train --size 100m --lr 6e-4 --n 4096 --batch 16 --steps 20000 --seconds 330 --stages 0.1,1 --out "$work" --json "$out/train-100m.json" "${text[@]}"
    measure --model "$work/dense-1.safetensors" --json "$out/measure-100m.json.gz" --n 2048,512,4096 --windows 128 --c 10,30,100 --seconds 35 "${text[@]}"
    measure --model "$work/dense-1.safetensors" --json "$out/share-100m.json.gz" --n 2048 --windows 64 --c 30 --sampler bernoulli,systematic \
        --share 30 --seconds 45 "${text[@]}"
    ;;
curves)
    train --size 10m --n 1024 --batch 16 --steps 1000 --out "$work" --json "$out/curves-10m.json" "${text[@]}" \
        --runs dense,bernoulli:10,bernoulli:30,systematic:10,systematic:30,bernoulli:100,systematic:100
    ;;
model)
    measure --model "$1" --json "$out/model.json.gz" --text "$1/heldout.txt" --whole --n 2048,512,1024,4096,256 --windows 256 \
        --c 5,10,20,30,50,100 --seconds 60
    measure --model "$1" --json "$out/model-share.json.gz" --text "$1/heldout.txt" --whole --n 2048 --windows 128 --c 30 \
        --rule paper,calibrated --sampler bernoulli,systematic --share 30 --seconds 60
    ;;
budgets)
    folder=$1
    shift
    measure --model "$folder" --json "$out/budgets.json.gz" --text "$folder/heldout.txt" --whole --n 2048,512 --windows 256 --c 30 \
        --sampler bernoulli,systematic "${@/#/--budgets=}" --seconds 120
    ;;
rows)
    more=,rows=cotangent
    measure --model "$1" --json "$out/rows.json.gz" --n 2048 --windows 96 --c 30 --setting "c=30$more,count=paper" \
        --setting "c=30$more,centred,count=paper" --setting "c=30$more,centred,remainder,count=paper" --seconds 35 "${text[@]}"
    ;;
*)
    echo "error: expected the part 10m, 100m, curves, model, budgets or rows, found '$part'" >&2
    exit 2
    ;;
esac
