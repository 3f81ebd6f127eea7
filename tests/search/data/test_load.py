"""Images come from a Parquet file, a folder or a Dataset, split by seed, with errors that name the
culprit."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

import pyarrow as pa  # noqa: E402 - after the optional ones
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from hwprof.search.data import DataError, Splits, load_images, split_datasets  # noqa: E402

CLASSES = ("red", "green", "blue")
COLOURS = ((220, 30, 30), (30, 220, 30), (30, 30, 220))
CIFAR = Path(__file__).parents[4] / "shared" / "data" / "cifar10.parquet"


def jpeg(label: int, number: int = 0, size: tuple[int, int] = (12, 8)) -> bytes:
    """Of the class's colour, a little brighter with each number."""
    colour = tuple(min(255, value + number) for value in COLOURS[label])
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of 60 training and 12 test images, with columns changed on request."""

    def write(metadata: bool = True, drop: str = "", **columns: Any) -> Path:
        labels = [number % 3 for number in range(72)]
        values: dict[str, Any] = {
            "jpeg": [jpeg(label, number) for number, label in enumerate(labels)],
            "label": labels,
            "split": ["train"] * 60 + ["test"] * 12,
        }
        values |= columns
        values.pop(drop, None)
        table = pa.table(values)
        if metadata:
            table = table.replace_schema_metadata({"classes": ",".join(CLASSES)})
        path = tmp_path / "images.parquet"
        pq.write_table(table, path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes PART/CLASS/N.jpg; no parts: CLASS/N.jpg."""

    def write(*parts: str, count: int = 20, classes: tuple[str, ...] = CLASSES) -> Path:
        for part in parts or ("",):
            for label, name in enumerate(classes):
                place = tmp_path / "images" / part / name
                place.mkdir(parents=True)
                for number in range(count):
                    (place / f"{number:02}.jpg").write_bytes(jpeg(label, number))
        return tmp_path / "images"

    return write


def colours(images: Any) -> list[int]:
    """The class that each image's colour says."""
    return [int(c) for c in images.pixels.float().mean((1, 2)).argmax(1)]


def test_a_parquet_of_jpegs_is_split_with_its_labels(parquet: Callable[..., Path]) -> None:
    splits = load_images(parquet(), (8, 12), classes=3)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (54, 6, 12)
    assert splits.classes == CLASSES
    for part in (splits.train, splits.validation, splits.test):
        assert part.pixels.dtype == torch.uint8
        assert part.pixels.shape[1:] == (8, 12, 3)
        assert part.labels.tolist() == colours(part)
    assert sorted(splits.validation.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert len(splits.whole_train().train) == 60


def pixels(images: Any) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.pixels}


def test_no_image_is_in_two_parts_and_the_seed_says_which_is_where(
    parquet: Callable[..., Path],
) -> None:
    path = parquet()
    one, same, other = (load_images(path, (8, 12), seed=seed) for seed in (1, 1, 2))
    assert not pixels(one.train) & pixels(one.validation)
    assert not pixels(one.train) & pixels(one.test)
    assert torch.equal(one.train.pixels, same.train.pixels)
    assert pixels(one.validation) != pixels(other.validation)
    assert pixels(one.test) == pixels(other.test)


def test_a_limit_leaves_each_class_its_share_and_a_larger_one_holds_a_smaller_one(
    parquet: Callable[..., Path],
) -> None:
    path = parquet()
    few, more = (load_images(path, (8, 12), limit=limit, validation_share=0.5) for limit in (12, 24))
    assert len(few.train) == len(few.validation) == 6
    assert np.bincount(few.train.labels).tolist() == [2, 2, 2]
    whole = [pixels(s.train) | pixels(s.validation) for s in (few, more)]
    assert whole[0] < whole[1]
    assert len(few.test) == 12


