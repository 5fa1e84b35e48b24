"""vectors <-> images: noise schedules, losses that train denoisers, and samplers that run them."""

from jaxembed.diffusion.canvas import (
    gather_windows,
    interpolate_grid,
    sample_canvas,
    scatter_mean,
    window_origins,
    window_weights,
)
from jaxembed.diffusion.concepts import (
    alignment_logits,
    draw_rows,
    insert_rows,
    match_norms,
    search_embeddings,
)
from jaxembed.diffusion.edm import edm_loss, edm_sigmas, precondition, sample_heun, sigma_denoiser
from jaxembed.diffusion.embeddings import (
    embedding_prior,
    embedding_tokens,
    init_embedding_prior,
    init_embedding_tokens,
)
from jaxembed.diffusion.features import diffusion_features
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
from jaxembed.diffusion.mapper import (
    bypass_states,
    draw_frequencies,
    fourier_features,
    init_mapper,
    map_tokens,
    nested_dropout,
)
from jaxembed.diffusion.objectives import denoising_loss, denoising_weights
from jaxembed.diffusion.process import convert, noised, schedule, schedule_of
from jaxembed.diffusion.prompts import decor, prompt_spectrum, rank_part, row_alignment
from jaxembed.diffusion.sampling import ddim_step, ddpm_step, sample, timesteps

__all__ = [
    "Guarded",
    "alignment_logits",
    "bypass_states",
    "convert",
    "ddim_step",
    "ddpm_step",
    "decor",
    "denoising_loss",
    "denoising_weights",
    "diffusion_features",
    "draw_frequencies",
    "draw_rows",
    "edm_loss",
    "edm_sigmas",
    "embedding_prior",
    "embedding_tokens",
    "filter_states",
    "filter_steps",
    "filtered_first",
    "fourier_features",
    "gather_windows",
    "guided",
    "init_embedding_prior",
    "init_embedding_tokens",
    "init_mapper",
    "insert_rows",
    "interpolate_grid",
    "leave_one_out",
    "map_tokens",
    "match_norms",
    "nested_dropout",
    "noised",
    "precondition",
    "prompt_spectrum",
    "rank_part",
    "row_alignment",
    "safree",
    "sample",
    "sample_canvas",
    "sample_heun",
    "scatter_mean",
    "schedule",
    "schedule_of",
    "search_embeddings",
    "sigma_denoiser",
    "spectral_damp",
    "timesteps",
    "trigger_tokens",
    "window_origins",
    "window_weights",
]
