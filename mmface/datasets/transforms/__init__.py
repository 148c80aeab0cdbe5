# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Transforms of pictures with faces; importing this registers them."""

from mmface.datasets.transforms.face_flip import FaceFlip
from mmface.datasets.transforms.face_photometric import FacePhotometric
from mmface.datasets.transforms.face_resize import FaceResize
from mmface.datasets.transforms.load_face_annotations import LoadFaceAnnotations
from mmface.datasets.transforms.load_face_image import LoadFaceImage
from mmface.datasets.transforms.pack_face_inputs import PackFaceInputs
from mmface.datasets.transforms.random_square_crop import RandomSquareCrop
from mmface.datasets.transforms.seed_sample import SeedSample

__all__ = [
    'FaceFlip',
    'FacePhotometric',
    'FaceResize',
    'LoadFaceAnnotations',
    'LoadFaceImage',
    'PackFaceInputs',
    'RandomSquareCrop',
    'SeedSample',
]
