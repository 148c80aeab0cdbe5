# A short training from published weights, for your own faces. A config lists this file after its
# network's and takes these values:
#   train_cfg = _base_.finetune_length
#   param_scheduler = _base_.finetune_schedule
# `tools/train.py --num-epochs --lr --image-size` change length, learning rate and image size.

# ---- Often modified ----------------------------------------------------------------------
finetune_epochs = 20
# ---- Possibly modified -------------------------------------------------------------------
finetune_warmup = 50  # iterations
# ---- Normally not modified ---------------------------------------------------------------
finetune_schedule = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=finetune_warmup + 1),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        T_max=finetune_epochs,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
finetune_length = dict(max_epochs=finetune_epochs, val_interval=1)
