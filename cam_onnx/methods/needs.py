"""What a method may need: the words that its parameters have, and their meaning."""

from __future__ import annotations

__all__ = ["ARRAYS", "CALLS", "GRADIENTS", "LISTS", "NEEDS"]

ARRAYS = {
    "activations": "of the target layer, (N, K, *S)",
    "gradients": "dy/dA, (N, K, *S)",
    "image": "the network's input, (N, C, *S)",
    "image_gradients": "dy/dx, (N, C, *S)",
    "guided": "dy/dx by guided backpropagation, (N, C, *S)",
}
"""Needs that are arrays. A method that needs no call takes any number of samples."""

LISTS = {
    "biases": "what the network adds, times the gradient there: (N, K, *S), or numbers (N, M) without a place",
    "attention": "attention probabilities of every layer that has them, first to last, (N, heads, T, T): the tokens of "
    "the grid last",
    "attention_gradients": "the score's derivatives with respect to these",
    "early_gradients": "with respect to each of these the derivative of its own score, which the network would give if "
    "it ended behind that layer",
}
"""Needs that are lists of arrays, of the inside of the network."""

CALLS = {
    "forward": "pictures in, scores out: the whole network",
    "backward": "pictures in, dy/dx out: the whole network and back",
    "probe": "pictures in, activations and gradients of the layer out",
    "head": "activations in, scores out: the network behind the layer",
    "curvature": "a direction in, the second derivative of the score along it out",
}
"""Needs that run the network. A method with one of them takes one sample, and hands over variants of it one by one:
``forward(variants, count)`` takes an iterable of (C, *S) and yields a score for each, in batches of its own choice, so
that memory does not grow with their number. `curvature` alone takes and returns one array."""

NEEDS = {**ARRAYS, **LISTS, **CALLS}

GRADIENTS = {
    "gradients",
    "image_gradients",
    "guided",
    "biases",
    "attention_gradients",
    "early_gradients",
    "backward",
    "probe",
    "curvature",
}
"""Those that are derivatives."""