def test_without_split_and_class_names_a_sixth_is_the_test(parquet: Callable[..., Path]) -> None:
    splits = load_images(parquet(metadata=False, drop="split"), (8, 12))
    assert (len(splits.test), len(splits.validation), len(splits.train)) == (12, 6, 54)
    assert splits.classes == ("0", "1", "2")


def test_validation_images_of_the_source_are_taken_as_they_are(parquet: Callable[..., Path]) -> None:
    parts = ["train"] * 48 + ["validation"] * 12 + ["test"] * 12
    splits = load_images(parquet(split=parts), (8, 12))
    assert (len(splits.train), len(splits.validation)) == (48, 12)


def test_a_limit_is_for_train_and_the_sources_own_validation_together(
    parquet: Callable[..., Path],
) -> None:
    path = parquet(split=["train"] * 48 + ["validation"] * 12 + ["test"] * 12)
    whole, all_of_it, more, few = (
        load_images(path, (8, 12), limit=limit) for limit in (None, 60, 30, 15)
    )
    sizes = [(len(splits.train), len(splits.validation)) for splits in (whole, all_of_it, more, few)]
    assert sizes == [(48, 12), (48, 12), (24, 6), (12, 3)]
    assert np.bincount(few.validation.labels).tolist() == [1, 1, 1]
    assert pixels(few.validation) < pixels(more.validation) < pixels(whole.validation)
    assert pixels(few.train) < pixels(more.train) < pixels(whole.train)
    assert torch.equal(whole.validation.pixels, all_of_it.validation.pixels)
    assert len(few.test) == 12


def test_the_normalisation_is_of_the_training_images(parquet: Callable[..., Path]) -> None:
    splits = load_images(parquet(), (8, 12))
    values = splits.normalisation.apply(splits.train.pixels)
    assert values.shape == (54, 3, 8, 12)
    assert values.is_contiguous(memory_format=torch.channels_last)
    assert values.mean((0, 2, 3)).abs().max() < 1e-4
    assert (values.std((0, 2, 3)) - 1).abs().max() < 1e-2


def test_images_of_another_size_are_brought_to_the_spaces(parquet: Callable[..., Path]) -> None:
    odd = [jpeg(number % 3, size=(40 + number, 30)) for number in range(72)]
    splits = load_images(parquet(jpeg=odd), (16, 16))
    assert splits.train.pixels.shape[1:] == (16, 16, 3)
    assert splits.train.labels.tolist() == colours(splits.train)


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ()])
def test_a_folder_of_class_folders(folder: Callable[..., Path], parts: tuple[str, ...]) -> None:
    splits = load_images(folder(*parts), (8, 12), classes=3)
    assert splits.classes == ("blue", "green", "red")
    expected = [sorted(CLASSES).index(CLASSES[colour]) for colour in colours(splits.train)]
    assert splits.train.labels.tolist() == expected
    whole = (len(splits.train), len(splits.validation), len(splits.test))
    assert whole == ((54, 6, 60) if parts else (45, 5, 10))


def test_a_broken_image_is_named(parquet: Callable[..., Path], folder: Callable[..., Path]) -> None:
    good = [jpeg(number % 3) for number in range(72)]
    for broken in (b"no image", good[17][:150], b""):
        path = parquet(jpeg=[*good[:17], broken, *good[18:]])
        with pytest.raises(DataError, match=r"images.parquet: row 17 is no image or a broken one"):
            load_images(path, (8, 12))
    place = folder("train", "test")
    (place / "train" / "red" / "03.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/red/03.jpg is no image"):
        load_images(place, (8, 12))


def test_a_class_without_images_is_named(
    parquet: Callable[..., Path], folder: Callable[..., Path]
) -> None:
    parts = ["train"] * 60 + ["test"] * 12
    labels = [number % 3 if number < 60 else number % 2 for number in range(72)]
    with pytest.raises(DataError, match=r"test has no image of class 2 \(blue\)"):
        load_images(parquet(label=labels, split=parts), (8, 12))
    place = folder("train", "test")
    for file in (place / "train" / "green").glob("*"):
        file.unlink()
    with pytest.raises(DataError, match=r"train has no image of class 1 \(green\)"):
        load_images(place, (8, 12))
    (place / "test" / "pink").mkdir()
    with pytest.raises(DataError, match="test/pink is a class that train does not have"):
        load_images(place, (8, 12))


