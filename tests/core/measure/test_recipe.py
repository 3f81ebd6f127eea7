"""Interpreters of their own: what is refused, what is left as it is. Making one needs pip's network: CI
does it with `hwprof make-interpreter`."""

import subprocess
import sys

import pytest

from hwprof.errors import BuildError
from hwprof.measure import recipe
from hwprof.measure.recipe import RECIPES, make_interpreter


@pytest.fixture
def unreachable(monkeypatch):
    """A recipe for this Python that asks no network for its package, and does not get it."""
    made = recipe.Recipe(sys.version_info[:2], ("./no-such-folder",), "no_such_module", "")
    monkeypatch.setitem(RECIPES, "tflite-runtime", made)


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
    with pytest.raises(BuildError, match="holds something that hwprof did not make"):
        make_interpreter("tflite-runtime", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_users_own_virtual_environment_is_not_cleared(tmp_path, unreachable):
    """`--into .venv` wiped it: a pyvenv.cfg was taken for hwprof's own."""
    folder = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (folder / "mine.txt").write_text("a day of installing")
    with pytest.raises(
        BuildError, match=r"\.venv holds something that hwprof did not make; pass --into"
    ):
        make_interpreter("tflite-runtime", folder)
    assert (folder / "mine.txt").exists()
    assert (folder / "pyvenv.cfg").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_path_that_is_a_file_is_refused_in_one_line(tmp_path, below):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(
        BuildError, match=r"thesis\.tex.* cannot be made a folder: .*; pass --into"
    ) as caught:
        make_interpreter("tflite-runtime", tmp_path / "thesis.tex" / below)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def test_interpreter_whose_making_was_broken_off_is_made_anew(tmp_path, unreachable):
    folder = tmp_path / "new"
    with pytest.raises(BuildError, match="made no environment"):
        make_interpreter("tflite-runtime", folder, tmp_path / "nowhere")
    (folder / "half.whl").write_text("half a wheel")
    with pytest.raises(BuildError, match=r"pip could not install ./no-such-folder: \S+"):
        make_interpreter("tflite-runtime", folder)
    assert (folder / "pyvenv.cfg").exists()
    assert not (folder / "half.whl").exists()


def test_base_that_is_no_python_is_told_in_one_line(tmp_path):
    with pytest.raises(BuildError, match="made no environment") as caught:
        make_interpreter("tflite-runtime", tmp_path / "new", tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
