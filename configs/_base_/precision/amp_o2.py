# Mixed precision with half-precision weights and float32 masters (O2).
precision = dict(
    type='O2OptimWrapper',
    dtype='float16',  # or 'bfloat16': no overflow, and much faster on a CPU
    # The static scale of the Ascend SCRFD recipe; 'dynamic' finds a scale during training.
    loss_scale=128.0,
    half_norms=False,  # True: group and layer norm in half precision too, as in apex
)
