"""`grandrounds merge` on folders that PEFT itself wrote, loaded again by plain PEFT and transformers."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from grandrounds import files, merger
from grandrounds.domain.merging.merge import merge_exactly
from grandrounds.errors import UserError
from grandrounds.lora import load_update
from grandrounds.params import MergeRule
from grandrounds.records import Conflict, MergeReport

BASE = "someone/tiny"
KINDS = {
    "a": {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"]},
    "b": {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "k_proj", "v_proj"], "use_rslora": True},
    "c": {"r": 3, "lora_alpha": 3, "target_modules": ["q_proj"]},
}


def model(dtype: torch.dtype = torch.float32):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).to(dtype).eval()


def logits(found) -> torch.Tensor:
    with torch.no_grad():
        return found(input_ids=torch.arange(1, 25).view(2, 12)).logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from peft import LoraConfig, get_peft_model

    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, kind) in enumerate(KINDS.items()):
        wrapped = get_peft_model(model(), LoraConfig(init_lora_weights=False, **kind))
        torch.manual_seed(seed)
        for key, weight in wrapped.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(weight, std=0.3)
        wrapped.save_pretrained(root / name)
        edit(root / name, base_model_name_or_path=BASE)
    return {name: root / name for name in KINDS}


def edit(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def job(folders: dict[str, Path], kind: str = "ties", /, **more: object) -> merger.Job:
    own = more.pop("own", {})
    return merger.Job(folders, merger.described(kind, own), more.pop("weights", {}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ties", "linear", "conflict_aware"])
def test_adapters_of_many_kinds_merge_into_one_that_plain_peft_loads(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    from peft import PeftModel

    done = merger.run(job(folders, kind, weights={"b": 0.5}), tmp_path / "out")
    merged, updates = load_update(tmp_path / "out"), {name: load_update(path) for name, path in folders.items()}
    assert done.modules == len(merged) == 6 and done.rank == merged.rank and done.largest_error < 1e-6
    wanted = model()
    for name in merged:
        exact = merge_exactly(name, updates, {"b": 0.5}, merger.described(kind, {}))
        torch.testing.assert_close(merged[name].dense(), exact, rtol=1e-4, atol=1e-5)
        wanted.get_submodule(name).weight.data += exact
    loaded = PeftModel.from_pretrained(model(), tmp_path / "out")
    torch.testing.assert_close(logits(loaded), logits(wanted), rtol=1e-4, atol=1e-4)
    rows = files.read(tmp_path / "out/conflicts.parquet", Conflict)
    assert len(rows) == 2 * (2 + 1 + 1)  # a and b share q and v, c has q only
    assert len(files.read(tmp_path / "out/merge.parquet", MergeReport)) == 6
    card = (tmp_path / "out/README.md").read_text()
    assert f"base_model: {BASE}" in card and kind in card and done.fight in card and str(tmp_path) not in card


def test_cat_is_what_peft_calls_cat(folders: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel

    two = {name: folders[name] for name in ("a", "c")}  # PEFT's own would take rsLoRA's flag from the first
    merger.run(job(two, "linear", kind="cat", weights={"c": 0.5}), tmp_path / "out")
    loaded = PeftModel.from_pretrained(model(), folders["a"], adapter_name="a")
    loaded.load_adapter(folders["c"], adapter_name="c")
    loaded.add_weighted_adapter(["a", "c"], [1.0, 0.5], "both", combination_type="cat")
    loaded.set_adapter("both")
    ours = PeftModel.from_pretrained(model(), tmp_path / "out")
    torch.testing.assert_close(logits(ours), logits(loaded), rtol=1e-4, atol=1e-4)
    assert load_update(tmp_path / "out")["model.layers.0.self_attn.q_proj"].rank == 4 + 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_weights_in_the_shards_of_the_base(folders: dict[str, Path], tmp_path: Path, dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM

    model(dtype).save_pretrained(tmp_path / "base", max_shard_size="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    (tmp_path / "base/pytorch_model.bin").write_bytes(b"not to be copied")
    merger.run(job(folders, kind="full", base=tmp_path / "base"), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=dtype).eval()
    updates, plain = {name: load_update(path) for name, path in folders.items()}, model(dtype)
    for name, module in plain.named_modules():
        if any(name in update for update in updates.values()):
            exact = merge_exactly(name, updates, {}, merger.described("ties", {}))
            assert torch.equal(merged.get_submodule(name).weight, (module.weight.float() + exact).to(dtype))
        elif hasattr(module, "weight"):
            assert torch.equal(merged.get_submodule(name).weight, module.weight)
    assert not (tmp_path / "out/pytorch_model.bin").exists() and (tmp_path / "out/README.md").exists()


def test_names_of_older_checkpoints_are_found(tmp_path: Path) -> None:
    from grandrounds.shards import fold_into

    (tmp_path / "base").mkdir()
    (tmp_path / "out").mkdir()
    save_file({"model.layers.0.q_proj.weight": torch.zeros(2, 3)}, tmp_path / "base/model.safetensors")
    fold_into(tmp_path / "base", tmp_path / "out", ["model.language_model.layers.0.q_proj"], lambda _: torch.ones(2, 3))
    assert load_file(tmp_path / "out/model.safetensors")["model.layers.0.q_proj.weight"].sum() == 6
    with pytest.raises(
        UserError, match=r"has no weight model\.visual\.x\.weight: were the adapters trained on another"
    ):
        fold_into(tmp_path / "base", tmp_path / "out", ["model.visual.x"], lambda _: torch.ones(2, 3))


def test_rank_energy_and_rules_reach_the_merge(folders: dict[str, Path], tmp_path: Path) -> None:
    cut = merger.run(job(folders, rank=2), tmp_path / "two")
    assert cut.rank == 2 and cut.largest_error > 0.1
    most = merger.run(job(folders, energy=0.99), tmp_path / "most")
    assert most.rank is not None and 2 < most.rank < 32 and most.largest_error <= 0.1 + 1e-6
    rules = [MergeRule(update=name, weight=0.0) for name in "bc"]
    merger.run(job(folders, "linear", rules=rules), tmp_path / "alone")
    one, alone = load_update(folders["a"]), load_update(tmp_path / "alone")
    for name in one:
        torch.testing.assert_close(alone[name].dense(), one[name].dense(), rtol=1e-4, atol=1e-5)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def rewrite(folder: Path, change) -> None:
    tensors = weights_of(folder)
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def lie(folder: Path) -> None:
    """A header whose tensors end past the file's end."""
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    entry = header[f"{Q}.lora_A.weight"]
    entry["shape"][1] *= 1000
    entry["data_offsets"][1] += 999 * (entry["data_offsets"][1] - entry["data_offsets"][0])
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])


