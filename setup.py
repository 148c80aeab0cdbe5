# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Lists the packages; all else stands in pyproject.toml.

The configs lie beside the package in a checkout, and in it (mmface/configs) once installed.
"""

from setuptools import find_namespace_packages, find_packages, setup

configs = [name for name in find_namespace_packages('configs') if '__pycache__' not in name]
setup(
    packages=[
        *find_packages(include=['mmface', 'mmface.*']),
        'mmface.configs',
        *(f'mmface.configs.{name}' for name in configs),
    ],
    package_dir={'mmface.configs': 'configs'},
    package_data={
        'mmface': ['py.typed'],
        'mmface.evaluation.report': ['template/*'],
        '': ['metafile.yml'],
    },
)
