"""vectors <-> images: noise schedules, losses that train denoisers, and samplers that run them."""

from jaxembed.diffusion.edm import edm_loss, edm_sigmas, precondition, sample_heun, sigma_denoiser
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
    "guided",
    "noised",
    "precondition",
    "sample",
    "sample_heun",
    "schedule",
    "schedule_of",
    "sigma_denoiser",
    "timesteps",
]
