# Full precision. `precision` is merged into `optim_wrapper`: by a config with
# `optim_wrapper = _base_.precision`, or by `tools/train.py --precision fp32`.
precision = dict(type='OptimWrapper')
