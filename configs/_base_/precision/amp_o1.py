# Mixed precision by autocast (O1): float16 on CUDA and NPU, bfloat16 on the CPU. The weights stay
# float32. Each operation runs in the precision that suits it.
precision = dict(type='AutocastOptimWrapper', loss_scale='dynamic')
