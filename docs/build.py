"""Builds all pages into docs/site: README, docs, experiments and the API.

    python docs/build.py    # the same as `make docs`

The Markdown files are staged as they are in the repository, so that the links between them hold. A link from
a function to its source leads to its page of the API instead; other files that are linked to are copied.
"""

import json
import pathlib
import posixpath
import re
import shutil
import tempfile
import warnings

import mkdocs.commands.build
import mkdocs.config
import pdoc

ROOT = pathlib.Path(__file__).parents[1]
SITE = ROOT / "docs/site"
FUNCTION = re.compile(r"\[`(\w+)\.(\w+)`\]\([^)\s]*jaxembed/[^)\s]*\.py\)")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
STYLE = """
.wy-nav-content { max-width: 1100px; }
.wy-table-responsive table td, .wy-table-responsive table th { white-space: normal; }
.rst-content pre code { white-space: pre-wrap; }
.rst-content table img, .rst-content p img { max-width: 100%; }
"""


NAV = [
    {"Home": "README.md"},
    {"Getting started": "docs/getting_started.md"},
    {"Text encoders": "docs/text_encoders.md"},
    {"Images": "docs/images.md"},
    {"Losses": "docs/losses.md"},
    {"Tables": "docs/tables.md"},
    {"Retrieval": "docs/retrieval.md"},
    {"Recommending": "docs/recommend.md"},
    {"Words": "docs/words.md"},
    {"Training": "docs/training.md"},
    {"Merging": "docs/merging.md"},
    {"Diffusion": "docs/diffusion.md"},
    {"Concepts and guards": "docs/concepts.md"},
    {"Choosing data": "docs/choosing_data.md"},
    {"Inside trained networks": "docs/kernels.md"},
    {"Data": "docs/data.md"},
    {"What we promise": "docs/reliability.md"},
    {"Coming from": "docs/coming_from.md"},
    {"Design": "docs/design.md"},
    {"Dependencies": "docs/dependencies.md"},
    {"Security": "SECURITY.md"},
    {"API": "api/jaxembed.html"},
    {"Papers": "docs/papers.md"},
    {"Claims": "docs/claims.md"},
    {"Benchmarks": "docs/benchmarks.md"},
]


def pages(root=ROOT):
    """The Markdown files that become pages, as paths below the root."""
    found = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("experiments/**/README.md")]
    return sorted(path.relative_to(root) for path in found)


def staged(path, root=ROOT):
    """The text of a page with its functions linked to the API, and the other files that it links to."""
    files, up = [], "../" * (len(path.parts) - 1)

    def copied(match):
        place = posixpath.normpath(posixpath.join(path.parent.as_posix(), match[1]))
        if not place.endswith(".md") and not place.startswith("api/"):
            files.append(place)
        return match[0]

    text = (root / path).read_text(encoding="utf-8")
    text = FUNCTION.sub(lambda m: f"[`{m[1]}.{m[2]}`]({up}api/jaxembed/{m[1]}.html#{m[2]})", text)
    LINK.sub(copied, text)
    return text, files


def main():
    """Stages the pages, then lets pdoc and mkdocs build them."""
    experiments = [p for p in pages() if p.parts[0] == "experiments" and len(p.parts) == 3]
    named = [{p.parts[1]: p.as_posix()} for p in experiments]
    nav = [*NAV, {"Experiments": [{"questions": "experiments/README.md"}, *named]}]
    with tempfile.TemporaryDirectory() as folder:
        stage = pathlib.Path(folder, "pages")
        for path in pages():
            text, files = staged(path)
            target = stage / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            for file in files:
                (stage / file).parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / file).is_file():
                    shutil.copy(ROOT / file, stage / file)
        (stage / "site.css").write_text(STYLE, encoding="utf-8")
        pdoc.render.configure(docformat="google")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "Error parsing type annotation")  # of functions of JAX
            pdoc.pdoc("jaxembed", output_directory=stage / "api")
        settings = {
            "site_name": "jaxembed",
            "docs_dir": str(stage),
            "site_dir": str(SITE),
            "nav": nav,
            "theme": {"name": "readthedocs", "navigation_depth": 2},
            "extra_css": ["site.css"],
            "use_directory_urls": False,
            "strict": True,
            "validation": {"nav": {"omitted_files": "ignore"}},
        }
        file = pathlib.Path(folder, "mkdocs.yml")
        file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        mkdocs.commands.build.build(mkdocs.config.load_config(str(file)))


if __name__ == "__main__":
    main()
