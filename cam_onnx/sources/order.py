"""The sources in the order of trust: ours, what is inside the file, what lies beside it.

One more is one function that yields what it says of a `Subject`, nothing where it is absent, and raises `Unusable`
where it is broken; and one row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cam_onnx.sources import embedded, huggingface, lists, own, paddle, timm, triton
from cam_onnx.sources.table import Said, Subject

__all__ = ["SOURCES", "Source"]

Source = Callable[[Subject], Iterator[Said]]

SOURCES: dict[str, Source] = {
    "<model>.preprocess.json": own.preprocess,
    "<model>.json": own.plain,
    "<model>.labels.txt": own.labels,
    "metadata Image.* (ONNX)": embedded.standard,
    "metadata of ultralytics": embedded.ultralytics,
    "metadata model_info (OpenVINO)": embedded.openvino,
    "metadata character (PaddleOCR)": embedded.paddleocr,
    "metadata class_names (Deepness)": embedded.deepness,
    "preprocessor_config.json (Hugging Face)": huggingface.processor,
    "config.json (Hugging Face)": huggingface.config,
    "config.json (timm)": timm.config,
    "config.pbtxt (Triton)": triton.config,
    "inference.yml (PaddleX)": paddle.inference,
    "labels.txt": lists.beside,
}
