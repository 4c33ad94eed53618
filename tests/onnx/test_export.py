"""What stands in an exported file, which models may be exported, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.autograd import Function, Tensor
from lucid.nn.functional import dropout
from lucid.onnx import ExportError, export

from .runtimes import assert_close, evaluated, images, onnx_runtime

onnx = pytest.importorskip("onnx")

SHAPE = (1, 3, 8, 8)


class Net(nn.Module):
    """A small network: convolution, norm, activation, classifier."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def net(**kwargs: int) -> nn.Module:
    lucid.manual_seed(0)
    model = Net(**kwargs)
    model.body[1].running_mean.data[...] = [0.1, -0.2, 0.3, 0.0]
    model.body[1].running_var.data[...] = [0.5, 1.5, 2.0, 1.0]
    return model


class Of(nn.Module):
    """A function as a module in a module, whose path is ``inner.f``."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"f": _Function(function)})

    def forward(self, *x: Tensor) -> object:
        return self.inner["f"](*x)


class _Function(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.forward = function  # type: ignore[assignment, method-assign]


def metadata(path: Path) -> dict[str, object]:
    return {each.key: json.loads(each.value) for each in onnx.load(path).metadata_props}


# -- names --------------------------------------------------------------------------------------


def test_nodes_have_their_modules_names_and_weights_those_of_the_state_dict(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "net.onnx"
    export(model, path, SHAPE, fold_batch_norm=False)
    graph = onnx.load(path).graph
    assert [node.name for node in graph.node] == [
        "body.0/Conv", "body.1/BatchNormalization", "body.2/Relu", "ReduceMean", "head/Gemm",
    ]  # fmt: skip
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    del state["body.1.num_batches_tracked"]
    assert stored.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(stored[name], value)


def test_folded_batch_norms_leave_weights_under_their_names(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "net.onnx"
    export(model, path, SHAPE)
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node] == ["Conv", "Relu", "ReduceMean", "Gemm"]
    names = {each.name for each in graph.initializer}
    assert names == {"body.0.weight", "body.0.bias", "head.weight", "head.bias"}
    x = images((3, *SHAPE[1:]))
    assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


def test_inputs_and_outputs_have_names_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export(net(), path, SHAPE, dynamic_size=True)
    graph = onnx.load(path).graph
    (image,), (logits,) = graph.input, graph.output
    dims = image.type.tensor_type.shape.dim
    assert (image.name, [each.dim_param or each.dim_value for each in dims]) == (
        "image", ["batch", 3, "height", "width"],
    )  # fmt: skip
    dims = logits.type.tensor_type.shape.dim
    assert (logits.name, [each.dim_param or each.dim_value for each in dims]) == (
        "logits", ["batch", 5],
    )  # fmt: skip


def test_a_module_may_be_called_as_an_output_is(tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Linear(4, 2)
            self.image = nn.Parameter(np.ones(4, np.float32))

        def forward(self, x: Tensor) -> Tensor:
            return self.logits(x * self.image)

    model, path = Named(), tmp_path / "named.onnx"
    export(model, path, (1, 4))
    x = images((3, 4))
    assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


# -- models ---------------------------------------------------------------------------------------


def test_a_model_in_training_mode_is_exported_as_it_evaluates(tmp_path: Path) -> None:
    model, path = net().train(), tmp_path / "net.onnx"
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    lucid.manual_seed(3)
    drawn = lucid.rand(1).item()
    lucid.manual_seed(3)
    export(model, path, SHAPE)
    assert lucid.rand(1).item() == drawn
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[name])
    x = images((2, *SHAPE[1:]))
    assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_dtypes(tmp_path: Path, dtype: type) -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = np.random.default_rng(0).normal(size=(4, 3))
            self.w = nn.Parameter(lucid.tensor(w, dtype))

        def forward(self, x: Tensor) -> Tensor:
            return ((x @ self.w).relu() * 2).softmax(-1)

    model, path = Products(), tmp_path / "model.onnx"
    export(model, path, (1, 4))
    x = images((5, 4)).astype(dtype)
    assert_close(
        onnx_runtime(path)(x)[0], evaluated(model, x), 1e-12 if dtype is np.float64 else 1e-2
    )


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    class Pair(nn.Module):
        def forward(self, left: Tensor, counts: Tensor) -> dict[str, object]:
            return {"sum": left + counts, "parts": (left * 2, counts)}

    path = tmp_path / "pair.onnx"
    export(Pair(), path, [(1, 4), np.arange(4)[None]])
    graph = onnx.load(path).graph
    assert [each.name for each in graph.input] == ["left", "counts"]
    assert [each.name for each in graph.output] == ["sum", "parts.0", "parts.1"]
    left, counts = images((3, 4)), np.arange(12).reshape(3, 4)
    total, double, same = onnx_runtime(path)(left, counts)
    np.testing.assert_allclose(total, left + counts, rtol=1e-6)
    np.testing.assert_array_equal(double, left * 2)
    np.testing.assert_array_equal(same, counts)


def test_feature_maps(tmp_path: Path) -> None:
    model = models.create_model("mobilenetv4_conv_small_035", features_only=True)
    path = tmp_path / "features.onnx"
    export(model, path, (1, 3, 64, 64))
    x = images((2, 3, 64, 64))
    with lucid.no_grad():
        expected = model.eval()(lucid.from_numpy(x))
    for found, wanted in zip(onnx_runtime(path)(x), expected):
        assert_close(found, wanted.numpy())


def test_what_depends_on_the_batch_is_no_constant(tmp_path: Path) -> None:
    def function(x: Tensor) -> Tensor:
        n, c = x.shape
        ones = lucid.ones(n, 1) * 2
        return lucid.cat([x.reshape(n * c).reshape(n, 1, c), ones.expand(n, c)[:, None]], 1)

    model, path = Of(function), tmp_path / "model.onnx"
    export(model, path, (1, 4))
    for batch in (1, 5):
        x = images((batch, 4))
        assert_close(onnx_runtime(path)(x)[0], evaluated(model, x))


def test_a_fixed_batch_is_fixed(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export(net(), path, (4, *SHAPE[1:]), dynamic_batch=False)
    for each in (*onnx.load(path).graph.input, *onnx.load(path).graph.output):
        assert each.type.tensor_type.shape.dim[0].dim_value == 4


def test_softmax_ends_with_probabilities(tmp_path: Path) -> None:
    model, path = net(), tmp_path / "net.onnx"
    export(model, path, SHAPE, softmax=True)
    x = images((2, *SHAPE[1:]))
    with lucid.no_grad():
        expected = model.eval()(lucid.from_numpy(x)).softmax(-1).numpy()
    assert [each.name for each in onnx.load(path).graph.output] == ["probabilities"]
    assert_close(onnx_runtime(path)(x)[0], expected)


# -- metadata -------------------------------------------------------------------------------------


def test_the_file_tells_of_preprocessing_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    classes = ["Spatz", "Krähe", "Zaunkönig", "Meise", "Star"]
    export(net(), path, SHAPE, preprocessing={"mean": (0.5,), "std": (0.25,)}, classes=classes)
    assert metadata(path) == {
        "lucid.size": [8, 8], "lucid.mean": [0.5], "lucid.std": [0.25], "lucid.classes": classes,
    }  # fmt: skip


# -- what is refused -------------------------------------------------------------------------------


class Cube(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> np.ndarray:
        return x.data**3


def _choosing(x: Tensor) -> Tensor:
    return x * 2 if x.sum().item() > 0 else x


def _choosing_by_mask(x: Tensor) -> Tensor:
    return x * 2 if (x > 0).any() else x


def _changing_what_is_seen(x: Tensor) -> Tensor:
    y = x * 2
    part = y[:, :1]
    y += 1
    return part


def _changing_the_input(x: Tensor) -> Tensor:
    x += 1
    return x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_choosing_by_mask, "in 'inner.f' values are read or changed by something that is no"),
        (_changing_what_is_seen, "in the model itself values are read or changed by something"),
        (_changing_the_input, "in the model itself values are read or changed by something"),
        (lambda x: x[x > 0], "in 'inner.f' values are read or changed by something that is no"),
        (lambda x: x.sort()[0] + x.topk(1)[0], "in 'inner.f' values are read .* in sort; a file"),
        (_choosing, "in 'inner.f' values are read or changed by something that is no operation"),
        (lambda x: lucid.tensor(np.sin(x.numpy())) * x, "in 'inner.f' values are read or changed"),
        (lambda x: x.cumprod(1), "in 'inner.f' Cumprod is no operation that the exporter knows"),
        (lambda x: x.signbit(), "in 'inner.f' Compare by signbit is no operation that the export"),
        (lambda x: x.long().gcd(4), "in 'inner.f' Compare by gcd is no operation that the"),
        (Cube.apply, "in 'inner.f' Cube is no operation that the exporter knows"),
        (dropout, "in 'inner.f' Dropout draws random numbers; leave it out in evaluation"),
        (lambda x: x + lucid.rand(3), "the model draws random numbers"),
        (lambda x: x[: x.shape[0] - 1], "in 'inner.f' GetItem depends on the input's size in a"),
        (lambda x: x.reshape(2, -1), "does not run on inputs of shape .3, 3.; dynamic_batch=False"),
        (lambda x: x if x.shape[0] == 2 else x * 2, "the model does something else for inputs of"),
        (lambda x: x.shape[1], "what it returns is no tensor that depends on the input, but 3"),
        (lambda x: lucid.ones(3), "what it returns is no tensor that depends on the input, but a"),
    ],
    ids=[
        "mask", "view", "input", "index", "sort", "choice", "numpy", "scan", "test", "divisor",
        "function", "dropout", "random", "slice", "reshape", "other", "integer", "constant",
    ],
)  # fmt: skip
def test_what_no_file_can_say_is_named(tmp_path: Path, function: object, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ExportError, match=message):
        export(Of(function), path, (1, 3))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_operator_of_a_later_opset_says_which(tmp_path: Path) -> None:
    model = Of(lambda x: lucid.einsum("bi,bi->b", x, x))
    with pytest.raises(ExportError, match="Einsum needs Einsum, which is in opset 12"):
        export(model, tmp_path / "model.onnx", (1, 3), opset=11)


def test_a_window_that_depends_on_the_size_is_refused_with_any_size(tmp_path: Path) -> None:
    model = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))
    with pytest.raises(ExportError, match="in '0' MaxPool2d depends on the input's size by"):
        export(model, tmp_path / "model.onnx", SHAPE, dynamic_size=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 10}, "expected an opset from 11 to"),
        ({"opset": 17.5}, "expected an opset from 11 to .* got 17.5"),
        ({"input_shape": (1, 3, 0, 8)}, "expected an input_shape of positive integers"),
        ({"input_shape": []}, "expected an input_shape of positive integers"),
        ({"classes": ["a"]}, "expected the names of 5 classes, got 1"),
        ({"preprocessing": {"means": 1}}, "preprocessing: expected .* got 'means'"),
        ({"preprocessing": {"mean": "x"}}, "'mean': expected one number or three"),
        ({"path": "no/folder/x.onnx"}, "the folder .*no/folder does not exist"),
    ],
    ids=["opset", "fraction", "size", "nothing", "classes", "key", "mean", "folder"],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    given = {"path": tmp_path / "x.onnx", "input_shape": SHAPE, **arguments}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export(net(), **given)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="export: expected a Module, got function"):
        export(lambda x: x, tmp_path / "x.onnx", SHAPE)  # type: ignore[arg-type]


def test_arguments_in_another_order(tmp_path: Path) -> None:
    message = r"export\(model, path, input_shape\): expected a path, got \(1, 3, 8, 8\)"
    with pytest.raises(TypeError, match=message):
        export(net(), (1, 3, 8, 8), tmp_path / "x.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_weights_over_2_gb_lie_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid.onnx._write._LARGEST", 2000)
    model, path, beside = net(classes=500), tmp_path / "x.onnx", tmp_path / "x.onnx.data"
    for _ in range(2):
        export(model, path, SHAPE)
        assert sorted(tmp_path.iterdir()) == [path, beside]
        stored = {
            each.name: each for each in onnx.load(path, load_external_data=False).graph.initializer
        }
        assert {name for name, each in stored.items() if each.external_data} == {
            "head.weight", "head.bias",
        }  # fmt: skip
        assert beside.stat().st_size == 4 * 5 * 500
        x = images((3, *SHAPE[1:]))
        expected = evaluated(model, x)
        assert_close(onnx_runtime(path)(x)[0], expected)
        assert_close(evaluated(lucid.onnx.load(path), x), expected)
        onnx.checker.check_model(str(path), full_check=True)


def test_nothing_is_written_beside_a_file_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid.onnx._write._LARGEST", 10)
    numbers = lucid.ones(3000).astype(np.uint16)
    model = Of(lambda x: x.astype(np.uint16) + numbers)
    with pytest.raises(ExportError, match="ONNX does not take the file with opset 13"):
        export(model, tmp_path / "x.onnx", (1, 3000), opset=13)
    assert list(tmp_path.iterdir()) == []
