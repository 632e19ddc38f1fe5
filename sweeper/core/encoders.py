"""Names of encoders, known without loading the library that has them: for completion, and for errors told early."""

from __future__ import annotations

ENCODERS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d"),
    *("resnext101_32x16d", "resnext101_32x32d", "resnext101_32x48d"),
    *("dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *("senet154", "se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d", "se_resnext101_32x4d"),
    *("densenet121", "densenet169", "densenet201", "densenet161", "inceptionresnetv2", "inceptionv4"),
    *(f"efficientnet-b{size}" for size in range(8)),
    *("mobilenet_v2", "xception"),
    *(f"timm-efficientnet-b{size}" for size in range(9)),
    "timm-efficientnet-l2",
    *(f"timm-tf_efficientnet_lite{size}" for size in range(5)),
    *("timm-skresnet18", "timm-skresnet34", "timm-skresnext50_32x4d"),
    *(f"mit_b{size}" for size in range(6)),
    *(f"mobileone_s{size}" for size in range(5)),
)
"""Of segmentation-models-pytorch; it takes timm's too, as `tu-NAME`."""
OTHERS = "tu-"
