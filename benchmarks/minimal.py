"""The least that shows a class for a picture: what `explain` on a converted file is compared with.

It runs as a script of its own, with OpenCV and ONNX Runtime alone: minimal.py MODEL PICTURE OUT
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import onnxruntime

model, picture, out = sys.argv[1:]
pixels = cv2.imread(picture)
assert pixels is not None, picture
tensor = (cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_CUBIC)[..., ::-1].astype(np.float32) - 127) / 128
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
[logits] = session.run(None, {session.get_inputs()[0].name: tensor.transpose(2, 0, 1)[None]})
print(int(logits.argmax()))
cv2.imwrite(out, pixels)
