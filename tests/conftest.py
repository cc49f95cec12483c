"""What many tests need: a tiny untrained model over a few embedded questions, made once; a loopback endpoint."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from loopback import PROXIES, SECRET, Server

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")


@pytest.fixture(scope="session")
def corpus():
    """(splits, images) of a small embedded corpus."""
    from grandrounds.params import EmbeddedSource
    from grandrounds.sources import embedded

    return embedded.build(EmbeddedSource(pretrain=200, train=60, val=40, test=40, unseen=40), 7)


@pytest.fixture(scope="session")
def tiny(corpus, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """folder: a saved model; images: a folder; questions: some of both modalities."""
    from grandrounds.domain.prompts import COMPACT
    from grandrounds.params import EmbeddedModel
    from grandrounds.training import embedded

    splits, images = corpus
    root: Path = tmp_path_factory.mktemp("tiny")
    (root / "images").mkdir()
    for name, png in images.items():
        (root / "images" / name).write_bytes(png)
    spec = EmbeddedModel(vocabulary=600, hidden=48, layers=2, vision_hidden=32, vision_layers=1)
    processor = embedded.processor(spec, embedded.corpus(splits["pretrain"], COMPACT), 112)
    embedded.save(root / "model", embedded.model(spec, processor, 7), processor)
    return SimpleNamespace(folder=root / "model", images=root / "images", questions=splits["train"])


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's sqlite file with its tables, which take two seconds to make, and nothing in them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = tmp_path_factory.mktemp("tables")
    SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", folder.as_uri())
    return folder / "mlflow.db"


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is in the environment, and no proxy is."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(keyed):
    """A loopback server that misbehaves as a test tells it to."""
    found = Server()
    yield found
    found.close()
