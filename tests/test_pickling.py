"""Pickles and copies of what lucid makes, also in another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import data, models, nn, optim, training
from lucid.data import transforms
from lucid.optim import lr_scheduler, swa_utils

Copied = Callable[[Any], Any]
WAYS: dict[str, Copied] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


class Tied(nn.Module):
    """Two layers of one weight, a buffer, and a tensor that shares the buffer's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("scale", lucid.ones(4))
        self.same_memory = self.scale.detach()

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.second(self.first(x).relu()) * self.same_memory


def _network() -> nn.Module:
    lucid.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())


def _shift(module: nn.Module, args: Any, output: lucid.Tensor) -> lucid.Tensor:
    return output + 1


def _halved(step: int) -> float:
    return 0.5**step


# -- tensors --------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "int64", "uint8"])
@pytest.mark.parametrize("layout", ["rows", "channels last", "number", "none", "read-only"])
def test_tensors(way: Copied, dtype: str, layout: str) -> None:
    array = np.arange(24).reshape(1, 2, 3, 4).astype(dtype)
    if layout == "channels last":
        array = array.transpose(0, 3, 1, 2)
    array = {"number": array[0, 0, 0, 1], "none": array[:0]}.get(layout, array)
    x = lucid.from_numpy(np.asarray(array))
    if layout == "read-only":
        x.data.flags.writeable = False
    twin = way(x)
    assert type(twin) is lucid.Tensor
    assert twin.dtype == x.dtype
    np.testing.assert_array_equal(twin.data, x.data)
    assert not np.shares_memory(twin.data, x.data)
    twin.fill_(0)
    assert not twin.any()


@each_way
def test_parameters_keep_their_class_and_grad(way: Copied) -> None:
    weight = nn.Parameter(lucid.ones(3))
    frozen = nn.Parameter(lucid.ones(3), requires_grad=False)
    twin, frozen_twin = way((weight, frozen))
    assert type(twin) is nn.Parameter
    assert twin.requires_grad
    assert not frozen_twin.requires_grad


def test_a_shallow_copy_shares_memory_as_pytorchs_does() -> None:
    x = lucid.ones(3)
    weight = lucid.ones(3, requires_grad=True)
    twin = copy.copy(x)
    twin[0] = 5
    assert x.tolist() == [5, 1, 1]
    loss = (weight * x).sum()
    twin.add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
    assert type(copy.copy(nn.Parameter(x))) is nn.Parameter
    assert copy.copy(weight).requires_grad


@each_way
def test_copies_of_one_memory_are_one_memory(way: Copied) -> None:
    x = lucid.ones(3)
    first, second = way([x, x.detach()])
    weight = lucid.ones(3, requires_grad=True)
    loss = (weight * first).sum()
    second.add_(1)
    assert first.tolist() == [2, 2, 2]
    assert x.tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


# -- modules --------------------------------------------------------------------------------------


@each_way
def test_shared_weights_stay_shared(way: Copied) -> None:
    model = Tied()
    twin = way(model)
    assert twin.first.weight is twin.second.weight
    assert twin.first.weight is not model.first.weight
    assert len(list(twin.parameters())) == 2
    x = lucid.randn(2, 4)
    assert twin(x).tolist() == model(x).tolist()


@each_way
def test_memory_stays_shared_within_a_module(way: Copied) -> None:
    twin = way(Tied())
    assert twin.same_memory.data is twin.scale.data


@each_way
def test_models_with_their_modes_and_hooks(way: Copied) -> None:
    model = _network()
    model[1].eval()
    model.register_forward_hook(_shift)
    x = lucid.randn(2, 3, 8, 8)
    model(x)
    twin = way(model)
    assert twin(x).tolist() == model(x).tolist()
    assert [module.training for module in twin.modules()] == [True, True, False, True, True]
    assert twin.state_dict().keys() == model.state_dict().keys()


