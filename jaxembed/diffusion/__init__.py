"""vectors <-> images: noise schedules, losses that train denoisers, and samplers that run them."""

from jaxembed.diffusion.edm import edm_loss, edm_sigmas, precondition, sample_heun, sigma_denoiser
from jaxembed.diffusion.guard import (
    Guarded,
    filter_states,
    filter_steps,
    filtered_first,
    leave_one_out,
    safree,
    spectral_damp,
    trigger_tokens,
)
from jaxembed.diffusion.guidance import guided
from jaxembed.diffusion.objectives import denoising_loss, denoising_weights
from jaxembed.diffusion.process import convert, noised, schedule, schedule_of
from jaxembed.diffusion.prompts import decor, prompt_spectrum, rank_part, row_alignment
from jaxembed.diffusion.sampling import ddim_step, ddpm_step, sample, timesteps

__all__ = [
    "Guarded",
    "convert",
    "ddim_step",
    "ddpm_step",
    "decor",
    "denoising_loss",
    "denoising_weights",
    "edm_loss",
    "edm_sigmas",
    "filter_states",
    "filter_steps",
    "filtered_first",
    "guided",
    "leave_one_out",
    "noised",
    "precondition",
    "prompt_spectrum",
    "rank_part",
    "row_alignment",
    "safree",
    "sample",
    "sample_heun",
    "schedule",
    "schedule_of",
    "sigma_denoiser",
    "spectral_damp",
    "timesteps",
    "trigger_tokens",
]
