"""Linear operators are not differentiable, and say so."""

import pytest

import eckart
from zoo import normal

pytestmark = pytest.mark.needs("grad")


@pytest.mark.needs("grad")
def test_derivative_with_respect_to_an_operator_is_refused(backend):
    """It has none, and a silent zero would be wrong."""

    def total(array):
        operator = eckart.operator(
            array.shape, lambda X: array @ X, lambda X: array.mT @ X, like=array
        )
        return eckart.truncated_svd(operator, 2).S[0]

    with pytest.raises(TypeError, match=r"linear operator, which is not differentiable.*detach"):
        backend.gradient(total, backend.asarray(normal((12, 9), "float32", 0), "float32"))
