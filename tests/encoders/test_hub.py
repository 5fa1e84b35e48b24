"""Names on the hub go through its package."""

import sys
import types

import pytest
from models import write_model

from jaxembed.encoders import pretrained


def test_names_on_the_hub_go_through_its_package(folder, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, "*.safetensors" in allow_patterns, "*.bin" in allow_patterns))
        return str(folder)

    stub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    assert pretrained.load("owner/model").width == 16
    assert asked == [("owner/model", True, False)]
    stub.snapshot_download = lambda *_, **__: str(tmp_path)
    with pytest.raises(ValueError, match="owner/model: has no safetensors file on the hub"):
        pretrained.load("owner/model")

    def missing(*_, **__):
        raise OSError("No such\nrepository.")

    stub.snapshot_download = missing
    message = r"models/minilm: no such folder, and the hub did not give it \(No such repository.\); check"
    with pytest.raises(FileNotFoundError, match=message):
        pretrained.load("models/minilm")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match="jaxembed\\[hub\\]"):
        pretrained.load("owner/model")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pretrained.load("/no/such/folder")


# The hub


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for huggingface_hub: ``hub.folders`` {name: folder}; ``hub.asked`` keeps the questions."""
    stub = types.SimpleNamespace(folders={}, asked=[])

    def snapshot_download(name, allow_patterns, **options):
        stub.asked.append((name, options))
        stub.patterns = allow_patterns
        if name not in stub.folders:
            raise OSError(f"{name}: 404")
        return str(stub.folders[name])

    stub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    return stub


def test_a_name_without_owner_is_asked_of_the_hub(hub, folder):
    hub.folders["sentence-transformers/all-MiniLM-L6-v2"] = folder
    assert pretrained.load("all-MiniLM-L6-v2").width == 16
    assert hub.asked == [("sentence-transformers/all-MiniLM-L6-v2", {})]
    hub.folders = {"bert-base-uncased": folder}
    assert pretrained.load("bert-base-uncased").width == 16
    message = r"no-such: no such folder, and the hub did not give it \(sentence-transformers/no-such: 404\)"
    with pytest.raises(FileNotFoundError, match=message):
        pretrained.load("no-such")
    hub.asked.clear()
    for path in ("/no/such", "./no-such", "../no-such", "a/b/c", "no such", "-x"):
        with pytest.raises(FileNotFoundError, match="no such folder$"):
            pretrained.load(path)
    assert hub.asked == []


def test_options_of_the_hub_are_handed_on(hub, folder):
    hub.folders["me/model"] = folder
    pretrained.load("me/model", revision="v1", token="secret", cache="/cache", offline=True)
    options = {"revision": "v1", "token": "secret", "cache_dir": "/cache", "local_files_only": True}
    assert hub.asked == [("me/model", options)]
    with pytest.raises(ValueError, match="revision: .* is a local folder"):
        pretrained.load(folder, revision="v1")
    with pytest.raises(ValueError, match=r"config\.json: is a file; give the folder that holds it"):
        pretrained.load(folder / "config.json")


@pytest.mark.parametrize("offline", [False, True])
def test_an_error_of_the_hub_is_whole_sentences_with_a_remedy(hub, monkeypatch, offline):
    first = (
        "404 Client Error. (Request ID: Root=1-6) Repository Not Found for url: https://hub/api/models/x/y."
    )
    long = "An error happened while trying to locate the files, " + "and we look on, " * 12 + "and stop."

    def failing(name, **_):
        raise OSError(f"{first}\n{long}")

    hub.snapshot_download = failing
    with pytest.raises(FileNotFoundError) as error:
        pretrained.load("x/y", offline=offline)
    remedy = "fetch it once without offline=True" if offline else "check the name and the network"
    assert str(error.value) == (
        "x/y: no such folder, and the hub did not give it (404 Client Error. Repository Not Found for url: "
        f"https://hub/api/models/x/y.); {remedy}, or pass a folder"
    )
    first = long
    with pytest.raises(FileNotFoundError, match=r"and stop\.\); "):
        pretrained.load("x/y")


def test_the_card_is_fetched_and_kept(hub, tmp_path):
    path = write_model(tmp_path / "a")
    (path / "README.md").write_text("# The card")
    (path / "chat.jinja").write_text("{{ text }}")
    hub.folders["me/model"] = path
    pretrained.load("me/model").save(tmp_path / "b")
    assert {"*.md", "*.jinja", "*.json", "*.txt", "*.model", "*.safetensors"} == set(hub.patterns)
    assert (tmp_path / "b" / "README.md").read_text() == "# The card"
    assert (tmp_path / "b" / "chat.jinja").exists()


def test_a_missing_extra_is_named_before_anything_is_fetched(hub, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for path in (folder, "me/model"):
        with pytest.raises(ModuleNotFoundError, match=r"'tokenizers'; pip install 'jaxembed\[encoders\]'$"):
            pretrained.load(path)
    assert hub.asked == []
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"all-MiniLM-L6-v2: no such folder; .* 'jaxembed\[hub\]'$"):
        pretrained.load("all-MiniLM-L6-v2")
