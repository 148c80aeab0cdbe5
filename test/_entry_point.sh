# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# Sourced by the train_*.sh scripts in this folder. The Ascend model zoo has them for every model:
#   entry_point full|perf|eval CARDS ARGS...
root="$(cd "$here/.." && pwd)"
. "$root/tools/setup/_common.sh"

# The flags with their defaults. For empty ones, the config decides.
network=scrfd_10g data_path='' batch_size='' num_epochs='' lr='' precision=o2 device_list=''
world_size='' port='' work_dir='' output_dir="$root/test/output" ckpt=''

help_text() {  # KIND CARDS
  usage
  cat << EOF

usage: bash test/${0##*/} --data_path=DIR [--flag=value ...]

  --data_path=DIR       folder of the data set (required): WIDER FACE as prepared by
                        tools/data/prepare_widerface.py, or COCO 2017 for its networks
  --network=NAME        configs/*/NAME_$2p_o2.py, or the path of a config (default $network);
                        available:$(networks "$2")
EOF
  if [[ $1 == eval ]]; then
    cat << EOF
  --ckpt=FILE           checkpoint (default: the last one in the work dir)
  --work_dir=DIR        work dir of a training (default: that of the last one in the output folder)
EOF
  else
    cat << EOF
  --batch_size=B        images per card (default: the value in the config)
  --num_epochs=N        length, to which the schedule is scaled; default: $([[ $1 == perf ]] && echo '3, or 401 iterations if the config counts iterations' || echo 'that of the config')
  --lr=LR               learning rate, used without any scaling (default: the value in the config)
  --precision=P         o2 (default), o1 or fp32
  --work_dir=DIR        folder for checkpoints, new or empty (default: one in the output folder,
                        with the time in its name)
EOF
  fi
  (($2 == 1)) || cat << EOF
  --world_size=N        number of processes, one for each device (default: number of devices in
                        --device_list, else $2)
  --port=P              port of the first process (default: a free one)
EOF
  cat << EOF
  --device_list=0,1,..  numbers of the devices to use (default: the first ones)
  --output_dir=DIR      default test/output

Files in the output folder: the output of each process, <device>/train_<device>.log and
<device>/eval_<device>.log; and the summary, <first device>/<Network>_bs<batch per card>_<N>p_<acc or
perf>.log, or <Network>_1p_eval.log for an evaluation alone. ActualFPS is in images per second of all
cards, TrainingTime in seconds per iteration, E2ETrainingTime in seconds. TrainAccuracy is the AP on
easy, medium and hard (or that of COCO) in percent. Files of an earlier run are kept: a number is
added to their names.

example:
  bash test/${0##*/} --data_path=data/WIDERFace --network=$network
EOF
}

networks() {  # CARDS: the names that --network accepts
  local file names=''
  for file in "$root"/configs/*/*_"$1"p_o2.py; do
    [[ -f $file ]] || continue
    file=${file##*/}
    names+=" ${file%_"$1"p_o2.py}"
  done
  echo "${names:- none}"
}

