#!/usr/bin/env bash
# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
#
# datumaro writes WIDER FACE labels that other readers cannot read, and renames the events
#
# Versions:  datumaro 1.13.12
# Expected:  Reading WIDER FACE and writing it again in the format wider_face gives the same file.
# Seen:      The folder 0--Parade becomes 1--Parade, since the number is made anew from a list of
#            classes in which face has number 0. An image without faces is written without its
#            count, so that the name of the next image stands where a count belongs. Coordinates
#            become 10.0.
# Matters:   Predictions and the official val list no longer match the images by name. A reader
#            that expects a count stops, or takes the next name for it.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check datumaro==1.13.12 numpy==2.2.6 pillow==12.3.0 || exit 2
env/bin/python - << 'PY'
from pathlib import Path

import datumaro as dm
from PIL import Image

root = Path('wider')
images = root / 'WIDER_train/images/0--Parade'
images.mkdir(parents=True)
for name in 'ab':
    Image.new('RGB', (640, 480)).save(images / f'{name}.jpg')
(root / 'wider_face_split').mkdir()
text = (
    '0--Parade/a.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n0--Parade/b.jpg\n1\n10 20 30 40 1 0 0 0 2 1 \n'
)
(root / 'wider_face_split/wider_face_train_bbx_gt.txt').write_text(text)
dm.Dataset.import_from(str(root), 'wider_face').export('out', 'wider_face', save_media=True)
written = Path('out/wider_face_split/wider_face_train_bbx_gt.txt').read_text()
print(written)
lines = [line.split() for line in written.splitlines()]
assert lines[:2] == [['1--Parade/a.jpg'], ['1--Parade/b.jpg']], 'names or counts: ' + written
assert lines[3][:4] == ['10.0', '20.0', '30.0', '40.0'], written
PY
