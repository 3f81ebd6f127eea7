"""Training goes through its phases, stops at numbers that are none, and goes on after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hwprof.search import make_loss  # noqa: E402 - torch is optional
from hwprof.search.supernet import (  # noqa: E402
    CheckpointError,
    Progress,
    Recipe,
    Supernet,
    Training,
    TrainingError,
    checkpoint_info,
    s3nas_recipe,
    search_phase,
    warm_phase,
)
from hwprof.search.supernet.phase import Phase  # noqa: E402
from hwprof.space import Space, load_space  # noqa: E402

WIDEST = 2.0 + 3.0 + 3.0


@pytest.fixture
def new_training(tiny: Space, batches: Any) -> Callable[..., Training]:
    """A training whose latency is the number of hidden channels over 32."""

    def latency(gates: Any) -> Any:
        costs = torch.zeros(gates.shape)
        for place, position in enumerate(tiny.positions[1:-1], start=1):
            for number, choice in enumerate(position.choices):
                costs[place, number] = sum(c for _, c in choice.ops[0].mix) / 32 if choice.ops else 0
        return (gates * costs).sum()

    def make(target: float = 3.0, loss: str = "log_hinge", **settings: Any) -> Training:
        torch.manual_seed(0)
        recipe = Recipe(0.004, 10, **{"ema_decay": 0.9, **settings.pop("recipe", {})})
        return Training(
            Supernet(tiny, seed=1), batches, recipe,
            latency=latency, constraint=make_loss(loss, target), **settings,
        )  # fmt: skip

    return make


def state_of(training: Training) -> dict[str, Any]:
    state = {f"net.{k}": v.clone() for k, v in training.supernet.state_dict().items()}
    weights = [weight for group in training.optimizer.param_groups for weight in group["params"]]
    for number, weight in enumerate(weights):
        slots = training.optimizer.state[weight]
        state |= {f"slot.{number}.{k}": v.clone() for k, v in slots.items()}
    return state | {f"ema.{k}": v.clone() for k, v in training.ema.values.items()}


def steps(training: Training, phase: Phase, count: int) -> list[Progress]:
    """So many steps of a phase, then as if killed."""
    run = training.run(phase)
    return [next(run) for _ in range(count)]


@pytest.mark.parametrize("make_phase", [warm_phase, search_phase])
@pytest.mark.parametrize("loss", ["log_hinge", "multiplier"])
def test_three_steps_and_three_after_a_kill_are_six_steps_bit_by_bit(
    new_training: Callable[..., Training], tmp_path: Path, make_phase: Any, loss: str
) -> None:
    phase = make_phase(6)
    whole = new_training(loss=loss)
    expected = steps(whole, phase, 6)
    first = new_training(loss=loss)
    steps(first, phase, 3)
    first.save(tmp_path / "checkpoint.safetensors")
    steps(first, phase, 2)  # lost
    resumed = new_training(loss=loss, seed=99)  # the checkpoint's seed counts
    resumed.load(tmp_path / "checkpoint.safetensors")
    assert list(resumed.run(phase)) == expected[3:]
    one, other = state_of(whole), state_of(resumed)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_what_else_draws_random_numbers_does_not_change_a_run(
    new_training: Callable[..., Training],
) -> None:
    first, second = new_training(), new_training()
    one = steps(first, warm_phase(3), 3)
    before = torch.get_rng_state()
    other = []
    for progress in second.run(warm_phase(3)):
        assert torch.equal(torch.get_rng_state(), before)
        before = torch.manual_seed(progress.step).get_state()
        other.append(progress)
    assert one == other


def test_the_warm_phase_leaves_thresholds_alone_and_every_gate_open(
    new_training: Callable[..., Training],
) -> None:
    training = new_training()
    progress = list(training.run(warm_phase(5)))
    thresholds = training.supernet.parameter_groups()[2]["params"][0]
    assert thresholds.tolist() == [0.0] * 5
    assert (training.supernet.margins() > 0).all()
    assert [p.latency for p in progress] == [None] * 5
    assert [p.phase_step for p in progress] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("loss", ["log_hinge", "multiplier"])
def test_one_warm_checkpoint_serves_two_targets_and_the_search_ends_near_each(
    new_training: Callable[..., Training], tmp_path: Path, loss: str
) -> None:
    warm = new_training()
    list(warm.run(warm_phase(4)))
    warm.save(tmp_path / "warm.safetensors")
    for target in (6.2, 4.2):
        training = new_training(target, loss)
        training.load(tmp_path / "warm.safetensors")
        seen = [p.latency for p in training.run(search_phase(40))]
        assert training.step == 44
        assert seen[0] == WIDEST
        # A gate is worth 1, 1.5 or 3.
        if loss == "log_hinge":
            assert target - 3.0 < seen[-1] <= target
        else:
            assert min(abs(value - target) for value in seen[-10:]) <= 1.0


def test_training_learns(new_training: Callable[..., Training]) -> None:
    training = new_training(recipe={"ema_decay": None})
    training.recipe = Recipe(0.02, 100)
    seen = list(training.run(warm_phase(60), report_every=10))
    assert seen[-1].cross_entropy < seen[0].cross_entropy - 0.3
    assert [p.step for p in seen] == [10, 20, 30, 40, 50, 60]


def test_bfloat16_trains_in_both_phases_and_keeps_weights_and_gates_in_float32(
    new_training: Callable[..., Training],
) -> None:
    training = new_training(recipe={"bfloat16": True, "ema_decay": None})
    seen = [*training.run(warm_phase(2)), *training.run(search_phase(2))]
    assert [p.phase for p in seen] == ["warm", "warm", "search", "search"]
    assert {p.dtype for p in training.supernet.parameters()} == {torch.float32}
    assert training.supernet.gates().dtype == torch.float32
    exact = new_training(recipe={"ema_decay": None})
    expected = next(exact.run(warm_phase(2)))
    assert seen[0].loss == pytest.approx(expected.loss, rel=0.02)
    assert seen[0].loss != expected.loss


def test_a_loss_that_is_no_number_stops_training_and_names_the_last_good_checkpoint(
    new_training: Callable[..., Training], tmp_path: Path
) -> None:
    training = new_training()
    path = tmp_path / "good.safetensors"
    run = training.run(warm_phase(9), report_every=2)
    next(run)
    training.save(path)
    good = path.read_bytes()
    with torch.no_grad():
        training.supernet.head.classifier.weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"is not finite after step 2 .*good.safetensors \(step 2\)"):
        training.save(path)
    with pytest.raises(TrainingError) as caught:
        next(run)
    for words in ("loss is nan", "warm phase, steps 3 to 4", f"{path} (step 2)", "learning rate"):
        assert words in str(caught.value)
    assert path.read_bytes() == good
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_space_is_refused_and_of_another_batch_size_is_not(
    new_training: Callable[..., Training], batches: Any, tiny: Space, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.safetensors"
    new_training().save(path)
    other = Supernet(load_space("s3nas-cifar"))
    with pytest.raises(CheckpointError, match=r"is of space tiny \(.*the search is over s3nas-cifar"):
        Training(other, batches, Recipe(0.1, 1)).load(path)
    same = Supernet(tiny.with_options(8, "float32"))
    Training(same, batches, Recipe(0.1, 1)).load(path)


def test_averaged_weights_must_be_in_the_checkpoint_that_they_are_wanted_from(
    new_training: Callable[..., Training], tmp_path: Path
) -> None:
    path = tmp_path / "none.safetensors"
    new_training(recipe={"ema_decay": None}).save(path)
    with pytest.raises(CheckpointError, match="no averaged weights; leave ema_decay out"):
        new_training().load(path)


def test_a_checkpoint_says_what_it_is_and_holds_no_pickle(
    new_training: Callable[..., Training], tmp_path: Path, tiny: Space
) -> None:
    training = new_training(seed=5)
    steps(training, warm_phase(9), 2)
    path = tmp_path / "it.safetensors"
    training.save(path)
    info = checkpoint_info(path)
    assert (info.space, info.space_hash) == ("tiny", tiny.space_hash)
    assert (info.phase, info.phase_step, info.step, info.seed, info.ema_updates) == ("warm", 2, 2, 5, 2)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["hwprof_checkpoint"])["step"] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["it.safetensors"]


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "version"])
def test_a_damaged_checkpoint_is_one_line(
    new_training: Callable[..., Training], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "it.safetensors"
    new_training().save(path)
    content = path.read_bytes()
    changed = {
        "missing": b"",
        "text": b"no tensors here",
        "cut": content[: len(content) // 2],
        "version": content.replace(rb"\"version\": 2", rb"\"version\": 9"),
    }[damage]
    assert changed != content
    path.write_bytes(changed)
    if damage == "missing":
        path.unlink()
    with pytest.raises(CheckpointError) as caught:
        new_training().load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_written_is_one_line_and_leaves_nothing(
    new_training: Callable[..., Training], tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "none" / "it", tmp_path / "taken"):
        with pytest.raises(TrainingError, match="cannot be written") as caught:
            new_training().save(path)
        assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_the_search_phase_needs_a_latency(tiny: Space, batches: Any) -> None:
    training = Training(Supernet(tiny), batches, s3nas_recipe(8, 4))
    with pytest.raises(TrainingError, match="needs latency= and constraint="):
        next(training.run(search_phase(3)))


def test_the_recipe_and_phases_are_those_of_s3nas() -> None:
    recipe = s3nas_recipe(1024, 1251)
    assert recipe.rate_at(0) == pytest.approx(0.064)
    assert recipe.rate_at(round(2.4 * 1251)) == pytest.approx(0.064 * 0.97)
    assert recipe.rate_at(round(2.4 * 1251) - 1) == pytest.approx(0.064)
    assert warm_phase(7).clip_norm == 10.0
    assert search_phase(7).clip_norm is None
    for name, count, words in (("train", 1, "'train' is not one of"), ("warm", 0, "1 or more, got 0")):
        with pytest.raises(TrainingError, match=words):
            Phase(name, count)
