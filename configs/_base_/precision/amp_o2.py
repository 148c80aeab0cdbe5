# Mixed precision with half-precision weights and float32 masters (O2).
precision = dict(
    type='O2OptimWrapper',
    dtype='float16',  # or 'bfloat16': no overflow; on a CPU the faster of the two by far
    # The static scale of the Ascend SCRFD recipe; 'dynamic' finds one by itself.
    loss_scale=128.0,
    half_norms=False,  # True: group and layer norm in half precision too, as in apex
)
