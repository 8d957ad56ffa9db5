"""Classifiers of Hugging Face Transformers with a head: Trainer, pipeline, saving, PEFT."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
import types
from pathlib import Path

import datasets
import pytest
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from raised import raises
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tolerances import TOLERANCES, assert_close
from torch import nn
from transformers import Trainer, TrainingArguments, pipeline

import dropmax
from dropmax import Criterion, Predictor, convert, find_head, revert
from dropmax.integrations.transformers import DropMaxForClassification

BANKING = Path(__file__).parents[2] / "shared" / "data" / "banking77"
needs_shared = pytest.mark.skipif(not BANKING.is_dir(), reason=f"no real texts at {BANKING}")
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_labels": 5,
}
TEXT = SIZES | {"vocab_size": 40, "max_position_embeddings": 32, "pad_token_id": 0}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

# name: (architecture, configuration, settings, the classifier within it)
HOSTS = {
    "bert": ("BertForSequenceClassification", "BertConfig", TEXT, "classifier"),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        SIZES | {"image_size": 8, "patch_size": 4},
        "classifier",
    ),
    "tokens": ("BertForTokenClassification", "BertConfig", TEXT, "classifier"),
    "gpt2": (
        "GPT2ForSequenceClassification",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "num_labels": 5}
        | {"n_positions": 32, "pad_token_id": 0},
        "score",
    ),
    "roberta": (
        "RobertaForSequenceClassification",
        "RobertaConfig",
        TEXT | {"pad_token_id": 1},
        "classifier.out_proj",
    ),
    "modernbert": (
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        TEXT,
        "classifier",
    ),
}


def host(name="bert", **settings):
    architecture, configuration, sizes, _ = HOSTS[name]
    config = getattr(transformers, configuration)(**(sizes | settings))
    return getattr(transformers, architecture)(config).eval()


def inputs(name="bert", count=6):
    """Inputs of a host, the texts of different lengths."""
    if name == "vit":
        return {"pixel_values": torch.randn(count, 3, 8, 8)}
    input_ids = torch.randint(3, 40, (count, 9))
    mask = torch.arange(9) < torch.randint(2, 10, (count, 1))
    padding = HOSTS[name][2]["pad_token_id"]
    return {"input_ids": input_ids.where(mask, padding), "attention_mask": mask.long()}


def labels_of(name, count=6):
    return torch.randint(5, (count, 9) if name == "tokens" else (count,))


@pytest.mark.parametrize("head", ["softmax", "attention", "dropmax", "dropmax_prior"])
@pytest.mark.parametrize("name", HOSTS)
def test_a_converted_model_predicts_what_it_did_and_goes_back(name, head):
    model, batch = host(name), inputs(name)
    before, state = model(**batch), copy.deepcopy(model.state_dict())
    weight = model.get_submodule(HOSTS[name][3]).weight
    converted = convert(model, head=head)
    assert find_head(converted).weight is weight
    assert converted.config.layer == HOSTS[name][3]
    assert not converted.training
    output = converted(**batch)
    assert type(output) is type(before)
    assert output.loss is None
    assert_close(output.logits, before.logits.log_softmax(-1).detach(), "compiled")
    converted.config.id2label = dict(enumerate("abcde"))
    assert revert(converted) is model
    assert model.config.id2label[1] == "b"
    assert torch.equal(model(**batch).logits, before.logits)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert model.get_submodule(HOSTS[name][3]).weight is weight


@pytest.mark.parametrize("name", HOSTS)
def test_ten_steps_lower_the_loss_and_revert_says_what_it_drops(name):
    model, batch, labels = convert(host(name)), inputs(name, 20), labels_of(name, 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    with raises(ValueError, "revert: model"):
        revert(model)
    logits = model.scores(**batch).logits
    assert torch.equal(revert(model, drop_gate=True)(**batch).logits, logits)


@pytest.mark.parametrize("name", HOSTS)
def test_loss_and_logits_are_the_heads(name):
    model, batch, labels = convert(host(name), start="random"), inputs(name), labels_of(name)
    noise = torch.rand(*labels.shape, 5)
    scores = model.scores(**batch)
    expected = model.head.loss(scores, labels, noise=noise).total
    output = model(**batch, labels=labels, noise=noise)
    assert torch.equal(output.loss, expected)
    assert torch.equal(output.logits, model.head.log_probs(scores))
    features = []
    model.head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    model(**batch)
    every_row = model.head(features[0])
    if name == "gpt2":  # which selects the last token of each text after its classifier
        last = batch["attention_mask"].sum(-1) - 1
        every_row = [branch[torch.arange(6), last] for branch in every_row]
    for one, same in zip(scores, every_row, strict=True):
        assert torch.equal(one, same)
    model.config.method, model.config.method_options = "exact", {"num_nodes": 64}
    exact = model.head.log_probs(scores, method="exact", num_nodes=64)
    assert torch.equal(model(**batch).logits, exact)
    assert torch.equal(Predictor(model, "exact", num_nodes=64)(**batch), exact)
    torch.manual_seed(0)
    drawn = model(**batch, labels=labels).loss
    torch.manual_seed(0)
    assert torch.equal(Criterion(model)(scores, labels), drawn)


@pytest.mark.parametrize("name", HOSTS)
def test_freezing_the_base_leaves_the_head_to_train(name, tmp_path):
    """As is usual: what the host has besides its base is still trained, and nothing else moves."""
    plain = host(name)
    base, of_base = plain.base_model, {id(p) for p in plain.base_model.parameters()}
    model = convert(plain)
    assert model.base_model is base
    model.base_model.requires_grad_(False)
    left = {key for key, p in model.named_parameters() if p.requires_grad}
    assert left == {key for key, p in model.named_parameters() if id(p) not in of_base}
    head = {f"host.{HOSTS[name][3]}.head.{key}" for key, _ in model.head.named_parameters()}
    assert head <= left
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    if name in ("bert", "tokens"):
        trained(model, rows(name if name == "tokens" else "rows"), batch_size=8, directory=tmp_path)
    else:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
        model(**inputs(name, 20), labels=labels_of(name, 20)).loss.backward()
        optimizer.step()
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert moved <= left
    assert head <= moved
    model.save_pretrained(tmp_path)
    loaded = DropMaxForClassification.from_pretrained(tmp_path)
    assert type(loaded.base_model) is type(base)
    assert revert(model, drop_gate=True).base_model is base


@pytest.mark.parametrize("name", HOSTS)
def test_the_host_within_refuses_to_be_called_until_it_is_reverted(name, tmp_path):
    model, batch = convert(host(name)), inputs(name)
    expected = model(**batch).logits
    for inner in (model.host, copy.deepcopy(model).host):
        with raises(ValueError, "dropmax: host"):
            inner(**batch)
        with raises(ValueError, "dropmax: host"):
            inner(**batch, labels=labels_of(name))
        with raises(ValueError, "Predictor.forward: host"):
            Predictor(inner)(**batch)
    assert torch.equal(model(**batch).logits, expected)
    assert model.base_model(**batch)[0].shape[-1] == 16
    model.save_pretrained(tmp_path)
    with raises(ValueError, "dropmax: host"):
        DropMaxForClassification.from_pretrained(tmp_path).host(**batch)
    reverted = revert(model)
    assert reverted(**batch).logits.shape == expected.shape
    again = convert(reverted)
    assert torch.equal(again(**batch).logits, expected)
    with raises(ValueError, "dropmax: host"):
        again.host(**batch)


def test_targets_weights_and_samples_reach_the_head():
    model, batch, labels = convert(host(), start="random", num_samples=3), inputs(), labels_of("")
    noise = torch.rand(6, 3, 5)  # of a data set: rows first
    scores, weight = model.scores(**batch), torch.rand(6)
    options = {"noise": noise.movedim(1, 0)}
    for target in (labels, torch.rand(6, 5).softmax(-1)):
        loss = model(**batch, labels=target, noise=noise).loss
        assert torch.equal(loss, model.head.loss(scores, target, **options).total)
    loss = model(**batch, labels=labels, noise=noise, sample_weight=weight).loss
    expected = model.head.loss(scores, labels, sample_weight=weight, **options).total
    assert torch.equal(loss, expected)
    ignored = model(**batch, labels=torch.full_like(labels, -100), num_items_in_batch=0).loss
    assert ignored == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", HOSTS)
def test_saving_and_loading_is_exact(name, dtype, tmp_path):
    options = {"kl_weight": 0.5, "start": "random"}
    model, batch = convert(host(name, num_labels=4).to(dtype), **options), inputs(name)
    if name == "vit":
        batch = {"pixel_values": batch["pixel_values"].to(dtype)}
    model.config.method, model.config.method_options = "exact", {"num_nodes": 64}
    model.config.id2label = dict(enumerate(("ant", "bee", "cow", "dog")))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = DropMaxForClassification.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
        assert loaded.state_dict()[key].dtype == value.dtype
    assert type(loaded.host) is type(model.host)
    assert repr(loaded.head) == repr(model.head)
    assert loaded.config.id2label[2] == "cow"
    loaded = copy.deepcopy(loaded)  # where memory is aligned as usual, which a mapped file is not
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    half = DropMaxForClassification.from_pretrained(tmp_path, dtype=torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}


NEW_PROCESS = """
import sys, torch, transformers
folder, task, auto, imports = sys.argv[1:]
if imports:
    import dropmax.integrations.transformers
