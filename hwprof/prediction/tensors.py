"""Arrays of a member as tensors where a relaxed architecture is: made once for each dtype and device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Tensors:
    """Named arrays; `like` gives them with a tensor's dtype and device."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = dict(arrays)
        self._made: dict[Any, dict[str, Tensor]] = {}

    def like(self, tensor: Tensor) -> dict[str, Tensor]:
        import torch

        key = (tensor.dtype, tensor.device)
        if key not in self._made:
            self._made[key] = {
                name: torch.as_tensor(array, dtype=tensor.dtype, device=tensor.device)
                for name, array in self._arrays.items()
            }
        return self._made[key]
