"""Large images from a denoiser of small ones: windows that overlap, each with a condition of its own."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.arrays import check_shape
from jaxembed.checks import check_whole
from jaxembed.diffusion.process import at_time, check_prediction, convert
from jaxembed.diffusion.sampling import begin, ddim_step, timesteps
from jaxembed.vectors import slerp


def window_origins(canvas, window, stride):
    """Window origins: where windows of one side begin so that they cover a canvas.

    Every ``stride`` pixels, and once more at the end where the last window would leave pixels over.

    >>> print(window_origins((4, 7), 4, 2).tolist())
    [[0, 0], [0, 2], [0, 3]]

    Args:
        canvas: (H, W).
        window: side of the windows, at most H and W.
        stride: pixels between them, 1..window.

    Returns:
        int32 NumPy array [N, 2] of rows and columns, row by row.

    Raises:
        ValueError: for a window larger than the canvas, or a stride outside 1..window.
    """
    height, width = canvas
    check_whole(height=height, width=width, window=window, stride=stride)
    if window > min(canvas):
        raise ValueError(f"window: {window} is larger than the canvas of {height} x {width}; pass less")
    if not 1 <= stride <= window:
        raise ValueError(f"stride: {stride} is outside 1..{window}; pixels between windows would stay empty")
    rows, columns = ([*range(0, n - window, stride), n - window] for n in canvas)
    return np.array([(i, j) for i in rows for j in columns], np.int32)


def gather_windows(canvas, origins, window):
    """Window gather: cuts windows out of a canvas.

    >>> canvas = jnp.arange(6.0).reshape(2, 3, 1)
    >>> print(gather_windows(canvas, np.array([[0, 1]]), 2)[0, ..., 0])
    [[1. 2.]
     [4. 5.]]

    Args:
        canvas: [H, W, C].
        origins: int [N, 2], rows and columns, within the canvas.
        window: side of the windows.

    Returns:
        [N, window, window, C].

    Raises:
        ValueError: for a window that leaves the canvas; traced origins are moved to its border.
    """
    canvas = jnp.asarray(canvas)
    _check_inside(origins, window, canvas.shape[:2])
    rows, columns = _places(origins, window)
    return canvas[rows, columns]


def scatter_mean(windows, origins, shape, *, weights=None):
    """Window scatter: puts windows back onto a canvas and averages where they overlap.

    The result minimises the weighted sum of squared differences to the windows.

    >>> windows = jnp.array([[[[1.0]]], [[[3.0]]], [[[5.0]]]])
    >>> print(scatter_mean(windows, np.array([[0, 0], [0, 0], [0, 1]]), (1, 2))[..., 0])
    [[2. 5.]]

    Args:
        windows: [N, h, h, C].
        origins: int [N, 2].
        shape: (H, W) of the canvas.
        weights: optional [h, h] or [N, h, h], at least 0; a pixel of :func:`window_weights` counts more in
            the middle of a window. Default 1.

    Returns:
        [H, W, C]; 0 where no window lies.

    Raises:
        ValueError: for another number of origins, or a window that leaves the canvas. What leaves it at
            traced origins is dropped.
    """
    windows = jnp.asarray(windows)
    check_shape("origins", origins, (len(windows), 2))
    _check_inside(origins, windows.shape[1], shape)
    rows, columns = _places(origins, windows.shape[1])
    weights = jnp.ones(windows.shape[:3]) if weights is None else jnp.broadcast_to(weights, windows.shape[:3])
    weights = weights.astype(windows.dtype)
    total = (
        jnp.zeros((*shape, windows.shape[-1]), windows.dtype)
        .at[rows, columns]
        .add(weights[..., None] * windows)
    )
    count = jnp.zeros(tuple(shape), windows.dtype).at[rows, columns].add(weights)
    return total / jnp.where(count > 0, count, 1)[..., None]


def _check_inside(origins, window, shape):
    """Refuses known origins whose windows leave a canvas of (H, W)."""
    if isinstance(origins, jax.core.Tracer) or not np.size(origins):
        return
    known = np.asarray(origins)
    if known.min() < 0 or (known + window > np.asarray(shape)).any():
        raise ValueError(
            f"origins: windows of {window} leave the canvas of {shape[0]} x {shape[1]}; pass window_origins"
        )


def _places(origins, window):
    """Rows [N, window, 1] and columns [N, 1, window] of windows."""
    steps = jnp.arange(window)
    origins = jnp.asarray(origins)
    return origins[:, 0, None, None] + steps[:, None], origins[:, 1, None, None] + steps


def window_weights(window, *, width=0.8):
    """Window weights: how much each pixel of a window counts where decoded windows are blended.

    ``exp(-r**2 / width**2)`` with r the distance from the middle, 1 at the middle of a border.

    >>> print(window_weights(3).round(2)[1])
    [0.5 1.  0.5]

    Args:
        window: side.
        width: of the bell, in halves of a window.

    Returns:
        float32 NumPy array [window, window].
    """
    places = ((np.arange(window) + 0.5) / window * 2 - 1) ** 2
    return np.exp(-(places[:, None] + places) / width**2).astype(np.float32)


def interpolate_grid(grid, origins, cell):
    """Interpolated condition grid: the embedding at each window, between those of the nearest cells.

    With row i and column j of the origin, ``slerp(u, slerp(v, e[a, b], e[a, b+1]), slerp(v, e[a+1, b],
    e[a+1, b+1]))`` where ``a, b = i // cell, j // cell`` and ``u, v`` are the remainders divided by ``cell``.
    The last row and column of the grid are repeated outwards. Grids are row-major.

    >>> grid = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> print(interpolate_grid(grid, np.array([[0, 0], [0, 4], [0, 12]]), 8).round(3))
    [[1.    0.   ]
     [0.707 0.707]
     [0.    1.   ]]

    Args:
        grid: [gh, gw, D], as they are: lengths are not changed.
        origins: int [N, 2] of windows.
        cell: pixels between neighbours of the grid, usually the window.

    Returns:
        [N, D].

    Raises:
        ValueError: for another shape of the grid, or a cell below 1.

    References:
        A. Graikos et al., arXiv:2312.07330.
    """
    grid = jnp.asarray(grid)
    check_shape("grid", grid, (None, None, None))
    if cell < 1:
        raise ValueError(f"cell: {cell}; pass at least 1")
    origins = jnp.asarray(origins)
    last = jnp.array(grid.shape[:2]) - 1
    near = jnp.minimum(origins // cell, last)
    far = jnp.minimum(near + 1, last)
    down, right = ((origins % cell) / cell).T
    upper = slerp(grid[near[:, 0], near[:, 1]], grid[near[:, 0], far[:, 1]], right)
    lower = slerp(grid[far[:, 0], near[:, 1]], grid[far[:, 0], far[:, 1]], right)
    return slerp(upper, lower, down)


def sample_canvas(
    denoise,
    params,
    schedule,
    key,
    shape,
    *,
    window,
    stride,
    condition=None,
    steps=50,
    eta=0.0,
    prediction="noise",
    spacing="leading",
    clip=None,
    start=None,
    at_once=None,
    mesh=None,
    axis="data",
):
    """Canvas sampler: draws one large image by DDIM steps of all its windows, which agree where they overlap.

    In each step the denoiser sees every window with its own condition. What it says of x0 is averaged over
    the windows, and one step of DDIM moves the whole canvas (MultiDiffusion).

    >>> from jaxembed import diffusion
    >>> zero = lambda params, x, t, condition=None: 0 * x  # v has the mean 0 where images are N(0, 1)
    >>> image = sample_canvas(
    ...     zero, {}, diffusion.schedule(), jax.random.key(0), (64, 64, 1), window=8, stride=4, prediction="v"
    ... )
    >>> print(image.shape, image.std().round(1))
    (64, 64, 1) 1.0

    Args:
        denoise: ``denoise(params, x [N, h, h, C], t int32 [N], condition) -> [N, h, h, C]``, guided or not.
        params: of the network.
        schedule: tables of :func:`schedule`.
        key: random key; None where ``start`` is given and no step draws noise.
        shape: (H, W, C) of the canvas.
        window: side h that the denoiser was trained for.
        stride: pixels between windows, usually a quarter of a window.
        condition: tree of arrays [N, ...], one row for each of :func:`window_origins`.
        steps, prediction, spacing, clip: as in :func:`sample`.
        eta: of :func:`ddim_step`; or "single", the variance of one step of the schedule though many are
            passed over, as the paper's code has it.
        start: optional [H, W, C], the noise to start from.
        at_once: optional number of windows that are denoised together; less memory, the same result.
        mesh: optional mesh over whose axis the windows are spread.
        axis: its name.

    Returns:
        [H, W, C].

    Raises:
        ValueError: for a window larger than the canvas, another number of conditions than windows, a choice
            that is unknown, or ``at_once`` with a mesh.

    References:
        A. Graikos et al., arXiv:2312.07330; O. Bar-Tal et al. (MultiDiffusion), arXiv:2302.08113.
    """
    check_prediction(prediction)
    origins = window_origins(shape[:2], window, stride)
    for leaf in jax.tree.leaves(condition):
        if np.shape(leaf)[:1] != (len(origins),):
            raise ValueError(
                f"condition: shape {np.shape(leaf)} for {len(origins)} windows; pass one row each"
            )
    if mesh is not None and at_once is not None:
        raise ValueError("at_once: has no meaning with a mesh; leave one of them out")
    visited = timesteps(len(schedule["betas"]), steps, spacing)
    draws = not (isinstance(eta, int | float) and eta == 0)
    x, key = begin(key, (1, *shape), None if start is None else jnp.asarray(start)[None], draws)
    told = _told(denoise, params, len(origins), at_once, mesh, axis)

    def step(x, at):
        number, t, previous = at
        windows = gather_windows(x[0], origins, window)
        times = jnp.full(len(origins), t)
        out = told(windows, times, condition)
        known = convert(schedule, windows, times, out, prediction, "x0")
        x0 = scatter_mean(known if clip is None else jnp.clip(known, -clip, clip), origins, shape[:2])[None]
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype) if draws else None
        ends = jnp.full(1, t), jnp.full(1, previous)
        scale = _single(schedule, *ends, x) if eta == "single" else eta
        return ddim_step(schedule, x, *ends, x0, noise, prediction="x0", eta=scale).astype(x.dtype), None

    numbers = np.arange(steps, dtype=np.int32)
    return jax.lax.scan(step, x, (numbers, visited, np.append(visited[1:], np.int32(-1))))[0][0]


def _single(schedule, t, previous, x):
    """The eta under which a step that passes over others has the variance of one step of the schedule."""
    tables = schedule["log_alphas_bar"]
    before = jnp.where(previous[:, None, None, None] < 0, 0, at_time(tables, previous, x))
    return jnp.sqrt(at_time(schedule["betas"], t, x) / -jnp.expm1(at_time(tables, t, x) - before))


def _told(denoise, params, count, at_once, mesh, axis):
    """The denoiser of all windows: at once, some at a time, or spread over the devices of a mesh."""
    if at_once is not None:
        check_whole(at_once=at_once)
        if at_once < 1:
            raise ValueError(f"at_once: {at_once}; pass at least 1")

        def one(row):
            return denoise(params, *jax.tree.map(lambda leaf: leaf[None], row))[0]

        return lambda *rows: jax.lax.map(one, rows, batch_size=at_once)
    if mesh is None:
        return lambda windows, times, condition: denoise(params, windows, times, condition)
    spec, extra = jax.sharding.PartitionSpec, -count % mesh.shape[axis]
    spread = jax.shard_map(
        lambda params, rows: denoise(params, *rows),
        mesh=mesh,
        in_specs=(spec(), spec(axis)),
        out_specs=spec(axis),
    )

    def told(*rows):
        rows = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1].repeat(extra, axis=0)]), rows)
        return spread(params, rows)[:count]

    return told
