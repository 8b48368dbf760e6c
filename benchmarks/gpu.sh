#!/usr/bin/env bash
# Every GPU measurement in one command: tests, certificates of every precision, throughput compared with PyTorch and ONNX
# Runtime, CUDA graphs and batches in flight, and photos on disk to tags. Writes FOLDER/gpu.md, ready to be pasted into
# benchmarks/README.md, and every number as FOLDER/gpu.json.
#
#   bash benchmarks/gpu.sh [FOLDER] [--photos DIR] [--weights DIR] [--checkpoint FILE] [--rtx]
#       [--environment VENV] [--rehearse]
#
#   FOLDER              where everything is written, a virtual environment included  [default: gpu-bench]
#   --photos DIR        some hundred photos or more; without them, random images calibrate and verify
#   --weights DIR       holds resnet50.pth and resnet101.pth; without them, weights are random, which changes no time
#   --checkpoint FILE   a trained model, measured too: an untrained head's labels nearly tie, so that less precision
#                       changes their order; only a trained model's certificates show the accuracy drop
#   --rtx               TensorRT-RTX instead of TensorRT
#   --environment VENV  use this environment as it is, and install nothing
#   --rehearse          without a GPU: the same steps on the CPU, with a ResNet-18; plans are built, not run
#
# A step that fails is recorded, and the others run. The exit code is 1 if a step other than a certificate failed (an
# untrained head may exceed its tolerances); 2 means that nothing was started.
set -euo pipefail

ran="bash benchmarks/gpu.sh $*"
folder='' photos='' weights='' checkpoint='' environment='' rtx='' rehearse=''
refuse() {
    echo "error: $1" >&2
    exit 2
}
while (($#)); do
    case $1 in
        --photos | --weights | --environment | --checkpoint)
            [[ -n ${2-} ]] || refuse "$1: a folder or file must follow."
            [[ $1 == --checkpoint && -f $2 || -d $2 ]] || refuse "$1 $2: is not there."
            printf -v "${1#--}" %s "$(realpath "$2")"
            shift
            ;;
        --rtx | --rehearse) printf -v "${1#--}" %s yes ;;
        -h | --help)
            sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"
            exit 0
            ;;
        -*) refuse "$1: unknown; run \`bash benchmarks/gpu.sh --help\`." ;;
        *)
            [[ -z $folder ]] || refuse "$1: $folder was named already; name one folder."
            folder=$1
            ;;
    esac
    shift
done
folder=$(realpath -m "${folder:-gpu-bench}")
cd "$(dirname "$0")/.."

# One GPU, the same for every library and for nvidia-smi.
gpu=${CUDA_VISIBLE_DEVICES:-0}
export CUDA_VISIBLE_DEVICES=${gpu%%,*} CUDA_DEVICE_ORDER=PCI_BUS_ID
if [[ -n $rehearse ]]; then
    device=cpu backend=(--backend onnxruntime) rtx=yes capability=8.9 backbones=(resnet18)
    loads=(--device cpu --batches "1,2" --repeats 2 --seconds 0.2) profile=1,2,2 largest=2 most=24
else
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i "$CUDA_VISIBLE_DEVICES" 2>/dev/null) ||
        capability=''
    [[ $capability =~ ^[0-9]+\.[0-9]+$ ]] ||
        refuse "there is no NVIDIA GPU here (nvidia-smi finds none); run this where there is one, or add --rehearse."
    device=cuda backend=() backbones=(resnet50 resnet101)
    loads=(--device cuda) profile=1,32,128 largest=32 most=2048
fi
mkdir -p "$folder"
logs=$folder/logs
[[ ! -e $logs || -f $logs/steps.tsv ]] || refuse "$logs: holds what is not this script's; name another FOLDER."
rm -rf "$logs"
mkdir "$logs"
touch "$logs/steps.tsv"
library=tensorrt
[[ -z $rtx ]] || library=rtx

echo "== environment"
if [[ -n $environment ]]; then
    bin=$environment/bin
    [[ -x $bin/mlzsl-bench ]] || refuse "--environment $environment: mlzsl is not installed there."
else
    environment=$folder/venv-$library
    bin=$environment/bin
    if [[ $environment/installed -nt pyproject.toml ]]; then
        echo "   $environment is there"
    else
        python=${PYTHON:-python3}
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || refuse "$python: Python 3.11 or later is needed."
        "$python" -m venv "$environment"
        "$bin/python" -m pip install --quiet --upgrade pip
        "$bin/python" -m pip install --quiet --editable ".[train,calibrate,dev,$library]"
        # `calibrate` brings onnxruntime. onnxruntime-gpu provides the same module with CUDA and the CPU in it, and only
        # one of them may be there; PyTorch has brought the CUDA and cuDNN libraries that it loads.
        "$bin/python" -m pip uninstall --quiet --yes onnxruntime
        "$bin/python" -m pip install --quiet --force-reinstall --no-deps 'onnxruntime-gpu>=1.20'
        touch "$environment/installed"
    fi
fi
if [[ $device == cuda ]]; then
    cuda=$("$bin/python" -c 'import torch; print(torch.cuda.is_available(), torch.version.cuda)')
    [[ $cuda == True* ]] ||
        refuse "PyTorch for CUDA ${cuda#* } in $environment reaches no GPU: update the driver, or name another --environment."