parse_flags() {  # KIND CARDS ARGS...
  local kind=$1 cards=$2 arg name known=' network data_path device_list work_dir output_dir '
  shift 2
  if [[ $kind == eval ]]; then known+='ckpt '; else known+='batch_size num_epochs lr precision '; fi
  ((cards == 1)) || known+='world_size port '
  for arg in "$@"; do
    case "$arg" in -h | --help) help_text "$kind" "$cards"; exit 0 ;; esac
    name=${arg%%=*} name=${name#--}
    [[ $arg == --*=* && $known == *" $name "* ]] ||
      die "unknown flag $arg; this script knows, each as --flag=value:$known(--help says more)"
    [[ -n ${arg#*=} ]] || die "--$name= needs a value"
    printf -v "$name" '%s' "${arg#*=}"
  done
  precision=${precision,,}
  [[ -n $data_path ]] || die 'the data set is missing: give its folder with --data_path=DIR'
  [[ -d $data_path ]] ||
    die "--data_path=$data_path does not exist; tools/data/prepare_widerface.py makes such a folder"
  for name in batch_size num_epochs world_size port; do
    [[ ${!name:-1} =~ ^[1-9][0-9]*$ ]] || die "--$name must be a whole number from 1, not '${!name}'"
  done
  [[ ${lr:-1} =~ ^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$ ]] || die "--lr must be a number, not '$lr'"
  [[ $precision =~ ^(o1|o2|fp32)$ ]] || die "--precision must be o2, o1 or fp32, not '$precision'"
  [[ $device_list =~ ^([0-9]+(,[0-9]+)*)?$ ]] ||
    die "--device_list must be numbers with commas between, such as 0,1, not '$device_list'"
  choose_config "$cards"
  choose_devices "$cards"
}

choose_config() {  # CARDS: sets config, and sets network to its name in the summary
  if [[ $network == *.py ]]; then
    config=$network
    [[ -f $config ]] || die "--network=$config: this config does not exist"
  else
    config=$(compgen -G "$root/configs/*/${network}_$1p_o2.py" | head -n 1) ||
      die "no network $network for ${0##*/}: available are$(networks "$1"), or name the path of a config"
  fi
  network=${config##*/} network=${network%.py} network=${network%_[18]p_o2}
}

choose_devices() {  # CARDS: sets world_size and devices
  IFS=, read -ra devices <<< "$device_list"
  if (($1 == 1)); then world_size=1; fi
  world_size=${world_size:-$((${#devices[@]} ? ${#devices[@]} : $1))}
  if [[ -z $device_list ]]; then
    read -ra devices <<< "$(seq -s ' ' 0 $((world_size - 1)))"
  elif ((${#devices[@]} == world_size)); then
    # A host has one kind of accelerator, so the other variable has no effect.
    export ASCEND_RT_VISIBLE_DEVICES=$device_list CUDA_VISIBLE_DEVICES=$device_list
  else
    die "--device_list=$device_list names ${#devices[@]} devices for $world_size processes"
  fi
}

keep_old() {  # FILE: rename an existing file: that of the first run becomes FILE.1, then FILE.2, ...
  local number=1
  [[ -e $1 ]] || return 0
  while [[ -e $1.$number ]]; do number=$((number + 1)); done
  mv "$1" "$1.$number"
}

running=() # process of each rank that has not ended
stop_ranks() {  # end the remaining processes, with force after ten seconds
  local tries=50
  ((${#running[@]})) || return 0
  kill "${running[@]}" 2> /dev/null || true
  while kill -0 "${running[@]}" 2> /dev/null && ((tries)); do
    sleep 0.2
    tries=$((tries - 1))
  done
  kill -9 "${running[@]}" 2> /dev/null || true
  running=()
}

run_ranks() {  # LABEL TOOL ARGS...: one process for each rank, each with its own log
  local label=$1 launcher=none rank log logs=() status=0
  shift
  if ((world_size > 1)); then
    launcher=pytorch
    port=${port:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
  fi
  for ((rank = 0; rank < world_size; rank++)); do
    log=$output_dir/${devices[rank]}/${label}_${devices[rank]}.log
    mkdir -p "${log%/*}"
    keep_old "$log"
    logs+=("$log")
    RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$world_size LOCAL_WORLD_SIZE=$world_size \
      MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$python" "$@" --launcher "$launcher" > "$log" 2>&1 &
    running+=($!)
  done
  # Show rank 0 on the console. The text is read from its log, so both are the same.
  tail -n +1 -s 0.2 -F --pid="${running[0]}" "${logs[0]}" 2> /dev/null &
  while ((${#running[@]})); do
    for rank in "${!running[@]}"; do
      kill -0 "${running[rank]}" 2> /dev/null && continue
      wait "${running[rank]}" || status=$?
      unset "running[rank]"
      ((status == 0)) || break 2
    done
    sleep 0.2
  done
  stop_ranks
  wait
  if ((status)); then
    echo "---- the end of ${logs[rank]} ----" >&2
    tail -n 20 "${logs[rank]}" >&2
    echo "error: $label failed, rank $rank ended with status $status: ${logs[rank]}" >&2
    exit "$status"
  fi
}

train() {  # KIND
  local options=() args=(--precision "$precision" --no-validate)
  if [[ -e $work_dir && -n $(ls -A "$work_dir" 2>&1) ]]; then
    die "--work_dir=$work_dir is not empty; name a new one, or continue the run in it:" \
      "bash tools/dist_train.sh $config $world_size --data-path $data_path --work-dir $work_dir" \
      "--precision $precision --no-validate --resume"
  fi
  [[ -z $batch_size ]] || options+=("train_dataloader.batch_size=$batch_size")
  [[ -z $lr ]] || args+=(--lr "$lr")
  if [[ -n $num_epochs ]]; then
    args+=(--num-epochs "$num_epochs")
  fi
  if [[ $1 == perf ]]; then
    args+=(--perf)
  fi
  ((${#options[@]} == 0)) || args+=(--cfg-options "${options[@]}")
  run_ranks train "$root/tools/train.py" "$config" --data-path "$data_path" \
    --work-dir "$work_dir" "${args[@]}"
}

find_checkpoint() {  # sets ckpt to the last checkpoint in the work dir, if not given
  [[ -z $ckpt ]] || return 0
  local note
  if [[ -z $work_dir ]]; then
    # The names contain the time, so the last in order is the newest.
    for note in "$output_dir/${devices[0]}"/run_*/last_checkpoint; do work_dir=${note%/*}; done
  fi
  [[ -f $work_dir/last_checkpoint ]] ||
    die "no checkpoint in ${work_dir:-$output_dir}; name one with --ckpt=FILE or --work_dir=DIR"
  note=$(< "$work_dir/last_checkpoint")
  ckpt=$work_dir/${note##*/}
}

evaluate() {  # FOLDER for metrics.json
  run_ranks eval "$root/tools/test.py" "$config" "$ckpt" --data-path "$data_path" --work-dir "$1"
}

prepare_environment() {  # sets python
  . "$here/env_npu.sh"
  python="$(cd "$root" && environment_python)"
  [[ -x $python ]] || python=python # the Python of a container
  # Otherwise each process would use all cores.
  local threads=$(($(nproc) / world_size))
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
  export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
}

entry_point() {  # KIND CARDS ARGS...
  local kind=$1 summary=() start now
  parse_flags "$@"
  now=$(date +%Y%m%d_%H%M%S)
  prepare_environment
  trap stop_ranks EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  summary=(--network "$network" --out-dir "$output_dir/${devices[0]}")
  if [[ $kind == eval ]]; then
    find_checkpoint
    work_dir=$output_dir/${devices[0]}/eval_$now
    evaluate "$work_dir"
    summary+=(--eval-dir "$work_dir")
  else
    work_dir=${work_dir:-$output_dir/${devices[0]}/run_$now}
    start=$SECONDS
    train "$kind"
    summary+=(--train-dir "$work_dir" --seconds $((SECONDS - start)))
    if [[ $kind == full ]]; then
      find_checkpoint
      evaluate "$work_dir/eval"
      summary+=(--eval-dir "$work_dir/eval")
    fi
  fi
  "$python" "$root/tools/analysis/summarise_run.py" "${summary[@]}"
}
