# WIDER FACE for CenterFace: the layout and loaders of wider_face.py with the augmentation of
# chenjun2hao's code. Ascend's is the same; MindSpore's numbers are in the comments.
# The JSON labels of those projects can be used without preparation, for example:
#   train_dataloader = dict(dataset=dict(ann_file='annotations/train_wider_face.json',
#                                        data_prefix=dict(img_path='image/')))
_base_ = './wider_face.py'

# ---- Often modified ----------------------------------------------------------------------
image_size = 800  # side of the square the network sees; MindSpore: 512 (test 832)
# Sides of the crops, relative to the long side of the image. Comments in chenjun2hao's code say
# 0.3 to 1.1; MindSpore: np.arange(0.6, 1.0, 0.05), and 0.8 to 1.3 for 768 or 800.
crop_choice = [1.0]
# ---- Normally not modified ---------------------------------------------------------------
# MindSpore: 16 to 88 in steps of 8, 96, 128, 256, 512; the first 11; areas up to 8.
anchors = [16, 32, 48, 64, 96, 128, 256, 512]
max_choices = 5  # the target is drawn from this many smallest anchors
min_keypoint_area = 16  # square pixels; keypoints of faces up to this area are not trained

train_steps = dict(
    seed=dict(type='SeedSample'),
    image=dict(type='LoadFaceImage'),
    annotations=dict(type='LoadFaceAnnotations'),
    anchor=dict(
        type='DataAnchorSample',
        anchors=anchors,
        max_choices=max_choices,
        min_keypoint_area=min_keypoint_area,
    ),
    crop=dict(type='FaceAffineCrop', size=image_size, crop_choice=crop_choice),
    flip=dict(type='FaceFlip', prob=0.5),
    jitter=dict(type='ColourJitter', strength=0.4, lighting_std=0.1),
    pack=dict(type='PackFaceInputs'),
)
train_pipeline = list(train_steps.values())
train_steps.update(_delete_=True)  # replaces all steps of wider_face.py
# Annotations come after the resize: ground truth stays in pixels of the image as stored.
test_steps = _base_.test_steps
test_steps.resize = dict(type='FaceLetterbox', size=image_size)
test_pipeline = list(test_steps.values())
# need_keypoints: a model without keypoints sets it to False.
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, need_keypoints=True))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
