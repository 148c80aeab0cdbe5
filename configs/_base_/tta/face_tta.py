# Test-time augmentation: each image in three sizes, with and without flip, in one result.
#   python tools/test.py CONFIG CHECKPOINT --tta configs/_base_/tta/face_tta.py
# If this file is among the bases of CONFIG, --tta alone is enough. Other ways to merge, all of
# them options of `suppress` (mmface/models/task_modules/suppression.py):
#   --cfg-options tta_model.tta_cfg.nms.type=nms
#   --cfg-options tta_model.tta_cfg.nms.type=soft_nms tta_model.tta_cfg.nms.method=gaussian

# ---- Often modified ----------------------------------------------------------------------
tta_merge = dict(type='box_voting', iou_threshold=0.5)  # score-weighted means of boxes
# (width, height) into which the image is fitted: 1, 1.4 and 2 times 640.
tta_sizes = [
    dict(type='FaceResize', scale=(640, 640), keep_ratio=True),
    dict(type='FaceResize', scale=(896, 896), keep_ratio=True),
    dict(type='FaceResize', scale=(1280, 1280), keep_ratio=True),
]
# ---- Possibly modified -------------------------------------------------------------------
tta_flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
# ---- Normally not modified ---------------------------------------------------------------
tta_model = dict(type='FaceTTAModel', tta_cfg=dict(nms=tta_merge, max_per_img=-1))
# The flip comes first. Labels come last: like the results, they stay in pixels of the stored image.
tta_views = dict(
    flips=tta_flips,
    sizes=tta_sizes,
    annotations=[dict(type='LoadFaceAnnotations')],
    pack=[dict(type='PackFaceInputs')],
)
tta_pipeline = [
    dict(type='LoadFaceImage'),
    dict(type='TestTimeAug', transforms=list(tta_views.values())),
]
