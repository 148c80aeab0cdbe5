# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A folder with files of more than thirty kinds, and what detection should say about each."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

DONE, UNDECODABLE, NO_IMAGE = 'done', 'cannot be decoded', 'not an image or video'

# Plain formats of one image, by what writes them.
OPENCV = ('.jpg', '.jpe', '.png', '.bmp', '.webp', '.tif', '.ppm', '.jp2', '.ras')
PILLOW = {
    '.jfif': 'JPEG',
    '.avif': 'AVIF',
    '.gif': 'GIF',
    '.ico': 'ICO',
    '.tga': 'TGA',
    '.pcx': 'PCX',
    '.sgi': 'SGI',
    '.dds': 'DDS',
    '.heic': 'HEIF',
}


def make_file_zoo(folder: Path, bgr: NDArray[np.uint8], heif: bool) -> dict[str, str]:
    """Write the files.

    Args:
        folder: An empty folder.
        bgr: (H, W, 3) BGR, what the files show. Sides up to 256 fit into an icon.
        heif: Whether pillow-heif is there to write HEIC.

    Returns:
        For each file, ``DONE`` or the reason why it is skipped.
    """
    image = PIL.Image.fromarray(bgr[..., ::-1])
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    expected = {}
    for suffix in OPENCV:
        expected[f'plain{suffix}'] = DONE
        (folder / f'plain{suffix}').write_bytes(cv2.imencode(suffix, bgr)[1].tobytes())
    if heif:
        import pillow_heif

        pillow_heif.register_heif_opener()
    for suffix, kind in PILLOW.items():
        if kind != 'HEIF' or heif:
            expected[f'pillow{suffix}'] = DONE
            options = {'sizes': [image.size]} if kind == 'ICO' else {}
            image.save(folder / f'pillow{suffix}', kind, **options)
    expected |= _unusual_pixels(folder, image, grey)
    expected |= _several_frames(folder, image)
    expected |= _names_that_mislead(folder, bgr)
    return expected


def _unusual_pixels(folder: Path, image: PIL.Image.Image, grey: NDArray) -> dict[str, str]:
    image.convert('1').save(folder / 'one_bit.png')
    image.convert('1').save(folder / 'fax.tif', compression='group4')
    image.quantize(256).save(folder / 'palette.png')
    image.convert('CMYK').save(folder / 'four_colours.jpg')
    PIL.Image.fromarray(grey.astype(np.uint16) * 257).save(folder / 'deep.png')
    (folder / 'grey.pgm').write_bytes(cv2.imencode('.pgm', grey)[1].tobytes())
    PIL.Image.fromarray((grey / 255).astype(np.float32)).save(folder / 'float.tif')
    colour = np.dstack([grey / 255] * 3).astype(np.float32)
    for suffix in ('.tiff', '.hdr', '.pfm'):
        (folder / f'float{suffix}').write_bytes(cv2.imencode(suffix, colour)[1].tobytes())
    done = ('one_bit.png', 'fax.tif', 'palette.png', 'four_colours.jpg', 'deep.png', 'grey.pgm')
    refused = ('float.tif', 'float.tiff', 'float.hdr', 'float.pfm')
    return dict.fromkeys(done, DONE) | dict.fromkeys(refused, UNDECODABLE)


def _several_frames(folder: Path, image: PIL.Image.Image) -> dict[str, str]:
    more = [image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)]
    for name in ('moving.gif', 'moving.webp', 'moving.png', 'moving.avif'):
        image.save(folder / name, save_all=True, append_images=more, duration=200)
    image.save(folder / 'pages.tif', save_all=True, append_images=more)
    image.save(folder / 'stereo.mpo', save_all=True, append_images=more)
    return dict.fromkeys(
        ('moving.gif', 'moving.webp', 'moving.png', 'moving.avif', 'pages.tif', 'stereo.mpo'), DONE
    )


def _names_that_mislead(folder: Path, bgr: NDArray[np.uint8]) -> dict[str, str]:
    jpeg = cv2.imencode('.jpg', bgr)[1].tobytes()
    contents = {
        'no_suffix': (jpeg, DONE),
        'jpeg_inside.png': (jpeg, DONE),
        'photo.txt': (jpeg, DONE),
        'cut.jpg': (jpeg[: len(jpeg) // 2], UNDECODABLE),
        'empty.jpg': (b'', UNDECODABLE),
        'text.jpg': (b'not a photo', UNDECODABLE),
        'text.mp4': (b'not a video', UNDECODABLE),
        'notes.txt': (b'BMW is not a bitmap', NO_IMAGE),
        'page.eps': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', NO_IMAGE),
        'list.m3u8': (b'#EXTM3U\nphoto.txt\n', NO_IMAGE),
        '.hidden.jpg': (jpeg, 'hidden'),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / 'lost.jpg').symlink_to(folder / 'nothing.jpg')
    os.mkfifo(folder / 'pipe.jpg')
    (folder / 'again').symlink_to(folder)  # a circle, which is no file
    rest = {'lost.jpg': 'link to a missing file', 'pipe.jpg': 'not a regular file'}
    return {name: result for name, (_, result) in contents.items()} | rest
