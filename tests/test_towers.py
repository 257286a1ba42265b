"""Small networks of the package transformers as ONNX Runtime's optimiser of transformers writes them."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cam_onnx import Explainer, autodiff
from tests.kernels import KERNELS
from tests.running import run

# model type: width, heads, layers, side of the picture, of a patch
SMALL = {"vit": (64, 4, 3, 64, 8), "clip": (64, 4, 3, 64, 8), "swin": (32, 2, 2, 64, 4)}
WRITTEN = {
    ("vit", False): {"Attention", "BiasGelu", "SkipLayerNormalization"},
    ("vit", True): {"MultiHeadAttention", "BiasGelu", "SkipLayerNormalization"},
    ("clip", False): {"Attention", "QuickGelu", "SkipLayerNormalization"},
    ("swin", False): {"BiasGelu", "SkipLayerNormalization"},
}


@pytest.mark.zoo
@pytest.mark.parametrize(("kind", "separate"), WRITTEN)
def test_a_tower_that_was_optimised_has_the_gradient_of_the_plain_one(kind, separate, tmp_path):
    """At the layer that is found in both, and at the picture; `separate`: queries, keys, values by own nodes."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tools.production.forms import by_transformers
    from tools.production.towers import export

    width, heads, _, side, _ = SMALL[kind]
    source, made = tmp_path / "plain.onnx", tmp_path / "optimised.onnx"
    source.write_bytes(export(kind, *SMALL[kind]))
    told = (kind, 0, 0) if kind == "swin" else (kind, heads, width)
    by_transformers(told, separate)(source, made, [])
    own = Counter(node.op_type for node in onnx.load(made).graph.node if node.domain == "com.microsoft")
    assert set(own) == WRITTEN[kind, separate]
    assert own.get("Attention", 3) == own.get("MultiHeadAttention", 3) == 3, "in every layer"
    feeds = {"input": np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)}
    for layer in (None, "input"):
        plain, optimised = (
            Explainer(file, layers=layer, providers="cpu").explain(inputs=feeds, target=3) for file in (source, made)
        )
        assert plain.layer == optimised.layer
        assert plain.gradients.any()
        np.testing.assert_allclose(optimised.gradients, plain.gradients, atol=1e-4 * np.abs(plain.gradients).max())


@pytest.mark.zoo
@pytest.mark.parametrize("extended", [False, True], ids=["as written", "at extended level"])
@pytest.mark.parametrize("kind", SMALL)
def test_a_tower_that_was_optimised_and_quantised_is_explained_where_the_plain_one_is(kind, extended, tmp_path):
    """Dynamically, as optimum does: attention in integers, and no word on the types of inner values."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from tools.production.forms import by_transformers, make
    from tools.production.towers import export

    width, heads, _, side, _ = SMALL[kind]
    source, made = tmp_path / "plain.onnx", tmp_path / "quantised.onnx"
    source.write_bytes(export(kind, *SMALL[kind]))
    by_transformers((kind, 0, 0) if kind == "swin" else (kind, heads, width))(source, made, [])
    bare = onnx.load(made)
    del bare.graph.value_info[:]
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True}
    quantize_dynamic(bare, made, weight_type=QuantType.QUInt8, extra_options=options)
    if extended:
        made = make("extended", made, tmp_path / "extended.onnx", [])
    own = Counter(node.op_type for node in onnx.load(made).graph.node if node.domain == "com.microsoft")
    assert own.get("QAttention", 0) == (0 if kind == "swin" else 3)
    assert (own.get("DynamicQuantizeMatMul", 0) > 0) == extended
    feeds = {"input": np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)}
    for layer in (None, "input"):
        plain, quantised = (
            Explainer(file, layers=layer, providers="cpu").explain(inputs=feeds, target=3) for file in (source, made)
        )
        assert quantised.layer.removesuffix("_quantized") == plain.layer
        a, b = (e.gradients.ravel().astype(float) for e in (plain, quantised))
        assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.99


def read_by_bert(path) -> None:
    """A BERT whose words are patches of a picture, some of them padding: what can be packed."""
    import torch
    import transformers

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 64, 8, 8)
            settings = dict(hidden_size=64, num_attention_heads=4, num_hidden_layers=2, intermediate_size=128)
            config = transformers.BertConfig(
                **settings, vocab_size=2, initializer_range=0.1, attn_implementation="eager"
            )
            self.inner = transformers.BertModel(config, add_pooling_layer=False)
            self.head = torch.nn.Linear(64, 10)

        def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            words = self.patches(pixels).flatten(2).transpose(1, 2)
            read = self.inner(inputs_embeds=words, attention_mask=mask, token_type_ids=torch.zeros_like(mask))
            return self.head(read.last_hidden_state[:, 0])

    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Network().eval(), (torch.zeros(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.long)), str(path), dynamo=False,
            opset_version=17, input_names=["input", "mask"], output_names=["output"],
        )  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("separate", [False, True], ids=["PackedAttention", "PackedMultiHeadAttention"])
def test_a_network_without_its_padding_has_the_gradient_of_the_plain_one(separate, tmp_path):
    """As ONNX Runtime's tool packs it; its operators run on GPUs only: here by the kernels of the tests."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    from onnxruntime.transformers.convert_to_packing_mode import PackingMode  # isort: skip  (needs the path of optimizer)

    source, made = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    read_by_bert(source)
    options = FusionOptions("bert")
    options.use_multi_head_attention = separate
    options.enable_skip_layer_norm = options.enable_bias_gelu = options.enable_gelu = False  # no kernels of the tests
    fused = optimize_model(str(source), "bert", num_heads=4, hidden_size=64, opt_level=0, optimization_options=options)
    packed = PackingMode(fused)
    packed.convert(use_symbolic_shape_infer=False)
    packed.model.save_model_to_file(str(made))
    own = Counter(node.op_type for node in onnx.load(made).graph.node if node.domain == "com.microsoft")
    attention = "PackedMultiHeadAttention" if separate else "PackedAttention"
    assert own == {attention: 2, "RemovePadding": 1, "RestorePadding": 1}
    rng = np.random.default_rng(0)
    feeds = {"input": rng.standard_normal((2, 3, 32, 32), np.float32), "mask": np.ones((2, 16), np.int64)}
    feeds["mask"][1, 12:] = 0
    feeds["cotangent/output"] = rng.standard_normal((2, 10), np.float32)
    plain, graded = (autodiff.gradient(onnx.load(file), ["input"], ["output"]) for file in (source, made))
    wanted = ["output", "grad/input"]
    for one, other in zip(
        run(plain, feeds, wanted), ReferenceEvaluator(graded, new_ops=KERNELS).run(wanted, feeds), strict=True
    ):
        assert one.any()
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())
