# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Register all components of mmface with mmdet when this module is imported.

A config of any mmdet project imports it with
``custom_imports = dict(imports=['mmface.registry'])``. Python code calls
``mmface.register_all_modules()``.
"""

import mmface.datasets
import mmface.engine
import mmface.evaluation.metrics
import mmface.models
import mmface.visualization  # noqa: F401
