"""vectors <-> images: noise schedules, losses that train denoisers, and samplers that run them."""

from jaxembed.diffusion.canvas import (
    gather_windows,
    interpolate_grid,
    sample_canvas,
    scatter_mean,
    window_origins,
    window_weights,
)
from jaxembed.diffusion.edm import edm_loss, edm_sigmas, precondition, sample_heun, sigma_denoiser
from jaxembed.diffusion.embeddings import (
    embedding_prior,
    embedding_tokens,
    init_embedding_prior,
    init_embedding_tokens,
)
from jaxembed.diffusion.features import diffusion_features
from jaxembed.diffusion.guidance import guided
from jaxembed.diffusion.objectives import denoising_loss, denoising_weights
from jaxembed.diffusion.process import convert, noised, schedule, schedule_of
from jaxembed.diffusion.sampling import ddim_step, ddpm_step, sample, timesteps

__all__ = [
    "convert",
    "ddim_step",
    "ddpm_step",
    "denoising_loss",
    "denoising_weights",
    "diffusion_features",
    "edm_loss",
    "edm_sigmas",
    "embedding_prior",
    "embedding_tokens",
    "gather_windows",
    "guided",
    "init_embedding_prior",
    "init_embedding_tokens",
    "interpolate_grid",
    "noised",
    "precondition",
    "sample",
    "sample_canvas",
    "sample_heun",
    "scatter_mean",
    "schedule",
    "schedule_of",
    "sigma_denoiser",
    "timesteps",
    "window_origins",
    "window_weights",
]
