"""A model may do one thing with few images and another with many: each batch is as it would be."""

import numpy as np
import pytest

import lucid
from lucid.graph import leaves
from lucid.nn import functional
from tests.compile.test_blanks import Of


def refused(y):
    if len(y) < 3:
        raise TypeError("too few")
    return y


LOOKS = {
    "squeezed": lambda y: y.mean((2, 3), keepdim=True).squeeze(),
    "otherwise for few": lambda y: y * 2 if len(y) < 3 else y,
    "otherwise for odd": lambda y: y * 2 if len(y) % 2 else y,
    "of few no pair": lambda y: (y, y) if len(y) > 2 else y,
    "another name for few": lambda y: {"many" if len(y) > 2 else "few": y},
    "another dtype for few": lambda y: y if len(y) > 2 else y.double(),
    "how many": lambda y: (y, len(y)),
    "not without the fourth": lambda y: y + y[3],
    "not of few": refused,
    "of few by a choice": lambda y: y if len(y) > 2 else y * 2 * float(y.mean() > -100),
    "at all by shares": lambda y: y.softmax(0),
    "at all joined": lambda y: lucid.cat([y, y], 0)[1 : 1 + len(y)],
    "at a product of all": lambda y: y.mean((2, 3)) @ y.mean((2, 3)).transpose(0, 1),
    "at images put before": lambda y: functional.pad(y, (0, 0, 0, 0, 0, 0, 1, 0))[:-1],
    "by channels": lambda y: lucid.cat([y.softmax(1), y.sigmoid()], 1).log_softmax(-3),
    "by places": lambda y: functional.layer_norm(
        functional.max_pool2d(functional.pad(y, (1, 1)), 2), (3, 4)
    ).sum((1, 3)),
    "by products": lambda y: functional.elu(y @ y.transpose(2, 3)).mean(3),
    "of few by chance": lambda y: y if len(y) > 2 else y + 0 * lucid.randn(1),
}


@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("largest", [4, 16])
def test_each_batch_is_as_the_model_has_it(looks, largest, threads):
    model = Of(lambda y, x: LOOKS[looks](y)).eval()
    compiled = lucid.compile(model, (largest, 3, 8, 8))
    for count in (largest, *range(1, largest)):
        x = lucid.randn(count, 3, 8, 8)
        try:
            with lucid.no_grad():
                expected = model(x)
        except (IndexError, TypeError) as error:
            with pytest.raises(type(error)):
                compiled(x)
            continue
        result = compiled(x)
        for one, other in zip(leaves(result), leaves(expected), strict=True):
            if not isinstance(other, lucid.Tensor):
                assert one == other
                continue
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            np.testing.assert_allclose(one.data, other.data, rtol=1e-4, atol=1e-5)
        assert type(result) is type(expected)
        assert not isinstance(result, dict) or result.keys() == expected.keys()
