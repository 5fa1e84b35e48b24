"""losses -> checkpoints: one training loop, sharded by rules on paths; the only room with a mesh."""

from jaxembed.train.bilevel import bilevel_update
from jaxembed.train.checkpoint import restore_params
from jaxembed.train.fit import fit
from jaxembed.train.gradients import by_path, ema, frozen, gradient_update, warm_start
from jaxembed.train.log import read_metrics
from jaxembed.train.members import fit_members
from jaxembed.train.mesh import make_mesh, path_shardings, place_batch
from jaxembed.train.stages import staged
from jaxembed.train.step import TrainState, compile_step, replay
from jaxembed.train.sweep import sweep

__all__ = [
    "TrainState",
    "bilevel_update",
    "by_path",
    "compile_step",
    "ema",
    "fit",
    "fit_members",
    "frozen",
    "gradient_update",
    "make_mesh",
    "path_shardings",
    "place_batch",
    "read_metrics",
    "replay",
    "restore_params",
    "staged",
    "sweep",
    "warm_start",
]
