"""Every case of onnx's own backend test data against finite differences: what the rules are worth, by data of others.

A case is a model with its inputs and the outputs that it must have. Its gradient is built by `autodiff.gradient`
with respect to every floating-point input, with a random cotangent for every floating-point output. It runs in ONNX
Runtime where that gives the outputs of the case, else in the reference evaluator, in float64 where either has the
kernels. It must agree with central differences of the same engine along random directions. A step of 1 is tried
too: it is exact for what is linear. Where it does not agree, and does so at a point a little beside, the case sits
on a kink.
"""
