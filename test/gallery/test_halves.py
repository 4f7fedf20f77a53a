"""The fast cast of stored numbers against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.gallery.halves import to_float32


def test_every_number_is_the_one_that_numpy_makes_of_it():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    got, want = to_float32(finite), finite.astype(np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))  # -0.0, too


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 7)])
def test_the_shape_stays_and_the_rows_are_not_touched(shape):
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    before = rows.copy()
    rows.flags.writeable = False
    got = to_float32(rows)
    assert (got.shape, got.dtype) == (shape, np.float32)
    got += 1
    np.testing.assert_array_equal(rows, before)
