"""Batches are shuffled, flipped and shifted by seed and number alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hwprof.search.data import Batches, DataError, Images, Normalisation  # noqa: E402
from hwprof.search.data.batches import evaluation_batches  # noqa: E402

PLAIN = Normalisation((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # leaves 0 to 255


def numbered(count: int, height: int = 6, width: int = 5) -> Images:
    """Every pixel of every image another value above 0."""
    values = torch.arange(1, count * height * width + 1) % 251 + 1
    pixels = values.view(count, height, width, 1).expand(-1, -1, -1, 3).to(torch.uint8)
    return Images(pixels, torch.arange(count), tuple(map(str, range(count))))


def test_every_epoch_has_every_image_once_in_another_order() -> None:
    batches = Batches(numbered(12), PLAIN, 4)
    assert batches.steps_per_epoch == 3
    epochs = [[int(v) for s in range(3) for v in batches.at(3 * e + s)[1]] for e in range(3)]
    for labels in epochs:
        assert sorted(labels) == list(range(12))
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    images = numbered(12)
    first, second, other = (Batches(images, PLAIN, 4, seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(0)
    expected = [first.at(step) for step in range(6)]
    torch.manual_seed(1)
    for step in (5, 0, 3):
        got = second.at(step)
        assert torch.equal(got[0], expected[step][0])
        assert torch.equal(got[1], expected[step][1])
    assert not torch.equal(other.at(0)[1], expected[0][1])


def test_augmented_images_are_shifts_and_mirrors_of_the_originals() -> None:
    images = numbered(8)
    batches = Batches(images, PLAIN, 8, shift=2)
    seen = set()
    for step in range(60):
        values, labels = batches.at(step)
        for value, label in zip(values[:, 0].round().long(), labels, strict=True):
            original = images.pixels[label, :, :, 0].long()
            seen.add(place_of(value, original))
    assert seen == {(y, x, m) for y in range(-2, 3) for x in range(-2, 3) for m in (False, True)}


def place_of(image: torch.Tensor, original: torch.Tensor) -> tuple[int, int, bool]:
    """(down, right, mirrored) that make the image of the original."""
    for mirrored in (False, True):
        whole = torch.nn.functional.pad(original.flip(1) if mirrored else original, (2, 2, 2, 2))
        for y in range(-2, 3):
            for x in range(-2, 3):
                if torch.equal(whole[2 + y : 8 + y, 2 + x : 7 + x], image):
                    return y, x, mirrored
    raise AssertionError("no shift or mirror of the original")


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = numbered(6)
    values, labels = Batches(images, PLAIN, 6, shift=0, flip=False).at(4)
    expected = images.pixels[labels].permute(0, 3, 1, 2).float()
    assert torch.allclose(values, expected, atol=1e-3)


def test_evaluation_takes_every_image_once_in_order() -> None:
    images = numbered(7)
    batches = list(evaluation_batches(images, PLAIN, 3))
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(7))


def test_pixels_are_scaled_to_mean_0_and_deviation_1() -> None:
    images = numbered(5)
    values = Normalisation.of(images).apply(images.pixels)
    assert values.mean((0, 2, 3)).abs().max() < 1e-4
    assert values.std((0, 2, 3), correction=0).tolist() == pytest.approx([1.0] * 3, rel=1e-4)
    black = Images(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(2), ("a",))
    assert Normalisation.of(black).apply(black.pixels).abs().max() == 0


@pytest.mark.parametrize("size", [0, 13])
def test_a_batch_larger_than_the_data_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"a batch of {size} images cannot be taken from 12"):
        Batches(numbered(12), PLAIN, size)
