# Common to all configs: registered modules, hooks, environment, logging.
# A schedule (`_base_/schedules/`) provides optim_wrapper, param_scheduler and
# train_cfg=dict(type='ResumableEpochTrainLoop', max_epochs=...).

# ---- Often modified ----------------------------------------------------------------------
load_from = None  # weights to start from
# True: resume the run in work_dir, or from load_from if given. 'auto': resume the run in work_dir
# if there is one, otherwise start from load_from.
resume = False
randomness = dict(seed=None, deterministic=False)  # None: drawn, logged and saved
# ---- Possibly modified -------------------------------------------------------------------
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # by_epoch=False and an interval in iterations saves in the middle of epochs too.
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    buffers=dict(type='BroadcastBuffersHook'),
    throughput=dict(type='ThroughputHook'),
    loss_scale=dict(type='LossScaleHook', interval=50),
    fuse=dict(type='FuseConvBNHook'),
    visualization=dict(type='DetVisualizationHook'),
)
log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
vis_backends = [dict(type='LocalVisBackend')]
# mmdet's tools need a name. A training replaces it with the name of the run.
visualizer = dict(type='FaceVisualizer', name='visualizer', vis_backends=vis_backends)
# ---- Normally not modified ---------------------------------------------------------------
default_scope = 'mmdet'
runner_type = 'FaceRunner'
custom_imports = dict(imports=['mmface.registry'], allow_failed_imports=False)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # The device determines the backend: nccl (CUDA), hccl (NPU), gloo (CPU).
    # After this many seconds without progress, the job ends and names the rank that is stuck.
    dist_cfg=dict(timeout=600),
)
