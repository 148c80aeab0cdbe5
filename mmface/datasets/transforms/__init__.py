# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Transforms of images with faces. Importing this package registers them."""

from mmface.datasets.transforms.colour_jitter import ColourJitter
from mmface.datasets.transforms.data_anchor_sample import DataAnchorSample
from mmface.datasets.transforms.face_affine_crop import FaceAffineCrop
from mmface.datasets.transforms.face_flip import FaceFlip
from mmface.datasets.transforms.face_letterbox import FaceLetterbox
from mmface.datasets.transforms.face_photometric import FacePhotometric
from mmface.datasets.transforms.face_resize import FaceResize
from mmface.datasets.transforms.face_stretch import FaceStretch
from mmface.datasets.transforms.load_face_annotations import LoadFaceAnnotations
from mmface.datasets.transforms.load_face_image import LoadFaceImage
from mmface.datasets.transforms.pack_face_inputs import PackFaceInputs
from mmface.datasets.transforms.random_square_crop import RandomSquareCrop
from mmface.datasets.transforms.seed_sample import SeedSample

__all__ = [
    'ColourJitter',
    'DataAnchorSample',
    'FaceAffineCrop',
    'FaceFlip',
    'FaceLetterbox',
    'FacePhotometric',
    'FaceResize',
    'FaceStretch',
    'LoadFaceAnnotations',
    'LoadFaceImage',
    'PackFaceInputs',
    'RandomSquareCrop',
    'SeedSample',
]

#: Names of the transforms that determine the size of test images.
RESIZES = tuple(kind.__name__ for kind in (FaceResize, FaceLetterbox, FaceStretch))
