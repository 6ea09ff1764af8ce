# ruff: noqa: E402
"""Makes the graphs in this folder: what torch.onnx.export writes for torchvision's architectures.

Run it where torch, torchvision and onnxscript are installed (made with torch 2.13.0, torchvision 0.28.0):
`python tests/data/architectures/make.py [NAME...]`. Structure is torchvision's (BSD-3-Clause); where a
network is large, its width or its last layers are smaller. Weights are left out: a file holds their
shapes, and `tests/architectures.py` draws them. Batch, height and width are dynamic axes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import torch
from torch import nn

_operators = torch.library.Library("torchvision", "FRAGMENT")
"""torchvision's compiled operators, for a torch without the library that they are linked to."""
if not hasattr(torch.ops.torchvision, "nms"):
    for name in ("nms", "qnms"):
        _operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
        "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
    )

from torchvision import extension, models, ops
from torchvision.models import detection, segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone


def nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Non-maximum suppression in plain operators."""
    kept: list[int] = []
    overlap = ops.box_iou(boxes, boxes)
    for index in scores.argsort(descending=True).tolist():
        if all(overlap[index, other] <= threshold for other in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def roi_align(
    x: torch.Tensor, rois: torch.Tensor, scale: float, height: int, width: int, *rest: int
) -> torch.Tensor:
    """The shape of a RoiAlign: values do not matter to a graph."""
    return x.new_zeros(len(rois), x.shape[1], height, width)


def has_operators() -> bool:
    """In the place of torchvision's own test."""
    return True


if not extension._has_ops():
    extension._has_ops = ops.roi_align.__globals__["_has_ops"] = has_operators
    _operators.impl("nms", nms, "CPU")
    _operators.impl("roi_align", roi_align, "CPU")

HERE = Path(__file__).resolve().parent
LARGEST = 64
"""Constants with more values than this are left out."""
CLASSES = 10

none = {"weights": None, "num_classes": CLASSES}
bare = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}


def alexnet() -> nn.Module:
    net = models.AlexNet(num_classes=CLASSES)
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(256 * 36, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    return net


def vgg() -> nn.Module:
    net = models.vgg11_bn(**none)
    net.classifier = nn.Sequential(
        nn.Linear(512 * 49, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, CLASSES)
    )
    return net


def resnet(block: type, groups: int = 1, width: int = 64) -> nn.Module:
    return models.ResNet(block, [1, 1, 1, 1], CLASSES, groups=groups, width_per_group=width)


def fpn(detector: Callable[..., nn.Module], **settings: int | float) -> nn.Module:
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    return detector(backbone, num_classes=CLASSES, min_size=64, max_size=96, **settings)


def of_five(detector: Callable[..., nn.Module], **settings: int | float) -> nn.Module:
    """A detector whose anchors are for five feature maps."""
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
        trainable_layers=5,
    )
    return detector(backbone, num_classes=CLASSES, min_size=64, max_size=96, **settings)


RPN = {"rpn_post_nms_top_n_test": 12, "box_score_thresh": 0.0, "box_detections_per_img": 4}


def rcnn(detector: Callable[..., nn.Module], **heads: nn.Module | int) -> nn.Module:
    boxes = (
        detection.faster_rcnn.TwoMLPHead(256 * 49, 32),
        detection.faster_rcnn.FastRCNNPredictor(32, CLASSES),
    )
    net = fpn(detector, **RPN, **heads)
    net.roi_heads.box_head, net.roi_heads.box_predictor = boxes
    return net


def masks() -> nn.Module:
    head = detection.mask_rcnn.MaskRCNNHeads(256, (16,), 1)
    net = rcnn(detection.MaskRCNN, mask_head=head)
    net.roi_heads.mask_predictor = detection.mask_rcnn.MaskRCNNPredictor(16, 8, CLASSES)
    return net


def keypoints() -> nn.Module:
    head = detection.keypoint_rcnn.KeypointRCNNHeads(256, (16,))
    points = detection.keypoint_rcnn.KeypointRCNNPredictor(16, 5)
    return rcnn(detection.KeypointRCNN, keypoint_head=head, keypoint_predictor=points, num_keypoints=None)


ONE = {"score_thresh": 0.0, "detections_per_img": 6, "topk_candidates": 20}

CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (alexnet, 224),
    "convnext": (
        lambda: models.ConvNeXt(
            [models.convnext.CNBlockConfig(16, 32, 1), models.convnext.CNBlockConfig(32, None, 1)],
            num_classes=CLASSES,
        ),
        64,
    ),
    "densenet": (lambda: models.DenseNet(12, (2, 3, 2, 2), 16, num_classes=CLASSES), 64),
    "efficientnet": (partial(models.efficientnet_b0, **none), 64),
    "efficientnet_v2": (partial(models.efficientnet_v2_s, **none), 64),
    "googlenet": (partial(models.googlenet, aux_logits=False, init_weights=False, **none), 64),
    "inception": (partial(models.inception_v3, aux_logits=False, init_weights=False, **none), 96),
    "maxvit": (
        lambda: models.MaxVit(
            (64, 64), 16, 4, [16, 32], [1, 1], head_dim=8, stochastic_depth_prob=0.0, num_classes=CLASSES
        ),
        64,
    ),
    "mnasnet": (partial(models.mnasnet0_5, **none), 64),
    "mobilenet_v2": (lambda: models.mobilenet_v2(width_mult=0.5, **none), 64),
    "mobilenet_v3": (partial(models.mobilenet_v3_small, **none), 64),
    "regnet_x": (partial(models.regnet_x_400mf, **none), 64),
    "regnet_y": (partial(models.regnet_y_400mf, **none), 64),
    "resnet": (partial(models.resnet18, **none), 64),
    "resnext": (lambda: resnet(models.resnet.Bottleneck, 8, 4), 64),
    "shufflenet_v2": (partial(models.shufflenet_v2_x0_5, **none), 64),
    "squeezenet": (partial(models.squeezenet1_1, **none), 64),
    "swin": (
        lambda: models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=CLASSES),
        64,
    ),
    "swin_v2": (
        lambda: models.SwinTransformer(
            [4, 4],
            24,
            [2, 2],
            [2, 4],
            [4, 4],
            num_classes=CLASSES,
            block=models.swin_transformer.SwinTransformerBlockV2,
            downsample_layer=models.swin_transformer.PatchMergingV2,
        ),
        64,
    ),
    "vgg": (vgg, 64),
    "vision_transformer": (lambda: models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=CLASSES), 32),
    "wide_resnet": (lambda: resnet(models.resnet.Bottleneck, 1, 96), 64),
}

DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "faster_rcnn": lambda: rcnn(detection.FasterRCNN),
    "fcos": lambda: of_five(detection.FCOS, **ONE),
    "keypoint_rcnn": keypoints,
    "mask_rcnn": masks,
    "retinanet": lambda: of_five(detection.RetinaNet, **ONE),
    "ssd": lambda: detection.ssd300_vgg16(**bare, **ONE),
    "ssdlite": lambda: detection.ssdlite320_mobilenet_v3_large(**bare, **ONE),
}

SEGMENTERS: dict[str, Callable[[], nn.Module]] = {
    "deeplab": lambda: segmentation.deeplabv3_mobilenet_v3_large(**bare),
    "fcn": lambda: segmentation.FCN(
        models._utils.IntermediateLayerGetter(models.resnet18(**none), {"layer4": "out"}),
        segmentation.fcn.FCNHead(512, CLASSES),
    ),
    "lraspp": lambda: segmentation.lraspp_mobilenet_v3_large(**bare),
}


class Outputs(nn.Module):
    """A segmenter whose output is a tensor, not a table."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)["out"]


class Detections(nn.Module):
    """A detector on one photo of a batch, as torchvision's own tests export it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = self.net([x[0]])
        found = found[1] if isinstance(found, tuple) else found
        return list(found[0].values())


def export(name: str, net: nn.Module, size: int, *, dynamo: bool) -> None:
    """Write one graph without its weights."""
    x = torch.rand(1, 3, size, size)
    target = HERE / f"{name}.onnx"
    axes = {"x": {0: "batch", 2: "height", 3: "width"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (x,),
            str(target),
            input_names=["x"],
            dynamo=dynamo,
            **(
                {
                    "external_data": False,
                    "dynamic_shapes": [
                        {0: torch.export.Dim.AUTO, **dict.fromkeys((2, 3), torch.export.Dim.AUTO)}
                    ],
                }
                if dynamo
                else {"dynamic_axes": axes}
            ),
        )
    onnx.save(strip(onnx.load(str(target))), str(target))
    print(f"{name:28} {target.stat().st_size:9,} bytes", flush=True)


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out what no import reads, and the values of large floating-point constants."""
    model.ClearField("metadata_props")
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        del graph.value_info[:]
        for node in graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
            graphs.extend(a.g for a in node.attribute if a.HasField("g"))
        tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
        for tensor in tensors:
            values = onnx.numpy_helper.to_array(tensor)
            if tensor.data_type == onnx.TensorProto.FLOAT and values.size > LARGEST:
                tensor.ClearField("raw_data")
                tensor.ClearField("float_data")
                tensor.doc_string = "positive" if values.min() >= 0 else "drawn"
    return model


def main(wanted: list[str]) -> None:
    torch.manual_seed(0)
    for name, (make, size) in CLASSIFIERS.items():
        for dynamo in (True, False):
            each = name if dynamo else f"{name}_script"
            if not wanted or each in wanted:
                attempt(each, make, size, dynamo)
    for name, make in SEGMENTERS.items():
        for dynamo in (True, False):
            each = name if dynamo else f"{name}_script"
            if not wanted or each in wanted:
                attempt(each, lambda make=make: Outputs(make()), 64, dynamo)
    for name, make in DETECTORS.items():
        if not wanted or name in wanted:
            attempt(name, lambda make=make: Detections(make()), 96, False)


def attempt(name: str, make: Callable[[], nn.Module], size: int, dynamo: bool) -> None:
    try:
        export(name, make(), size, dynamo=dynamo)
    except Exception as error:
        print(f"{name:28} cannot be exported: {str(error).strip().splitlines()[:1]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
