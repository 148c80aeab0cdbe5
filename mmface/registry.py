# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""All that mmface registers with mmdet; importing this registers it.

A config of any mmdet project gets it with ``custom_imports = dict(imports=['mmface.registry'])``,
Python code with ``mmface.register_all_modules()``.
"""

import mmface.datasets
import mmface.engine
import mmface.evaluation.metrics
import mmface.models
import mmface.visualization  # noqa: F401
