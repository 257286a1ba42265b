"""``python -m cam_onnx`` is ``cam-onnx``."""

from __future__ import annotations

import sys

from cam_onnx.cli import main

if __name__ == "__main__":
    sys.exit(main())
