"""Maps onto pictures. NumPy is the definition; `image` alone reads and writes picture files and imports cv2.

Nothing is imported here, so that `cam_onnx.render.upsample` costs NumPy and no more.
"""