fi

# step NAME COMMAND...: run it, save what it prints and its exit code; the script continues if it fails.
failed=''
step() {
    local name=$1 code=0
    shift
    echo "== $name: $*"
    "$@" >"$logs/$name.out" 2>"$logs/$name.err" || code=$?
    if ((code)); then
        echo "   exit code $code: $(tail -n 1 "$logs/$name.err")"
        [[ $name == verify-* && $code == 1 ]] || failed=yes
    fi
    printf '%s\t%s\t%s\n' "$name" "$code" "$*" >>"$logs/steps.tsv"
    return 0
}
# skip NAME REASON: record why a step is skipped.
skip() {
    echo "== $1: skipped: $2"
    printf '%s\tskipped\t%s\n' "$1" "$2" >>"$logs/steps.tsv"
}

build=(--batch "$profile")
if [[ -n $rtx ]]; then
    build+=(--rtx --compute-capability "$capability")
else
    build+=(--timing-cache "$folder/timing")
fi
inputs=$folder/photos
step machine "$bin/python" benchmarks/gpu_inputs.py machine --ran "$ran"
step tests "$bin/python" -m pytest -q -m gpu
step photos "$bin/python" benchmarks/gpu_inputs.py photos "$inputs" ${photos:+--photos "$photos"}
[[ -z $checkpoint ]] || backbones+=(trained)
for backbone in "${backbones[@]}"; do
    # With an untrained head every layer is quantized: its labels' order says nothing about which to keep.
    source=(${weights:+--weights "$weights"}) limits=(--max-drop 100 --min-agreement 0)
    [[ $backbone != trained ]] || source=(--checkpoint "$checkpoint") limits=()
    step "network-$backbone" "$bin/python" benchmarks/gpu_inputs.py network "$folder/models" "$backbone" "${source[@]}"
    stem=$(tail -n 1 "$logs/network-$backbone.out")
    if [[ -z $stem ]]; then
        skip "$backbone" "the network could not be made"
        continue
    fi
    for precision in fp32 fp16 int8 fp8; do
        name=$backbone-$precision
        model=$stem.$precision.onnx
        if [[ $precision == fp8 ]] && ((${capability/./} < 89)); then
            skip "$name" "FP8 needs compute capability 8.9 or later, and the GPU has $capability"
            continue
        fi
        [[ $precision != fp32 ]] || model=$stem.onnx
        plan=${model%.onnx}.plan
        rm -f "$plan" "$plan.json" # of an earlier run
        [[ $precision == fp32 ]] || rm -f "$model"
        case $precision in
            fp32) ;;
            fp16) step "calibrate-$name" "$bin/mlzsl-calibrate" "$stem.onnx" --precision fp16 -o "$model" ;;
            *)
                step "calibrate-$name" "$bin/mlzsl-calibrate" "$stem.onnx" --precision "$precision" --for tensorrt \
                    --photos "$inputs/calibrate" "${limits[@]}" -o "$model"
                ;;
        esac
        plan=${model%.onnx}.plan
        if [[ ! -f $model ]]; then
            skip "build-$name" "there is no model file to build it from"
            continue
        fi
        step "build-$name" "$bin/mlzsl-build" "$model" "${build[@]}" -o "$plan" --json
        engine=("$plan" --device cuda)
        [[ $device == cuda ]] || engine=("$model" "${backend[@]}")
        if [[ ! -f ${engine[0]} ]]; then
            skip "verify-$name" "there is no plan to verify"
            continue
        fi
        step "verify-$name" "$bin/mlzsl-verify" "${engine[@]}" --against "$stem.safetensors" \
            --photos "$inputs/verify" --certify --json
    done
    step "throughput-$backbone" "$bin/python" benchmarks/gpu.py throughput "$stem" "${loads[@]}"
    step "ablation-$backbone" "$bin/python" benchmarks/gpu.py ablation "$stem" "${loads[@]}"
    if [[ -z $photos ]]; then
        skip "compare-$backbone" "no photos were named with --photos"
        continue
    fi
    suffix=plan
    [[ $device == cuda ]] || suffix=onnx
    engines=()
    for precision in fp16 int8 fp8; do
        [[ ! -f $stem.$precision.$suffix ]] || engines+=("$stem.$precision.$suffix")
    done
    step "compare-$backbone" "$bin/mlzsl-bench" compare "${engines[@]}" "$stem.onnx" --device "$device" "${backend[@]}" \
        --photos "$photos" --count "$most" --batch-size "$largest" --checkpoint "$stem.safetensors" --json
    for engine in "${engines[@]}"; do
        name=${engine%.*}
        name=$backbone-${name##*.}
        step "stages-$name" "$bin/mlzsl-bench" "$engine" --device "$device" "${backend[@]}" --photos "$photos" \
            --count "$most" --batch-sizes "$largest" --batch-size "$largest" --json
        step "busy-$name" "$bin/python" benchmarks/gpu.py busy "$engine" --device "$device" --photos "$photos" \
            --batch "$largest" --count "$most"
    done
done

echo "== record"
"$bin/python" benchmarks/gpu_record.py "$logs" "$folder/gpu.md" "$folder/gpu.json"
echo "   $folder/gpu.md and $folder/gpu.json; what each step printed is in $logs"
[[ -z $failed ]]
