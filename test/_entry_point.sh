# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
# Sourced by the train_*.sh scripts in this folder. The Ascend model zoo has them for every model:
#   entry_point full|perf|eval CARDS ARGS...
root="$(cd "$here/.." && pwd)"
. "$root/tools/setup/_common.sh"

# Flags that are not given. For empty ones, the config decides.
output_dir="$root/test/output" world_size='' port='' master_addr='' ckpt='' extra=()

help_text() {  # KIND CARDS
  usage
  cat << EOF

usage: bash test/${0##*/} --data_path=DIR [--flag=value ...]

  --data_path=DIR       folder of the data set (required): WIDER FACE as prepared by
                        tools/data/prepare_widerface.py, or COCO 2017 for its networks
  --network=NAME        a network with the recipe of its document (default scrfd_10g), or the path of
                        a config; available: $("$python" -m mmface.utils.entry_point networks "$2")
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
  --lr_step=N,N         when it drops, in the unit of the config (default: the values in the config)
  --precision=P         o1, o2 or fp32, with the loss scale of the network (default: that of its
                        document: CenterFace and CenterNet2 o1, SCRFD o2)
  --pretrained=FILE     weights to start from: mobilenet_v2-b0353104.pth, R-50.pkl or any other file
                        that tools/weights/convert.py reads (default: such a file in the data folder)
  --from_scratch        train the whole backbone from random weights
  --seed=N              seed of all random numbers
  --work_dir=DIR        folder for checkpoints, new or empty (default: one in the output folder,
                        with the time in its name)
EOF
  fi
  (($2 == 1)) || cat << EOF
  --world_size=N        number of processes on this host, one for each device (default: number of
                        devices in --device_list, else $2)
  --port=P              port of the first process (default: a free one)
  --master_addr=HOST    host of the first process (default 127.0.0.1)
Several hosts: run the script on each with NNODES, NODE_RANK and MASTER_ADDR set, and the same port.
EOF
  cat << EOF
  --device_list=0,1,..  numbers of the devices to use (default: the first ones)
  --output_dir=DIR      default test/output
Flags can be written with - or _, and with = or a blank. Arguments behind -- go to tools/train.py
(tools/test.py for an evaluation), such as: -- --cfg-options optim_wrapper.optimizer.weight_decay=0

Files in the output folder: the output of each process, <device>/train_<device>.log and
<device>/eval_<device>.log; and the summary, <first device>/<Network>_bs<batch per card>_<N>p_<acc or
perf>.log, or <Network>_1p_eval.log for an evaluation alone. ActualFPS is in images per second of all
cards, TrainingTime in seconds per iteration, E2ETrainingTime in seconds. TrainAccuracy is the AP on
easy, medium and hard (or that of COCO) in percent. Files of an earlier run are kept: a number is
added to their names.

example:
  bash test/${0##*/} --data_path=data/WIDERFace --network=scrfd_10g
EOF
}

parse_flags() {  # KIND CARDS ARGS...: sets kind and a variable for each flag
  local arg found
  for arg in "${@:3}"; do
    case "$arg" in
      --) break ;;
      -h | --help) help_text "$1" "$2"; exit 0 ;;
    esac
  done
  # The settings are our own quoted assignments.
  found=$("$python" -m mmface.utils.entry_point "$@") || exit $?
  eval "$found"
  choose_devices "$2"
}

choose_devices() {  # CARDS: sets world_size and devices
  IFS=, read -ra devices <<< "$device_list"
  if (($1 == 1)); then world_size=1; fi
  world_size=${world_size:-$((${#devices[@]} ? ${#devices[@]} : $1))}
  master_addr=${master_addr:-${MASTER_ADDR:-127.0.0.1}}
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
  local nodes=${NNODES:-1} node=${NODE_RANK:-0} total
  shift
  total=$((nodes * world_size))
  if ((nodes > 1)); then
    port=${port:-${MASTER_PORT:-29500}} # the same on all hosts
  fi
  if ((total > 1)); then
    launcher=pytorch
    port=${port:-$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
  fi
  for ((rank = 0; rank < world_size; rank++)); do
    log=$output_dir/${devices[rank]}/${label}_${devices[rank]}.log
    mkdir -p "${log%/*}"
    keep_old "$log"
    logs+=("$log")
    RANK=$((node * world_size + rank)) LOCAL_RANK=$rank WORLD_SIZE=$total \
      LOCAL_WORLD_SIZE=$world_size MASTER_ADDR=$master_addr MASTER_PORT=$port "$python" "$@" --launcher "$launcher" > "$log" 2>&1 &
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
  local args=(--no-validate)
  if [[ -e $work_dir && -n $(ls -A "$work_dir" 2>&1) ]]; then
    local saved=$work_dir/${config##*/} # with all options of the run
    [[ -f $saved ]] || die "--work_dir=$work_dir is not empty; name a new one"
    die "--work_dir=$work_dir is not empty; name a new one, or continue the run in it:" \
      "bash tools/dist_train.sh $saved $world_size --data-path $data_path --work-dir $work_dir" \
      "--no-validate --resume"
  fi
  [[ -z $precision ]] || args+=(--precision "$precision")
  [[ -z $batch_size ]] || args+=(--cfg-options "train_dataloader.batch_size=$batch_size")
  [[ -z $lr ]] || args+=(--lr "$lr")
  [[ -z $lr_step ]] || args+=(--lr-step "$lr_step")
  [[ -z $num_epochs ]] || args+=(--num-epochs "$num_epochs")
  [[ -z $seed ]] || args+=(--seed "$seed")
  [[ -z $pretrained ]] || args+=(--pretrained "$pretrained")
  [[ -z $from_scratch ]] || args+=(--from-scratch)
  if [[ $1 == perf ]]; then
    args+=(--perf)
  fi
  run_ranks train "$root/tools/train.py" "$config" --data-path "$data_path" \
    --work-dir "$work_dir" "${args[@]}" "${extra[@]}"
  link_names
}

link_names() {  # the names of the old documents, as links
  local folder=$output_dir/${devices[0]} note
  ln -sfn "train_${devices[0]}.log" "$folder/${family}_${devices[0]}.log"
  if [[ -n $last_name && -f $work_dir/last_checkpoint ]]; then
    note=$(< "$work_dir/last_checkpoint")
    ln -sfn "$(realpath "$work_dir/${note##*/}")" "$folder/$last_name"
  fi
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
  local args=()
  [[ $kind != eval ]] || args=("${extra[@]}")
  run_ranks eval "$root/tools/test.py" "$config" "$ckpt" --data-path "$data_path" --work-dir "$1" \
    "${args[@]}"
}

prepare_environment() {  # sets python
  . "$here/env_npu.sh"
  python="$(cd "$root" && environment_python)"
  [[ -x $python ]] || python=python # the Python of a container
  export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
}

limit_threads() {
  # Otherwise each process would use all cores.
  local threads=$(($(nproc) / world_size))
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
  export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
}

entry_point() {  # KIND CARDS ARGS...
  local kind=$1 summary=() start now
  prepare_environment
  parse_flags "$@"
  now=$(date +%Y%m%d_%H%M%S)
  limit_threads
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
      config=$work_dir/${config##*/} # as trained, with the options behind --
      evaluate "$work_dir/eval"
      summary+=(--eval-dir "$work_dir/eval")
    fi
  fi
  "$python" "$root/tools/analysis/summarise_run.py" "${summary[@]}"
}
