"""What `cam-onnx inspect` finds with no options, beside what is known of the network: ``python -m tools.understood``.

Needs the extra `zoo` for the files that it makes once; judging them again needs none of it.
"""
