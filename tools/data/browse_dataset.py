# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The same as the command ``mmface browse``."""

from mmface.cli.browse import main
from mmface.utils.cli import main_guard

if __name__ == '__main__':
    main_guard(main)
