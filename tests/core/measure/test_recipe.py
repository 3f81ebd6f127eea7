"""Interpreters of their own: what is refused, what is left as it is. Making one needs pip's network: CI
does it with `hwprof make-interpreter`."""

import pytest

from hwprof.errors import BuildError
from hwprof.measure import recipe
from hwprof.measure.recipe import RECIPES, make_interpreter


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(BuildError, match="'tensorflow' is unknown; choose of tflite-runtime"):
        make_interpreter("tensorflow")


def test_interpreter_that_is_there_and_works_is_left_as_it_is(other_python, monkeypatch):
    only_numpy = recipe.Recipe((3, 11), ("numpy",), "numpy.linalg", "")
    monkeypatch.setitem(RECIPES, "tflite-runtime", only_numpy)
    monkeypatch.setattr(recipe, "_run", lambda *_: pytest.fail("made anew"))
    assert make_interpreter("tflite-runtime", other_python.parent.parent) == other_python


def test_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(BuildError, match="holds something else"):
        make_interpreter("tflite-runtime", tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def test_base_that_is_no_python_is_told_in_one_line(tmp_path):
    with pytest.raises(BuildError, match="made no environment") as caught:
        make_interpreter("tflite-runtime", tmp_path / "new", tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_pip_that_fails_is_told_with_its_last_line(tmp_path, monkeypatch):
    impossible = recipe.Recipe(RECIPES["tflite-runtime"].version, ("./no-such-folder",), "numpy", "")
    monkeypatch.setitem(RECIPES, "tflite-runtime", impossible)
    monkeypatch.setattr(
        recipe, "_find_base", lambda _: __import__("pathlib").Path(recipe.sys.executable)
    )
    with pytest.raises(BuildError, match=r"pip could not install ./no-such-folder: \S+"):
        make_interpreter("tflite-runtime", tmp_path / "new")