def pickle(folder: Path) -> None:
    torch.save(weights_of(folder), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


BAD = {
    "another base": (
        lambda f: edit(f, base_model_name_or_path="someone/else"),
        "base_model_name_or_path is 'someone/else'",
    ),
    "shape": (
        lambda f: rewrite(f, lambda t: t.update({f"{Q}.lora_B.weight": torch.ones(5, 2)})),
        r"module model\.layers\.0\.self_attn\.q_proj: the update is \[32, 32\] in 'a' and \[5, 32\] in 'b'",
    ),
    "nan": (
        lambda f: rewrite(f, lambda t: t[f"{Q}.lora_A.weight"].fill_(float("nan"))),
        r"b/adapter_model\.safetensors: module model\.layers\.0\.self_attn\.q_proj: A holds NaN",
    ),
    "infinity": (
        lambda f: rewrite(f, lambda t: t[f"{Q}.lora_B.weight"].fill_(float("inf"))),
        "B holds NaN or infinity",
    ),
    "missing module": (
        lambda f: rewrite(f, lambda t: [t.pop(f"{Q}.lora_{x}.weight") for x in "AB"]),
        r"b/adapter_model\.safetensors: module model\.layers\.0\.self_attn\.q_proj is missing, which adapter_config",
    ),
    "half a module": (lambda f: rewrite(f, lambda t: t.pop(f"{Q}.lora_B.weight")), "q_proj has lora_A only"),
    "empty": (lambda f: rewrite(f, lambda t: t.clear()), r"b/adapter_model\.safetensors: has no LoRA module"),
    "zero": (
        lambda f: rewrite(f, lambda t: [x.zero_() for k, x in t.items() if "lora_B" in k]),
        "'b' is zero in every",
    ),
    "lies about its size": (lie, r"b/adapter_model\.safetensors: not a whole safetensors file"),
    "pickled": (pickle, r"b/adapter_model\.bin: pickled weights can run code"),
    "dora": (lambda f: edit(f, use_dora=True), "use_dora is true"),
    "bias": (lambda f: edit(f, bias="lora_only"), "bias is"),
    "embeddings": (lambda f: edit(f, modules_to_save=["embed_tokens"]), "modules_to_save is"),
    "added tokens": (lambda f: edit(f, trainable_token_indices=[1]), "trainable_token_indices is"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(folders: dict[str, Path], tmp_path: Path, case: str) -> None:
    import shutil

    shutil.copytree(folders["b"], tmp_path / "b")
    spoil, named = BAD[case]
    spoil(tmp_path / "b")
    with pytest.raises(UserError, match=named) as caught:
        merger.run(job({"a": folders["a"], "b": tmp_path / "b"}), tmp_path / "out")
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["b"]


def test_bad_bases_and_jobs_leave_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    torch.save({}, base / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin: pickled"):
        merger.run(job(folders, kind="full", base=base), out)
    names = {f"model.layers.{i}.self_attn.{k}_proj.weight" for i in (0, 1) for k in "qkv"}
    save_file({name: torch.zeros(32, 32, dtype=torch.int8) for name in names}, base / "model.safetensors")
    with pytest.raises(UserError, match=r"is I8: quantised"):
        merger.run(job(folders, kind="full", base=base), out)
    save_file({name: torch.zeros(8, 32) for name in names}, base / "model.safetensors")
    with pytest.raises(UserError, match=r"is \[8, 32\], and the update of module"):
        merger.run(job(folders, kind="full", base=base), out)
    with pytest.raises(UserError, match="at least two adapters"):
        merger.run(job({"a": folders["a"]}), out)
    with pytest.raises(UserError, match="--base FOLDER"):
        merger.run(job(folders, kind="full"), out)
    with pytest.raises(UserError, match="did you mean 'ties'"):
        merger.described("tie", {})
    with pytest.raises(UserError, match="--method linear: density"):
        merger.described("linear", {"density": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    out.mkdir()
    with pytest.raises(UserError, match="exists"):
        merger.run(job(folders), out)


def test_the_command(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from grandrounds.cli import app

    monkeypatch.chdir(folders["a"].parent)
    given = [
        "merge",
        "--adapter",
        "a=a",
        "--adapter",
        "b=b",
        "--weight",
        "b=0.5",
        "--density",
        "0.4",
        "--set",
        "caution=2",
    ]
    ran = CliRunner().invoke(app, [*given, "--method", "conflict_aware", "--rank", "3", "-o", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    assert "2 adapters merged by conflict_aware in 6 modules, a LoRA of rank 3, at most" in ran.output
    assert "a and b fight most" in ran.output and load_update(tmp_path / "out").rank == 3
    wrong = CliRunner().invoke(app, ["merge", "--adapter", "a", "-o", str(tmp_path / "other")])
    assert isinstance(wrong.exception, UserError) and "NAME=VALUE is wanted" in str(wrong.exception)
