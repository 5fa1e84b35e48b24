"""Without the extras every room imports, or says in one line which extra it misses."""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import tomllib

import pytest
from environments import bare, distribution

from experiments.shared import inputs

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"orbax-checkpoint": "orbax", "scikit-learn": "sklearn", "faiss-cpu": "faiss"}
MODULES |= {"sentence-transformers": "sentence_transformers", "tensorflow-datasets": "tensorflow_datasets"}
BASE = {"jax", "numpy", "optax"}
LIGHT = ("tables", "losses", "vectors", "search", "metrics", "weights", "data", "train", "diffusion")
HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
SAID = """
import json
def said(code):
    try:
        exec(code, {})
        return None
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
print(json.dumps([said(code) for code in CODES]))
"""


def brought():
    """{module: extra}: what the extras bring beyond the base, without those for developers."""
    found = {}
    for extra, lines in PROJECT["optional-dependencies"].items():
        for name in map(distribution, lines):
            if extra not in ("docs", "test") and name not in (*BASE, "jaxembed", "scipy"):
                found.setdefault(MODULES.get(name, name), extra)
    return found


def asked(codes, hidden, path=ROOT, python=sys.executable):
    """What each piece of code says where some packages are hidden, None where it runs."""
    program = f"HIDDEN = {sorted(hidden)}\nCODES = {codes!r}\n{HIDE}{SAID}"
    environment = os.environ | {"PYTHONPATH": str(path), "JAX_PLATFORMS": "cpu"}
    command = [python, "-c", program]
    done = subprocess.run(command, env=environment, cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ROOMS = [f"import jaxembed.{room}" for room in LIGHT if (ROOT / "jaxembed" / room).is_dir()]
WORKS = {  # on the base alone
    "a loss": "from jaxembed import losses; import numpy as np; losses.info_nce(np.eye(2), np.eye(2))",
    "training": """
        import jax.numpy as jnp, optax
        from jaxembed import train
        loss = lambda p, batch, key: (jnp.sum(p["w"] * batch["x"]), {})
        batches = [{"x": jnp.ones(1)}] * 2
        init = lambda key: {"w": jnp.ones(1)}
        train.fit(init=init, loss_fn=loss, tx=optax.sgd(0.1), batches=batches, steps=2)
    """,
    "exact search": "from jaxembed import search; import numpy as np; search.top_k(np.eye(2), np.eye(2), 1)",
    "vectors": """
        import numpy as np, pathlib, tempfile
        from jaxembed import search
        with tempfile.TemporaryDirectory() as folder:
            search.embed(lambda x: x, np.eye(3), path=pathlib.Path(folder) / "x", batch_size=2, progress=True)
    """,
    "intervals": "from jaxembed import metrics; metrics.paired_interval([0.1, 0.2, 0.3])",
    "words": "from jaxembed import data; data.words('a text')",
}
MISSING = {  # code: (package, extra)
    "from jaxembed import encoders": ("flax", "encoders"),
    "from jaxembed import data; data.batches([1, 2], 1)": ("grain", "data"),
    "from jaxembed import data; data.tfds('mnist', 'train')": ("tensorflow_datasets", "data"),
    """
        from jaxembed import data
        data.ctr_table({"y": [0, 1], "c": [1, 2]}, data.Schema(label="y", categorical=("c",)))
    """: ("pyarrow", "data"),
    "from jaxembed import data; data.ctr_table('clicks.csv', data.Schema(label='y', categorical=('c',)))": (
        "pyarrow",
        "data",
    ),
    "from jaxembed import train; train.restore_params('.')": ("orbax", "train"),
    """
        import jax.numpy as jnp, optax, tempfile
        from jaxembed import train
        loss = lambda p, batch, key: (jnp.sum(p["w"] * batch["x"]), {})
        options = {"batches": [{"x": jnp.ones(1)}], "steps": 1, "loss_fn": loss, "tx": optax.sgd(0.1)}
        with tempfile.TemporaryDirectory() as folder:
            train.fit(init=lambda key: {"w": jnp.ones(1)}, workdir=folder, **options)
    """: ("orbax", "train"),
    "from jaxembed import metrics; metrics.evaluate_clustering(len, ['a', 'b'], [0, 1])": (
        "sklearn",
        "experiments",
    ),
}


def code(text):
    return textwrap.dedent(text)


def line(package, extra):
    return f"ModuleNotFoundError: No module named {package!r}; pip install 'jaxembed[{extra}]'"


def test_the_base_alone_imports_every_light_room_and_works():
    codes = [*ROOMS, *map(code, WORKS.values())]
    assert dict(zip(codes, asked(codes, brought()), strict=True)) == dict.fromkeys(codes)


def test_what_needs_an_extra_says_which_in_one_line():
    wanted = {code(c): line(*m) for c, m in MISSING.items()}
    assert dict(zip(wanted, asked([*wanted], brought()), strict=True)) == wanted
    texts = "from jaxembed.encoders import pretrained; pretrained.load('nowhere')"
    assert asked([texts], {"tokenizers"}) == [line("tokenizers", "encoders")]
    (found,) = asked(["from jaxembed import recipes"], brought())
    assert found in (None, line("flax", "encoders"))


def test_pip_install_brings_three_packages_and_every_one_is_justified():
    assert {distribution(x) for x in PROJECT["dependencies"]} == BASE
    assert {"encoders", "train", "data", "experiments", "all"} <= PROJECT["optional-dependencies"].keys()
    text = (ROOT / "pyproject.toml").read_text()
    section = text[text.index("dependencies = [") : text.index("[tool.setuptools")]
    named = re.findall(r'^( +"[^"\n]+",| *\w+ = \[".*"\])(.*)$', section, flags=re.MULTILINE)
    bare = [head.strip() for head, why in named if "jaxembed[" not in head and "  # " not in why]
    assert bare == [], "say in one line what it is for"


def test_what_make_demo_installs_has_all_packages_of_the_design():
    def all_of(extra):
        for x in PROJECT["optional-dependencies"][extra]:
            nested = re.match(r"jaxembed\[([\w,]+)\]", x)
            yield from (y for e in nested[1].split(",") for y in all_of(e)) if nested else [distribution(x)]

    design = {"flax", "orbax-checkpoint", "tensorflow-datasets", "chex"}
    assert design <= set(all_of("experiments")) and design <= set(all_of("all"))
    assert ".[experiments]" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(("package", "extra"), sorted(brought().items()))
def test_a_run_names_the_extra_of_every_package(package, extra):
    error = ModuleNotFoundError(f"No module named '{package}.inner'", name=f"{package}.inner")
    assert inputs.with_extra(error) == f"{error}; pip install 'jaxembed[{extra}]'"


def test_a_run_names_packages_that_no_extra_brings():
    assert inputs.with_extra(ModuleNotFoundError("no", name="unheard_of")) == "no; pip install unheard-of"
    told = ImportError("no tokenizers; pip install 'jaxembed[encoders]'", name="tokenizers")
    assert inputs.with_extra(told) == str(told)


# From a wheel


@pytest.mark.slow
def test_the_wheel_in_a_bare_environment(wheel, tmp_path):
    """Nothing but the wheel and the distributions that its metadata asks for is on the path."""
    (info,) = wheel.glob("*.dist-info")
    lines = (info / "METADATA").read_text().splitlines()
    lines = [x.removeprefix("Requires-Dist: ") for x in lines if x.startswith("Requires-Dist: ")]
    base = [distribution(x) for x in lines if "extra ==" not in x]
    assert set(base) == BASE
    python, site = bare(tmp_path / "bare", base)
    for folder in wheel.iterdir():
        (site / folder.name).symlink_to(folder)
    wanted = dict.fromkeys([*ROOMS, *map(code, WORKS.values())])
    wanted |= {code(c): line(*m) for c, m in MISSING.items()}
    wanted |= {"import jaxembed; assert 'bare' in jaxembed.__file__": None}
    assert dict(zip(wanted, asked([*wanted], (), tmp_path, python), strict=True)) == wanted
