"""The superkernel search of S3NAS: a supernet with nested gates, its training, and the networks
found."""

from hwprof.search.supernet.checkpoint import CheckpointInfo, checkpoint_info
from hwprof.search.supernet.ema import Ema
from hwprof.search.supernet.errors import CheckpointError, TrainingError
from hwprof.search.supernet.evaluate import correct_predictions, recalibrate
from hwprof.search.supernet.inherit import inherit
from hwprof.search.supernet.network import Network
from hwprof.search.supernet.phase import Phase, Recipe, s3nas_recipe, search_phase, warm_phase
from hwprof.search.supernet.rmsprop import RMSProp
from hwprof.search.supernet.supernet import Supernet
from hwprof.search.supernet.training import Constraint, Progress, Steps, Training, seeded

__all__ = [
    "CheckpointError", "CheckpointInfo", "Constraint", "Ema", "Network", "Phase", "Progress", "RMSProp",
    "Recipe", "Steps", "Supernet", "Training", "TrainingError", "checkpoint_info", "correct_predictions",
    "inherit", "recalibrate", "s3nas_recipe", "search_phase", "seeded", "warm_phase",
]  # fmt: skip