model = getattr(transformers, auto).from_pretrained(folder)
torch.save(model(**torch.load(folder + "/batch.pt", weights_only=True)).logits, folder + "/out.pt")
if "text" in task:
    transformers.pipeline(task, model=folder, device="cpu")("a b")
"""


def in_a_new_process(folder, task, auto, imports="yes"):
    command = [sys.executable, "-c", NEW_PROCESS, str(folder), task, auto, imports]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "auto"),
    [
        ("bert", "text-classification", "AutoModelForSequenceClassification"),
        ("vit", "image-classification", "AutoModelForImageClassification"),
    ],
)
@pytest.mark.parametrize("saved_by", ["save_pretrained", "Trainer"])
def test_the_auto_classes_and_pipelines_load_it_in_a_new_process(
    saved_by, name, task, auto, tmp_path
):
    """Only once dropmax is imported: before that they say that they do not know it."""
    model, batch = convert(host(name)).eval(), inputs(name)
    if saved_by == "Trainer":
        arguments = TrainingArguments(tmp_path, use_cpu=True, report_to=[])
        Trainer(model, arguments).save_model(tmp_path)
    else:
        model.save_pretrained(tmp_path)
    if name == "bert":
        words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[UNK]")
        fast.save_pretrained(tmp_path)
    torch.save(dict(batch), tmp_path / "batch.pt")
    done = in_a_new_process(tmp_path, task, auto)
    assert done.returncode == 0, done.stderr
    assert "is not supported for" not in done.stderr
    with torch.no_grad():
        expected = model(**batch).logits
    assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=True), expected)
    refused = in_a_new_process(tmp_path, task, auto, imports="")
    assert refused.returncode == 1
    assert "model type `dropmax`" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("by", ["push_to_hub", "save_pretrained"])
def test_what_goes_to_the_hub_is_loaded_without_an_import_where_it_is_trusted(
    by, tmp_path, monkeypatch
):
    """Only the package has to be there."""
    from transformers.utils import hub

    hosted = tmp_path / "hosted"
    card = types.SimpleNamespace(save=lambda _: None)
    repository = types.SimpleNamespace(repo_id="any/one")
    api = types.SimpleNamespace(create_repo=lambda *_, **__: repository)
    monkeypatch.setattr(hub, "hf_api", lambda: api)
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *_, **__: card)
    for module in (hub, sys.modules["transformers.modeling_utils"]):
        monkeypatch.setattr(module, "hf_api", lambda: api, raising=False)
        monkeypatch.setattr(module, "create_and_tag_model_card", lambda *_, **__: card)
    monkeypatch.setattr(
        hub.PushToHubMixin,
        "_upload_modified_files",
        lambda _, folder, *__, **___: shutil.copytree(folder, hosted),
    )
    model, batch = convert(host()).eval(), inputs()
    if by == "push_to_hub":
        model.push_to_hub("any/one")
    else:
        model.save_pretrained(tmp_path / "saved", push_to_hub=True, repo_id="any/one")
    torch.save(dict(batch), hosted / "batch.pt")
    code = NEW_PROCESS.replace(
        "from_pretrained(folder)", "from_pretrained(folder, trust_remote_code=True)"
    )
    auto = "AutoModelForSequenceClassification"
    command = [sys.executable, "-c", code, str(hosted), "", auto, ""]
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
    subprocess.run(command, check=True, env=environment)
    with torch.no_grad():
        expected = model(**batch).logits
    assert torch.equal(torch.load(hosted / "out.pt", weights_only=True), expected)


def test_a_head_that_a_checkpoint_lacks_starts_anew(tmp_path):
    model = convert(host(), retain_bias_init=3.0)
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    loaded = DropMaxForClassification.from_pretrained(
        tmp_path, num_labels=3, ignore_mismatched_sizes=True
    )
    assert loaded.host.config.num_labels == 3
    assert loaded.head.retain_bias.tolist() == [3.0] * 3
    bound = (6 / (16 + 3)) ** 0.5  # Glorot's
    for weight in (loaded.head.weight, loaded.head.retain_weight):
        assert 0.5 * bound < weight.abs().max() <= bound
    encoder = loaded.host.bert.state_dict()
    assert all(torch.equal(encoder[k], v) for k, v in model.host.bert.state_dict().items())


def rows(kind, *, extra=False):
    """32 rows with fixed noise; the texts have from one to nine labeled tokens."""
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, 40, (32, 9), generator=generator)
    labels = torch.randint(5, (32,), generator=generator)
    noise = torch.rand(32, 5, generator=generator).clamp(1e-6, 1 - 1e-6)
    if kind == "tokens":
        length = torch.randint(1, 10, (32, 1), generator=generator)
        labels = labels[:, None].expand(32, 9).where(torch.arange(9) < length, -100)
        noise = torch.rand(32, 9, 5, generator=generator).clamp(1e-6, 1 - 1e-6)
    if kind == "soft":
        labels = torch.rand(32, 5, generator=generator).softmax(-1)
    columns = {"input_ids": input_ids, "labels": labels, "noise": noise}
    if extra:
        columns |= {"token_type_ids": torch.ones_like(input_ids), "stray": input_ids}
    return datasets.Dataset.from_dict({name: x.tolist() for name, x in columns.items()})


def trained(model, data, *, batch_size, directory, **settings):
    """The model after Trainer has gone once over the rows with SGD."""
    arguments = TrainingArguments(
        str(directory),
        per_device_train_batch_size=batch_size,
        learning_rate=0.5,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        num_train_epochs=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["rows", "tokens", "soft"])
def test_accumulated_batches_are_one_batch(kind, tmp_path):
    """One step of SGD on 32 rows, on 4 times 8, and by hand."""
    name = "tokens" if kind == "tokens" else "bert"
    start = convert(host(name, **STILL).double(), start="random")
    whole, parts = (
        trained(
            copy.deepcopy(start),
            rows(kind),
            batch_size=32 // steps,
            gradient_accumulation_steps=steps,
            directory=tmp_path,
        ).model
        for steps in (1, 4)
    )
    data = rows(kind).with_format("torch")
    loss = start(data["input_ids"][:], labels=data["labels"][:], noise=data["noise"][:]).loss
    loss.backward()
    moved = 0.0
    for (key, before), one, other in zip(
        start.named_parameters(), whole.parameters(), parts.parameters(), strict=True
    ):
        assert one.dtype == torch.float64
        assert_close(one, other.detach(), "accumulated")
        if before.grad is not None:
            assert_close(one, (before - 0.5 * before.grad).detach(), "accumulated")
            moved += (one - before).abs().max().item() * key.startswith("host.bert")
    assert moved > 0.1


def test_trainer_keeps_the_columns_that_the_host_takes_and_evaluates(tmp_path):
    model, seen = convert(host()), []
    model.host.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(set(kwargs)), with_kwargs=True
    )
    trainer = trained(model, rows("rows", extra=True), batch_size=16, directory=tmp_path, bf16=True)
    assert seen[0] == {"input_ids", "token_type_ids", "return_dict"}
    prediction = trainer.predict(trainer.eval_dataset)
    assert prediction.predictions.shape == (32, 5)
    assert abs(torch.tensor(prediction.predictions).exp().sum(-1) - 1).max() < 2**-6
    data = trainer.eval_dataset.with_format("torch")
    columns = ("input_ids", "token_type_ids", "labels", "noise")
    with torch.autocast("cpu", torch.bfloat16):
        by_hand = trainer.model(**{name: data[name][:] for name in columns}).loss
    assert abs(prediction.metrics["test_loss"] - by_hand.item()) < 2**-6


def test_labels_that_trainer_keeps_for_itself_are_refused(tmp_path):
    with raises(ValueError, "DropMaxForClassification.forward: labels"):
        trained(
            convert(host()),
            rows("rows"),
            batch_size=8,
            directory=tmp_path,
            label_smoothing_factor=0.1,
        )
    batch, labels = inputs(), labels_of("")
    assert convert(host(), label_smoothing=0.1).head.label_smoothing == 0.1
    smooth = convert(host(), head="softmax", label_smoothing=0.1)
    output = smooth(**batch, labels=labels)
    expected = F.cross_entropy(output.logits, labels, label_smoothing=0.1)
    assert_close(output.loss, expected.detach(), "compiled")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_peft_trains_a_copy_of_the_head_and_brings_it_back(name, tmp_path):
    model, batch, labels = convert(host(name), start="random"), inputs(name), labels_of(name)
    model.save_pretrained(tmp_path / "base")
    before = model(**batch).logits
    lora = LoraConfig(target_modules=["query", "value"], modules_to_save=["classifier"], r=2)
    tuned = get_peft_model(model, lora)
    assert find_head(tuned) is model.head
    assert torch.equal(tuned(**batch).logits, before)
    assert torch.equal(Predictor(tuned)(**batch), before)
    optimizer = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        tuned(**batch, labels=labels).loss.backward()
        optimizer.step()
    after = tuned.eval()(**batch).logits
    assert (after - before).abs().max() > 0.1
    retain = [weight for key, weight in tuned.named_parameters() if key.endswith("retain_weight")]
    assert [weight is model.head.retain_weight for weight in retain] == [False, True]
    assert not torch.equal(*retain)
    with tuned.disable_adapter():
        assert find_head(tuned).retain_weight is retain[0]
        assert torch.equal(tuned(**batch).logits, before)
    tuned.save_pretrained(tmp_path / "adapter")
    base = DropMaxForClassification.from_pretrained(tmp_path / "base")
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(loaded(**batch).logits, after)
    with raises(ValueError, "revert: model"):
        revert(loaded)
    merged = loaded.merge_and_unload()
    assert_close(merged(**batch).logits, after.detach(), "compiled")
    assert type(revert(merged, drop_gate=True)) is type(host(name))


def tokenizer_of(texts, size):
    """A tokenizer of words, of the texts."""
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=size, special_tokens=special)
    )
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )


@pytest.mark.parametrize("name", ["bert", "gpt2", "tokens"])
def test_pipelines_of_texts(name):
    texts = ["where is my card", "the exchange rate is wrong", "card"]
    tokenizer = tokenizer_of(texts, 40)
    model = convert(host(name), start="random")
    task = "token-classification" if name == "tokens" else "text-classification"
    options = {} if name == "tokens" else {"top_k": None}
    found = pipeline(task, model=model, tokenizer=tokenizer, device="cpu")(texts, **options)
    for text, result in zip(texts, found, strict=True):
        probs = model(**tokenizer(text, return_tensors="pt")).logits[0].exp()
        if name == "tokens":
            probs = probs[1:-1].amax(-1)  # the pipeline leaves out the special tokens
            result = sorted(result, key=lambda word: word["index"])
            scores = [float(word["score"]) for word in result]
        else:
            labels = {label["label"]: label["score"] for label in result}
            scores = [labels[model.config.id2label[k]] for k in range(5)]
        assert_close(torch.tensor(scores), probs.detach(), "compiled")


@needs_shared
def test_intents_of_real_texts_are_learned(tmp_path):
    """Ten intents of banking77: five epochs of a small BERT; saved, loaded and served."""
    train, test = (
        datasets.Dataset.from_parquet(
            str(BANKING / f"{split}-00000-of-00001.parquet"), cache_dir=str(tmp_path / "cache")
        ).filter(lambda row: row["label"] < 10)
        for split in ("train", "test")
    )
    names = train.features["label"].names[:10]
    tokenizer = tokenizer_of(train["text"], 2000)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 1}
    sizes["num_labels"] = 10
    config = transformers.BertConfig(
        **(TEXT | sizes),
        initializer_range=0.1,
        id2label=dict(enumerate(names)),
        label2id={label: n for n, label in enumerate(names)},
    )
    model = convert(transformers.BertForSequenceClassification(config))

    def tokenized(data):
        return data.map(lambda row: tokenizer(row["text"], truncation=True), batched=True)

    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=16,
        per_device_eval_batch_size=400,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        num_train_epochs=5,
        logging_strategy="epoch",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=tokenized(train),
        eval_dataset=tokenized(test),
        processing_class=tokenizer,
        compute_metrics=lambda found: {
            "accuracy": (found.predictions.argmax(-1) == found.label_ids).mean()
        },
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses == sorted(losses, reverse=True)
    assert trainer.evaluate()["eval_accuracy"] > 0.85  # by chance 0.1
    trainer.save_model(str(tmp_path / "model"))
    loaded = DropMaxForClassification.from_pretrained(tmp_path / "model")
    classify = pipeline("text-classification", model=loaded, tokenizer=tokenizer, device="cpu")
    text = test["text"][0]
    (found,) = classify(text)
    log_probs = model.eval()(**tokenizer(text, return_tensors="pt")).logits[0]
    assert found["label"] == names[log_probs.argmax()]
    assert_close(torch.tensor(found["score"]), log_probs.max().exp().detach(), "compiled")


def test_what_transformers_asks_of_a_model_goes_to_the_host():
    model = convert(host())
    assert model.get_input_embeddings() is model.host.bert.embeddings.word_embeddings
    assert model.resize_token_embeddings(50).weight.shape == (50, 16)
    assert model.host.config.vocab_size == 50
    model.config.pad_token_id, model.config.use_cache = 7, False
    assert (model.host.config.pad_token_id, model.host.config.use_cache) == (7, False)
    model.set_attn_implementation("eager")
    assert model.host.config._attn_implementation == "eager"
    model.train().activation_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in model.host.bert.encoder.layer)
    batch, labels = inputs(), labels_of("")
    model(**batch, labels=labels).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.main_input_name == "input_ids"
    assert convert(host("vit")).main_input_name == "pixel_values"
    as_tuple = model(**batch, labels=labels, return_dict=False)
    assert [part.shape for part in as_tuple] == [(), (6, 5)]


def test_a_converted_model_is_written_as_onnx(tmp_path):
    model = convert(host("vit"), start="random")
    images = torch.randn(20, 3, 8, 8)
    differences = dropmax.export_onnx(model, images, tmp_path / "vit.onnx")
    assert max(differences.values()) < TOLERANCES[torch.float32, "onnx"][1]


def test_copies_and_pickles_are_of_the_same_model():
    model, batch = convert(host(), start="random"), inputs()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(**batch).logits, model(**batch).logits)
        other.head.weight.data.zero_()
        assert not torch.equal(other(**batch).logits, model(**batch).logits)


@pytest.mark.usefixtures("untyped")
def test_it_compiles_in_parts_and_in_trainer(tmp_path):
    """Without fullgraph, as most people and Trainer do."""
    torch.compiler.reset()
    model, batch, labels = convert(host(), start="random"), inputs(), labels_of("")
    noise = torch.rand(6, 5)
    eager = model(**batch, labels=labels, noise=noise)
    compiled = torch.compile(model, backend="eager")(**batch, labels=labels, noise=noise)
    assert_close(compiled.loss, eager.loss.detach(), "compiled")
    options = {"torch_compile": True, "torch_compile_backend": "eager"}
    trainer = trained(model, rows("rows"), batch_size=16, directory=tmp_path, **options)
    assert trainer.state.global_step == 2


@pytest.mark.slow
@pytest.mark.usefixtures("untyped")
def test_it_compiles_whole_and_is_exported():
    model, batch, labels = convert(host(), start="random"), inputs(), labels_of("")
    noise = torch.rand(6, 5)
    eager = model(**batch, labels=labels, noise=noise)
    compiled = torch.compile(model, fullgraph=True)(**batch, labels=labels, noise=noise)
    assert_close(compiled.logits, eager.logits.detach(), "compiled")
    assert_close(compiled.loss, eager.loss.detach(), "compiled")
    shapes = {name: {0: torch.export.Dim("batch")} for name in batch}
    program = torch.export.export(model, (), batch, dynamic_shapes=shapes)
    more = inputs(count=9)
    assert_close(program.module()(**more).logits, model(**more).logits.detach(), "compiled")


class Mine(transformers.BertForSequenceClassification):
    """A user's own class, which a saved configuration could not name."""


