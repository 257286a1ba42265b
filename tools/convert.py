"""``python tools/convert.py MODEL [-o FILE] ...`` is ``cam-onnx convert``, for scripts in a checkout."""

from __future__ import annotations

import sys

from cam_onnx.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