def test_what_stands_in_a_folder_and_cannot_be_read_is_named(folder: Callable[..., Path]) -> None:
    place = folder("train", "test")
    odd = place / "train" / "red" / "x.jpg"
    odd.mkdir()
    with pytest.raises(DataError, match=r"red/x.jpg cannot be read: Is a directory; repair or remove"):
        load_images(place, (8, 12))
    odd.rmdir()
    odd.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"red/x.jpg cannot be read: No such file or directory; repair"):
        load_images(place, (8, 12))


def test_a_folder_that_may_not_be_read_is_named_not_taken_for_an_empty_one(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder("train", "test")
    entries = Path.iterdir

    def forbidden(path: Path) -> Any:
        if path.name == "red":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(DataError, match=r"images/train/red cannot be read: Permission denied; repair"):
        load_images(place, (8, 12))


def test_a_path_that_may_not_be_looked_at_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, **_: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", forbidden)
        with pytest.raises(DataError, match="images cannot be read: Permission denied; give a Parquet"):
            load_images(tmp_path / "images", (8, 12))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drop": "jpeg"}, "no column 'jpeg' .it has label, split"),
        ({"drop": "label"}, "no column 'label'"),
        ({"label": ["a"] * 72}, "column label is string, not an integer"),
        ({"label": [None] * 72}, "row 0 has no label"),
        ({"label": [0, 1, 3] * 24}, "label 3 is not one of 0 to 2"),
        ({"label": [-1, 1, 2] * 24}, "label -1 is not one of 0 to 2"),
        ({"label": pa.array([2**63, 1, 2] * 24, pa.uint64())}, "label 9223372036854775808 is not"),
        ({"split": ["train"] * 71 + ["dev"]}, "split 'dev' is not one of train, validation, test"),
        ({"split": ["test"] * 72}, "no image for train"),
        ({"jpeg": ["x"] * 72}, "column jpeg is string, not binary"),
        ({"jpeg": [], "label": pa.array([], pa.int64()), "split": pa.array([], pa.string())},
         "column jpeg is null|has no rows"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_one_line(
    parquet: Callable[..., Path], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_images(parquet(**changes), (8, 12))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [-1, 72, 100_000])
def test_without_class_names_a_stray_label_makes_no_name_for_every_number_below_it(
    parquet: Callable[..., Path], label: int
) -> None:
    labels = [number % 3 for number in range(71)]
    words = rf"\(72 images without class names\): label {label} is not one of 0 to 71"
    with pytest.raises(DataError, match=words):
        load_images(parquet(metadata=False, label=[*labels, label]), (8, 12))
    items = [(torch.zeros(3, 4, 4), number) for number in (*labels, label)]
    words = rf"item 71 .*72 items and no class names.* has label {label}, not one of 0 to 71"
    with pytest.raises(DataError, match=words):
        split_datasets(Items(items))


def test_of_many_classes_without_images_a_few_are_named(parquet: Callable[..., Path]) -> None:
    labels = [*(number % 3 for number in range(71)), 71]
    with pytest.raises(DataError, match=r"class 3 \(3\), .*, 12 \(12\) and \d+ more; give"):
        load_images(parquet(metadata=False, label=labels), (8, 12))


NOT_UTF8 = pa.array([b"train"] * 71 + [b"\xff"])


@pytest.mark.parametrize(
    "split",
    [
        NOT_UTF8,
        pa.Array.from_buffers(pa.string(), 72, NOT_UTF8.buffers()),
        [["train"]] * 72,
        [{"part": "train"}] * 72,
    ],
    ids=["bytes", "broken text", "lists", "structs"],
)
def test_a_split_that_is_no_text_is_one_line(parquet: Callable[..., Path], split: Any) -> None:
    with pytest.raises(DataError, match=r"column split \(.*\) is not text in UTF-8; give .* test$"):
        load_images(parquet(split=split), (8, 12))


def test_class_names_that_are_not_utf8_are_one_line(parquet: Callable[..., Path]) -> None:
    path = parquet()
    table = pq.read_table(path).replace_schema_metadata({b"classes": b"red,gr\xfcn,blue"})
    pq.write_table(table, path)
    with pytest.raises(DataError, match=r"class names .* b'red,gr\\xfcn,blue', not UTF-8"):
        load_images(path, (8, 12))


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    columns = [pa.array([jpeg(0)]), pa.array([0]), pa.array([0])]
    table = pa.Table.from_arrays(columns, names=["jpeg", "label", "label"])
    pq.write_table(table, tmp_path / "images.parquet")
    with pytest.raises(DataError, match="has several columns 'label'; leave one"):
        load_images(tmp_path / "images.parquet", (8, 12))


def test_what_is_no_data_is_refused(tmp_path: Path, parquet: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="is not there; give a Parquet file"):
        load_images(tmp_path / "none.parquet", (8, 12))
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(DataError, match="is no Parquet file or a broken one"):
        load_images(tmp_path / "text.parquet", (8, 12))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        load_images(tmp_path / "empty", (8, 12))
    with pytest.raises(DataError, match="has 3 classes, the network 10"):
        load_images(parquet(), (8, 12), classes=10)
    with pytest.raises(DataError, match="limit 5 leaves no image of each of 3 classes"):
        load_images(parquet(), (8, 12), limit=5)
    with pytest.raises(DataError, match="validation share must be between 0 and 1"):
        load_images(parquet(), (8, 12), validation_share=1.0)


def test_more_images_than_memory_holds_are_refused(parquet: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"54 images of 2000000x2000000 need .* GiB, more than half"):
        load_images(parquet(), (2_000_000, 2_000_000))


class Items(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_any_dataset_of_tensors_will_do() -> None:
    bright = [(torch.full((3, 4, 4), (n % 3) / 2), n % 3) for n in range(60)]
    splits = split_datasets(Items(bright))
    assert isinstance(splits, Splits)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (45, 5, 10)
    assert splits.train.pixels[:, 0, 0, 0].tolist() == [
        (0, 128, 255)[label] for label in splits.train.labels
    ]
    whole = [(torch.full((3, 4, 4), 100 * (n % 2), dtype=torch.uint8), n % 2) for n in range(8)]
    splits = split_datasets(Items(whole), Items(whole[:4]), validation_share=0.25)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 2, 4)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "the train dataset is empty"),
        ([(torch.zeros(3, 4, 4), 0), (torch.zeros(4, 4), 1)], r"item 1 .* is \(4, 4\), not a tensor"),
        ([("image", 0)], "item 0 of the train dataset is str, not a tensor"),
        ([(torch.randn(3, 4, 4) * 9, 0)], "item 0 .* not normalised"),
        ([(torch.zeros(3, 4, 4), 0), (torch.zeros(3, 5, 4), 1)], "item 1 .* give images of one size"),
    ],
)
def test_an_item_of_another_kind_is_named(items: list[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        split_datasets(Items(items))


@pytest.mark.skipif(not CIFAR.is_file(), reason="the shared CIFAR-10 is not here")
def test_cifar10_as_it_is_shared() -> None:
    splits = load_images(CIFAR, (32, 32), classes=10, limit=200)
    assert splits.classes[3] == "cat"
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (180, 20, 10_000)
    assert np.bincount(splits.validation.labels).tolist() == [2] * 10
    assert splits.normalisation.mean == pytest.approx((0.49, 0.48, 0.45), abs=0.03)
    assert splits.normalisation.deviation == pytest.approx((0.247, 0.243, 0.262), abs=0.02)
