# Full precision. `precision` is merged into `optim_wrapper` if a config contains
# `optim_wrapper = _base_.precision`, or with `tools/train.py --precision fp32`.
precision = dict(type='OptimWrapper')