def test_a_hook_on_an_unpickled_module_replaces_none_of_its_hooks() -> None:
    model = nn.Identity()
    handle = model.register_forward_hook(_shift)
    twin = pickle.loads(pickle.dumps(model))
    (number,) = twin._forward_hooks
    twin._forward_hooks = {number + 1: twin._forward_hooks[number]}  # as in another process
    other = twin.register_forward_hook(_shift)
    assert twin(lucid.zeros(1)).item() == 2
    other.remove()
    assert twin(lucid.zeros(1)).item() == 1
    handle.remove()
    assert model(lucid.zeros(1)).item() == 0
    assert twin(lucid.zeros(1)).item() == 1


@each_way
@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_035", "mobilenetv4_hybrid_medium_075"])
def test_models_of_the_zoo(way: Copied, name: str) -> None:
    model = models.create_model(name, num_classes=3).eval()
    x = lucid.randn(1, 3, 64, 64)
    with lucid.no_grad():
        expected = model(x)
        twin = way(model)
        np.testing.assert_array_equal(twin(x).data, expected.data)
    assert (twin.name, twin.pretrained_cfg) == (model.name, model.pretrained_cfg)


@each_way
@pytest.mark.parametrize("backend", lucid.available_backends())
def test_compiled_models(way: Copied, backend: str) -> None:
    before = lucid.get_backend()
    lucid.set_backend(backend)
    try:
        compiled = lucid.compile(_network().eval(), (2, 3, 8, 8))
        x = lucid.randn(2, 3, 8, 8)
        twin = way(compiled)
        np.testing.assert_array_equal(twin(x).data, compiled(x).data)
        assert twin.input_shape == compiled.input_shape
        assert twin._model is not compiled._model
    finally:
        lucid.set_backend(before)


# -- training -------------------------------------------------------------------------------------

OPTIMIZERS = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "Lion"]


def _step(model: nn.Module, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(lucid.ones(2, 4)).square().sum().backward()
    optimizer.step()


@each_way
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if hasattr(optim, name)])
def test_optimizers_go_on_with_their_models(way: Copied, name: str) -> None:
    model = Tied()
    optimizer = getattr(optim, name)(model.parameters(), lr=0.01)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
    _step(model, optimizer)
    scheduler.step()
    twin, its_optimizer, its_scheduler = way((model, optimizer, scheduler))
    assert its_optimizer.param_groups[0]["params"][0] is twin.first.weight
    assert its_scheduler.optimizer is its_optimizer
    for model_, optimizer_, scheduler_ in (
        (model, optimizer, scheduler),
        (twin, its_optimizer, its_scheduler),
    ):
        for _ in range(3):
            _step(model_, optimizer_)
            scheduler_.step()
    for ours, theirs in zip(twin.parameters(), model.parameters()):
        assert ours.tolist() == theirs.tolist()
    assert its_scheduler.get_last_lr() == scheduler.get_last_lr() == [0.01 * 0.5**4]


SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, _halved),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.ExponentialLR(o, 0.5)], [2]
    ),
    "chain": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.StepLR(o, 2), lr_scheduler.ExponentialLR(o, 0.5)]
    ),
}


@each_way
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(way: Copied, name: str) -> None:
    optimizer = optim.SGD([nn.Parameter(lucid.ones(1))], lr=0.1)
    scheduler = SCHEDULES[name](optimizer)
    optimizer.step()
    scheduler.step()
    twin = way(scheduler)
    for _ in range(4):
        twin.step()
        scheduler.step()
        assert twin.get_last_lr() == scheduler.get_last_lr()


AVERAGES: dict[str, dict[str, Any]] = {
    "equal": {},
    "ema": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.5)},
    "ema_warmup": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.5, warmup=True)},
    "ema_one": {"avg_fn": swa_utils.get_ema_avg_fn(0.5)},
    "swa": {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()},
    "swa_one": {"avg_fn": swa_utils.get_swa_avg_fn()},
}


@each_way
@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_models(way: Copied, name: str) -> None:
    model = nn.Linear(2, 2)
    averaged = swa_utils.AveragedModel(model, **AVERAGES[name])
    averaged.update_parameters(model)
    twin = way(averaged)
    with lucid.no_grad():
        model.weight.add_(1)
    averaged.update_parameters(model)
    twin.update_parameters(model)
    assert twin.module.weight.tolist() == averaged.module.weight.tolist()


