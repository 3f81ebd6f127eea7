"""A predictor's folder: whole or not there, and never believed without a look."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.prediction import boosted, fit_family, load_predictor, save_predictor, training
from hwprof.prediction import storage as storage_module
from hwprof.prediction.errors import PredictionError

MEMBERS = ("additive", "pairwise", "regressor", "boosted")


@pytest.fixture(scope="module")
def predictors(known, laws, every_point):
    some = every_point[np.random.default_rng(1).permutation(len(every_point))[:60]]
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(training, "STEPS", 60)
        quick.setattr(boosted, "ROUNDS", 40)
        return {name: fitted(known, laws, some, name) for name in MEMBERS}


def fitted(known, laws, some, name):
    truth = laws.pairwise(some)
    return fit_family(known, some, truth, members=(name,), test=(some, truth))


@pytest.mark.parametrize("name", MEMBERS)
def test_what_is_read_back_predicts_the_same(name, predictors, every_point, tmp_path):
    made = predictors[name]
    save_predictor(made, tmp_path / "p")
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == list(storage_module.FILES)
    found = load_predictor(tmp_path / "p")
    assert found.summary() == made.summary()
    mine, theirs = made.predict(every_point), found.predict(every_point)
    for column in ("value", "low", "high"):
        assert np.array_equal(getattr(mine, column), getattr(theirs, column))


def test_a_predictor_is_replaced_whole_and_other_files_never(predictors, tmp_path, monkeypatch):
    folder = tmp_path / "p"
    save_predictor(predictors["additive"], folder)
    save_predictor(predictors["pairwise"], folder)
    assert load_predictor(folder).member.name == "pairwise"
    assert os.listdir(tmp_path) == ["p"]
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: refuse() if ".partial" in str(a) else replace(a, b))
    with pytest.raises(PredictionError, match="could not be written: No space left"):
        save_predictor(predictors["additive"], folder)
    assert load_predictor(folder).member.name == "pairwise"
    assert os.listdir(tmp_path) == ["p"]
    monkeypatch.undo()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(PredictionError, match=r"holds other files \(thesis.tex\)"):
        save_predictor(predictors["additive"], folder)
    with pytest.raises(PredictionError, match="is no folder"):
        save_predictor(predictors["additive"], folder / "thesis.tex")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.safetensors", "of a large model"),
        ("predictor.json", "[1]"),
        ("predictor.json", '{"years": "of work"}'),
        ("predictor.json", "\x00"),
    ],
)
def test_files_that_only_have_a_predictors_names_are_not_replaced(predictors, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(PredictionError, match=f"holds no predictor, and its {name} would be lost; give"):
        save_predictor(predictors["additive"], tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == [content]


def test_a_folder_of_a_predictors_file_name_is_not_removed(predictors, tmp_path):
    save_predictor(predictors["additive"], tmp_path / "p")
    (tmp_path / "p" / "weights.safetensors").unlink()
    (tmp_path / "p" / "weights.safetensors").mkdir()
    with pytest.raises(PredictionError, match=r"holds other files \(weights.safetensors\)"):
        save_predictor(predictors["pairwise"], tmp_path / "p")


def test_a_link_to_a_folder_stays_and_the_folder_it_leads_to_is_replaced(predictors, tmp_path):
    save_predictor(predictors["additive"], tmp_path / "p")
    (tmp_path / "link").symlink_to("p")
    save_predictor(predictors["pairwise"], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "p"]
    assert load_predictor(tmp_path / "p").member.name == "pairwise"
    (tmp_path / "nowhere").symlink_to("nowhere")
    with pytest.raises(PredictionError, match="is no folder"):
        save_predictor(predictors["pairwise"], tmp_path / "nowhere")


def refuse():
    raise OSError(28, "No space left on device")


def test_missing_and_foreign_files_are_told_apart(predictors, tmp_path):
    with pytest.raises(PredictionError, match=r"cannot be read \(No such file"):
        load_predictor(tmp_path)
    save_predictor(predictors["additive"], tmp_path / "p")
    text = (tmp_path / "p" / "predictor.json").read_text()
    (tmp_path / "p" / "predictor.json").write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(PredictionError, match="of version 2, this hwprof reads 1"):
        load_predictor(tmp_path / "p")
    (tmp_path / "p" / "predictor.json").write_text("[" * 100_000)
    with pytest.raises(PredictionError, match="is no JSON object"):
        load_predictor(tmp_path / "p")


def test_weights_of_another_space_or_that_are_not_finite_are_refused(predictors, tmp_path):
    from safetensors.numpy import load_file, save_file

    save_predictor(predictors["additive"], tmp_path / "p")
    path = tmp_path / "p" / "weights.safetensors"
    weights = load_file(path)["weights"]
    for bad in (
        weights[:-1],
        np.full_like(weights, np.nan),
        weights[None],
        weights.astype(np.complex64),
    ):
        path.unlink()
        save_file({"weights": np.ascontiguousarray(bad)}, path)
        with pytest.raises(PredictionError, match="is no predictor, or damaged"):
            load_predictor(tmp_path / "p")


@pytest.mark.parametrize(
    ("spot", "value"),
    [
        (("interval", "factor"), 10**400),
        (("interval", "level"), 7),
        (("interval", "level"), 0.4),
        (("interval", "level"), True),
        (("interval", "coverage"), -3),
        (("member", "constant"), 10**400),
        (("origin", "metric"), 5),
        (("origin", "unit"), [1]),
        (("origin", "networks"), 1.5),
        (("origin", "noise_floor"), "small"),
        (("origin", "environment_id"), None),
        (("tried", 0, "member"), None),
        (("tried", 0, "fit_s"), "long"),
        (("tried", 0, "scores", "mean"), "x"),
        (("tried", 0, "scores", "within"), {"1": "x"}),
        (("test", "coverage"), 1.5),
        (("test", "networks"), -1),
    ],
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else str(part)[:12],
)
def test_a_value_of_the_wrong_type_or_size_is_refused(predictors, tmp_path, spot, value):
    save_predictor(predictors["additive"], tmp_path / "p")
    path = tmp_path / "p" / "predictor.json"
    data = json.loads(path.read_text())
    inner = data
    for key in spot[:-1]:
        inner = inner[key]
    assert inner[spot[-1]] != value
    inner[spot[-1]] = value
    path.write_text(json.dumps(data))
    with pytest.raises(PredictionError, match="is no predictor, or damaged"):
        load_predictor(tmp_path / "p")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_folder_is_one_line_and_never_a_traceback(predictors, tmp_path, data):
    """Bytes changed in either file, and JSON values replaced by others."""
    folder = tmp_path / "p"
    shutil.rmtree(folder, ignore_errors=True)
    save_predictor(predictors[data.draw(st.sampled_from(MEMBERS))], folder)
    path = folder / data.draw(st.sampled_from(storage_module.FILES))
    content = bytearray(path.read_bytes())
    if path.suffix == ".json" and data.draw(st.booleans()):
        tree = json.loads(content)
        spot = tree
        while True:
            key = data.draw(st.sampled_from(list(spot) if isinstance(spot, dict) else range(len(spot))))
            if isinstance(spot[key], dict | list) and spot[key] and data.draw(st.booleans()):
                spot = spot[key]
                continue
            spot[key] = data.draw(st.sampled_from([None, -1, "x", [], {}, 1e308, [[]], True]))
            break
        content = bytearray(json.dumps(tree).encode())
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.unlink()
    path.write_bytes(content)
    for said in refusals(folder):
        assert "\n" not in said


def refusals(folder):
    """What loading it, and asking what was loaded, is refused with. Other errors pass through."""
    try:
        found = load_predictor(folder)
        found.predict(np.zeros((1, len(found.encoding.positions)), dtype=int))
    except PredictionError as error:
        yield str(error)
