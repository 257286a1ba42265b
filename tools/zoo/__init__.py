"""Gradients of whole networks against PyTorch's autograd: ``python -m tools.zoo``, into docs/zoo.md.

Needs the extra `zoo` (torch, torchvision, timm). Weights are seeded, nothing is downloaded.
"""