def peft_first():
    return get_peft_model(host(), LoraConfig(target_modules=["query"], task_type="SEQ_CLS"))


WRONG = {
    "regression": (lambda: convert(host(num_labels=1)), ValueError, "convert: model"),
    "several labels an instance": (
        lambda: convert(host(problem_type="multi_label_classification")),
        ValueError,
        "convert: model",
    ),
    "no classifier": (
        lambda: convert(transformers.BertModel(transformers.BertConfig(**TEXT))),
        ValueError,
        "convert: model",
    ),
    "a class of the user's": (
        lambda: convert(Mine(transformers.BertConfig(**TEXT))),
        ValueError,
        "convert: model",
    ),
    "PEFT before": (
        lambda: convert(peft_first()),
        ValueError,
        "convert: model",
    ),
    "a layer of another width": (
        lambda: convert(host(), layer="bert.pooler.dense"),
        ValueError,
        "convert: layer",
    ),
    "a tensor as option": (
        lambda: convert(host(), head="sampled_softmax", log_proposal=torch.zeros(5)),
        TypeError,
        "convert: log_proposal",
    ),
    "other labels than outputs": (
        lambda: convert(relabeled(host())),
        ValueError,
        "convert: model",
    ),
    "converted twice": (lambda: convert(convert(host())), ValueError, "convert: model"),
    "no labels": (
        lambda: convert(host())(**inputs(), num_items_in_batch=6),
        ValueError,
        "DropMaxForClassification.forward: labels",
    ),
    "another method": (
        lambda: predicting("exactly"),
        ValueError,
        "DropMaxHead.log_probs: method",
    ),
}


def relabeled(model):
    model.config.num_labels = 7
    return model


def predicting(method):
    model = convert(host())
    model.config.method = method
    return model(**inputs())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_clear_sentence(case):
    call, kind, where = WRONG[case]
    with raises(kind, where):
        call()


def test_what_was_not_converted_is_not_loaded(tmp_path):
    host().save_pretrained(tmp_path)
    with raises(ValueError, "DropMaxForClassification: config.host"):
        DropMaxForClassification.from_pretrained(tmp_path)
    convert(host()).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("BertForSequenceClassification", "Trainer"))
    with raises(ValueError, "DropMaxForClassification: config.architecture"):
        DropMaxForClassification.from_pretrained(tmp_path)


def test_a_module_with_a_configuration_of_transformers_is_a_module():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = transformers.BertConfig(**TEXT)
            self.encoder = transformers.BertModel(self.config)
            self.fc = nn.Linear(16, 5)

        def forward(self, **batch):
            return self.fc(self.encoder(**batch).pooler_output)

    assert isinstance(convert(Own())(**inputs()), dropmax.Scores)
