"""Gates: what the probabilities, logits and points of a search space look like as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwprof.errors import SpaceError


class Gates(nn.Module):
    """Shapes of a space whose positions differ in their number of choices: shorter ones are padded.

    Args:
        name: of the space, for errors.
        positions: name of each position.
        widths: number of choices of each position.

    Attributes:
        shape: (positions, most choices of one).
        mask: of that shape, True where the position has such a choice.
    """

    mask: Tensor
    _padding: Tensor
    _widths: Tensor
    _searched: Tensor
    _places: Tensor
    _certain: Tensor

    def __init__(self, name: str, positions: Sequence[str], widths: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        self.positions = tuple(positions)
        self.widths = tuple(widths)
        self.shape = (len(self.widths), max(self.widths))
        counts = torch.tensor(self.widths)
        mask = torch.arange(self.shape[1]) < counts[:, None]
        searched = mask & (counts > 1)[:, None]
        certain = torch.zeros(self.shape, dtype=torch.float64)
        certain[:, 0] = (counts == 1).double()
        self._full = bool(searched.all())
        self._padded = not bool(mask.all())
        buffers = {
            "mask": mask,
            "_padding": ~mask,
            "_widths": counts,
            "_searched": searched,
            "_places": searched.flatten().nonzero().flatten(),
            "_certain": certain,
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def whole(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Probabilities of shape (..., positions, max choices), 0 in the padding and 1 where a position
        has one choice, whatever was given there.

        Raises:
            SpaceError: the shape does not fit the space.
        """
        if isinstance(probabilities, Tensor):
            self._check_shape("probabilities", probabilities)
            if self._full:
                return probabilities
            return torch.where(self._searched, probabilities, self._certain)
        joined = self._join(probabilities)
        whole = self._certain.flatten().expand(*joined.shape[:-1], -1).to(joined.dtype)
        whole = whole.index_copy(-1, self._places, joined)
        return whole.reshape(*joined.shape[:-1], *self.shape)

    def probabilities(self, logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """Softmax over the choices of each position; padding gets exactly 0 and no gradient.

        Args:
            logits: of shape (..., positions, max choices).
            temperature: above 0; small values sharpen.

        Raises:
            SpaceError: the shape does not fit the space, or the temperature is not above 0.
        """
        self._check_shape("logits", logits)
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise SpaceError(f"temperature must be above 0, got {temperature}")
        if isinstance(temperature, Tensor) or temperature != 1.0:
            logits = logits / temperature
        if self._padded:
            logits = logits.masked_fill(self._padding, -torch.inf)
        return logits.softmax(-1)

    def checked_points(self, points: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Choice indices of shape (..., positions) as int64 on the module's device.

        Raises:
            SpaceError: a wrong length, a type other than integer, or an index that is no choice.
        """
        points = torch.as_tensor(points, device=self.mask.device)
        count = self.shape[0]
        if points.is_floating_point() or points.is_complex() or points.dtype == torch.bool:
            raise SpaceError(f"choice indices are integers, got {points.dtype}")
        if points.ndim == 0 or points.shape[-1] != count:
            raise SpaceError(
                f"{self.name} has {count} positions; points of shape {tuple(points.shape)} do not "
                f"end in {count}"
            )
        points = points.long()
        wrong = (points < 0) | (points >= self._widths)
        if wrong.any():
            place = wrong.nonzero()[0]
            position = int(place[-1])
            raise SpaceError(
                f"{self.name} {self.positions[position]}: choice {int(points[tuple(place)])} is not one "
                f"of 0 to {self.widths[position] - 1}"
            )
        return points

    def _check_shape(self, what: str, tensor: Tensor) -> None:
        if tensor.shape[-2:] != self.shape:
            raise SpaceError(
                f"{what} of {self.name} have shape (..., {self.shape[0]}, {self.shape[1]}) "
                f"(positions, most choices of one), got {tuple(tensor.shape)}"
            )

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """The searched positions' probabilities side by side."""
        widths = tuple(int(part.shape[-1]) if part.ndim else 0 for part in parts)
        if widths != self.widths:
            raise SpaceError(self._why_not(widths))
        batches = {tuple(part.shape[:-1]) for part in parts}
        if len(batches) > 1:
            raise SpaceError(
                f"probabilities of the positions differ in their batch shapes: {sorted(batches)}"
            )
        searched = [part for part in parts if part.shape[-1] > 1]
        return torch.cat(searched, -1) if searched else parts[0][..., :0]

    def _why_not(self, widths: tuple[int, ...]) -> str:
        """The first position whose number of probabilities is wrong."""
        if len(widths) != len(self.widths):
            return f"{self.name} has {len(self.widths)} positions, got probabilities of {len(widths)}"
        index = next(i for i, width in enumerate(widths) if width != self.widths[i])
        where = f"{self.name} {self.positions[index]}"
        return f"{where} has {self.widths[index]} choices, got {widths[index]} probabilities"
