"""Which networks, by which exporter. A name is unique: it is what the command line takes and the table shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["NETWORKS", "Network"]

TIMM = """
resnet18 resnext26ts resnet26d seresnext26d_32x4d ecaresnet26t resnest14d res2net50_26w_4s skresnet18 mobilenetv2_050
mobilenetv3_small_050 mobilenetv4_conv_small_050 efficientnet_lite0 tf_efficientnet_lite0 efficientnetv2_rw_t
ghostnet_100 ghostnetv2_100 mnasnet_small fbnetc_100 regnetx_002 regnety_002 densenet121 vgg11_bn dla34 hrnet_w18_small
inception_v3 inception_next_atto inception_resnet_v2 xception41 convnext_atto convnextv2_atto convmixer_768_32
repvgg_a0 repghostnet_050 mobileone_s0 fastvit_t8 vit_tiny_patch16_224 deit_tiny_patch16_224 deit3_small_patch16_224
vit_small_patch14_reg4_dinov2 beit_base_patch16_224 cait_xxs24_224 swin_tiny_patch4_window7_224
swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224 pvt_v2_b0 twins_svt_small poolformer_s12 poolformerv2_s12 caformer_s18
convformer_s18 coatnet_nano_rw_224 maxvit_pico_rw_256 maxvit_tiny_tf_224 mobilevit_xxs mobilevitv2_050
edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 levit_128s mixer_s32_224
gmlp_ti16_224 resmlp_12_224 crossvit_tiny_240 xcit_nano_12_p16_224 tnt_s_patch16_224 visformer_tiny volo_d1_224
focalnet_tiny_srf gcvit_xxtiny davit_tiny nest_tiny pit_ti_224 sequencer2d_s halonet26t lambda_resnet26t botnet26t_256
bat_resnext26ts gcresnet33ts eva02_tiny_patch14_224 rdnet_tiny starnet_s1 hgnet_tiny hgnetv2_b0 tiny_vit_5m_224
repvit_m0_9 selecsls42b rexnet_100 tresnet_m hardcorenas_a nf_regnet_b0 nfnet_l0 eca_nfnet_l0 cspresnet50 cspdarknet53
darknet53 vovnet39a ese_vovnet19b_dw cs3darknet_s mambaout_femto hiera_tiny_224 hieradet_small nextvit_small
convit_tiny swiftformer_xs shvit_s1 sam2_hiera_tiny vitamin_small_224 test_vit test_resnet test_efficientnet
"""
TORCHVISION = """
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
mobilenet_v2 mobilenet_v3_small mobilenet_v3_large regnet_x_400mf regnet_y_400mf resnet18 resnet50 resnext50_32x4d
shufflenet_v2_x0_5 squeezenet1_0 squeezenet1_1 swin_t swin_v2_t vgg11 vgg11_bn vit_b_32 vit_b_16 wide_resnet50_2
"""
# segmentation, video, detection (the raw heads, before any non-maximum suppression)
TASKS = "fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large r3d_18 mc3_18 ssdlite retinanet fcos"
OLDER = """
resnet50 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 convnext_tiny vit_b_16 swin_t regnet_y_400mf
googlenet shufflenet_v2_x0_5 maxvit_t
"""


@dataclass(frozen=True)
class Network:
    """One row: `model` of `library`, exported at `opset` by the "dynamo" or the older "torchscript" exporter."""

    library: Literal["timm", "torchvision", "task"]
    model: str
    exporter: Literal["dynamo", "torchscript"] = "dynamo"
    opset: int = 20

    @property
    def name(self) -> str:
        plain = f"{self.library}/{self.model}"
        return plain if self.exporter == "dynamo" else f"{plain}@{self.opset}"


# Five of timm's families and one of the detectors are beyond the dynamo exporter (seen with torch 2.14).
ONLY_TORCHSCRIPT: set[str] = set()


def _network(library: Literal["timm", "torchvision", "task"], model: str) -> Network:
    if model in ONLY_TORCHSCRIPT:
        return Network(library, model, "torchscript", 18)
    return Network(library, model)


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in [
        *(_network("torchvision", model) for model in TORCHVISION.split()),
        *(_network("timm", model) for model in TIMM.split()),
        *(Network("torchvision", model, "torchscript", opset) for model in OLDER.split() for opset in (11, 13, 17)),
        *(_network("task", model) for model in TASKS.split()),
    ]
}