# -- data -----------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_and_datasets(way: Copied, workers: int) -> None:
    images = data.load_images("digits", size=16, validation=0.1, limit=20)
    pairs = data.ConcatDataset([images.train, images.test])
    for dataset in (images.train, pairs):
        loader = data.DataLoader(
            dataset, 8, shuffle=True, transform=images.augmentation, num_workers=workers
        )
        twin = way(loader)
        batches = []
        for one in (loader, twin):
            lucid.manual_seed(3)
            batches.append([[part.tolist() for part in batch] for batch in one])
        assert batches[0] == batches[1]


def _folder(root: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    for number, array in enumerate(pixels):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image.fromarray(array).save(path)
    return root


@each_way
@pytest.mark.parametrize("augment", ["none", "light", "strong", "rand-m9-mstd0.5-inc1"])
def test_datasets_of_files_with_their_transforms(way: Copied, augment: str, tmp_path: Path) -> None:
    transform = transforms.training(augment, size=16)
    folder = data.datasets.ImageFolder(_folder(tmp_path), transform)
    for dataset in (folder, data.Cached(folder), data.readable([folder])[0]):
        assert len(dataset) == 4
        twin = way(dataset)
        drawn = []
        for one in (dataset, twin):
            lucid.manual_seed(3)
            drawn.append([one[0][0].tolist(), one[1][0].tolist()])
        assert drawn[0] == drawn[1]


@each_way
def test_generators(way: Copied) -> None:
    generator = lucid.manual_seed(5)
    twin = way(generator)
    assert twin.random(3).tolist() == generator.random(3).tolist()


@each_way
def test_evaluations_and_recipes(way: Copied) -> None:
    recipe = training.Recipe(epochs=3)
    assert way(recipe) == recipe
    seen = training.Evaluation(np.eye(3), np.array([0, 1, 1]), ["a", "b", "c"])
    assert way(seen).document() == seen.document()


# -- what cannot be -------------------------------------------------------------------------------


def test_what_cannot_be_copied_says_why(tmp_path: Path) -> None:
    recipe = training.Recipe(epochs=1, size=32, limit=20)
    with training.Run.create(tmp_path / "run", recipe) as run:
        for way in (*WAYS.values(), copy.copy):
            with pytest.raises(TypeError, match=r"Run cannot be .* files: copy run\.model"):
                way(run)
    model = nn.Identity()
    model.made = lucid.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="leaves only: this tensor is the result of Mul"):
        copy.deepcopy(model)


# -- other processes ------------------------------------------------------------------------------


def _answer(parts: tuple[Any, ...]) -> Any:
    model, x = parts
    with lucid.no_grad():
        return model(x), model


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_models_go_through_multiprocessing(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not of this system")
    model = _network().eval()
    compiled = lucid.compile(model, (2, 3, 8, 8))
    x = lucid.randn(2, 3, 8, 8)
    expected = model(x).data
    with multiprocessing.get_context(method).Pool(1) as pool:
        (first, twin), (second, _) = pool.map(_answer, [(model, x), (compiled, x)])
    np.testing.assert_allclose(first.data, expected, atol=1e-5)
    np.testing.assert_allclose(second.data, expected, atol=1e-5)
    assert twin(x).shape == expected.shape


@pytest.mark.slow
def test_models_go_through_joblib() -> None:
    joblib = pytest.importorskip("joblib")
    model = nn.Linear(2000, 300)  # large arrays come to the worker as read-only files
    x = lucid.randn(2, 2000)
    jobs = [joblib.delayed(_answer)((model, x))] * 2
    for result, twin in joblib.Parallel(n_jobs=2, max_nbytes=1000)(jobs):
        np.testing.assert_allclose(result.data, model(x).data, rtol=1e-4, atol=1e-5)
        with lucid.no_grad():
            twin.weight.add_(1)
