import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from grandrounds.domain.adapters import LoraFactors, LoraUpdate, concatenate
from grandrounds.errors import UserError
from grandrounds.lora import fold, load_adapter, load_update, normalise_config, save_update

MODULES = [f"model.layers.{layer}.self_attn.{kind}_proj" for layer in (0, 1) for kind in "qkvo"]


def tiny_model(seed: int = 0, tied: bool = True):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def random_update(
    seed: int, modules: list[str] = MODULES, ranks: tuple[int, ...] = (4,), scale: float = 2.0
) -> LoraUpdate:
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for number, module in enumerate(modules):
        rank = ranks[number % len(ranks)]
        a, b = torch.randn(rank, 16, generator=generator), torch.randn(16, rank, generator=generator)
        pairs[module] = LoraFactors(a * 0.3, b * 0.3, scale)
    return LoraUpdate(pairs)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 25).view(2, 12)).logits


def edit(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_written_folder_loads_in_plain_peft_and_folds_to_the_same_logits(tmp_path: Path) -> None:
    from peft import PeftModel

    update = random_update(1, ranks=(2, 4, 3), scale=1.7)
    save_update(tmp_path / "adapter", update)
    folded = tiny_model()
    before = logits(folded)
    load_adapter(folded, tmp_path / "adapter")
    wrapped = logits(PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter"))
    torch.testing.assert_close(wrapped, logits(folded), rtol=1e-4, atol=1e-5)
    assert (wrapped - before).abs().max() > 0.01
    weight = folded.get_submodule(MODULES[0]).weight
    reference = tiny_model().get_submodule(MODULES[0]).weight.double() + update[MODULES[0]].dense().double()
    torch.testing.assert_close(weight.double(), reference, rtol=1e-6, atol=1e-7)


def test_reads_what_peft_saves_with_patterns_and_rslora(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"], init_lora_weights=False, use_rslora=True,
        rank_pattern={r"layers\.1\.self_attn\.q_proj": 2}, alpha_pattern={"v_proj": 3},
    )  # fmt: skip
    wrapped = get_peft_model(tiny_model(), config).eval()
    wrapped.save_pretrained(tmp_path / "adapter")
    normalise_config(tmp_path / "adapter")
    update = load_update(tmp_path / "adapter")
    assert {module: factors.rank for module, factors in update.items() if "q_proj" in module} == {
        MODULES[0]: 4,
        MODULES[4]: 2,
    }
    folded = tiny_model()
    fold(folded, update)
    torch.testing.assert_close(logits(wrapped), logits(folded), rtol=1e-4, atol=1e-5)


def test_names_of_the_vision_language_model(tmp_path: Path) -> None:
    """PEFT and fold must mean the same modules of Qwen2_5_VLForConditionalGeneration."""
    from peft import PeftModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    def tiny():
        torch.manual_seed(0)
        text = {
            "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": True, "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        }  # fmt: skip
        vision = {
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        }  # fmt: skip
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()

    save_update(tmp_path / "a", random_update(3, ["model.language_model.layers.0.self_attn.q_proj"]))
    folded = tiny()
    before = logits(folded)
    load_adapter(folded, tmp_path / "a")
    after = logits(PeftModel.from_pretrained(tiny(), tmp_path / "a"))
    torch.testing.assert_close(after, logits(folded), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-4)


def test_round_trip_keeps_the_update_and_the_bytes(tmp_path: Path) -> None:
    update = concatenate(random_update(1, scale=0.37), random_update(2, ranks=(1, 2)))
    save_update(tmp_path / "one", update)
    again = load_update(tmp_path / "one")
    for module in update:
        torch.testing.assert_close(again[module].dense(), update[module].dense(), rtol=1e-6, atol=1e-7)
    save_update(tmp_path / "two", LoraUpdate(dict(reversed(list(update.items())))))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_normalised_config_has_no_trace_of_order_or_machine(tmp_path: Path) -> None:
    texts = []
    for number, order in enumerate((["v_proj", "q_proj"], ["q_proj", "v_proj"])):
        folder = tmp_path / str(number)
        save_update(folder, random_update(1))
        edit(
            folder,
            target_modules=order,
            base_model_name_or_path=f"/home/someone{number}/models/base",
            inference_mode=False,
        )
        (folder / "README.md").write_text("base_model: /home/someone/models/base")
        normalise_config(folder)
        texts.append((folder / "adapter_config.json").read_text())
        assert not (folder / "README.md").exists()
    assert texts[0] == texts[1]
    config = json.loads(texts[0])
    assert config["base_model_name_or_path"] == "models/base" and config["target_modules"] == ["q_proj", "v_proj"]
    assert list(config) == sorted(config) and "/home" not in texts[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 3}, "has rank 4"),
        ({"lora_alpha": None}, "lora_alpha"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(tmp_path: Path, changes: dict, named: str) -> None:
    save_update(tmp_path / "a", random_update(1))
    edit(tmp_path / "a", **changes)
    with pytest.raises(UserError, match=re.escape(named)):
        load_update(tmp_path / "a")


def test_missing_truncated_and_pickled_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc checkout"):
        load_update(tmp_path / "nowhere")
    save_update(tmp_path / "a", random_update(1))
    weights = tmp_path / "a" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a/adapter_model.safetensors: not a whole.*dvc checkout"):
        load_update(tmp_path / "a")
    weights.rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(UserError, match=r"adapter_model\.bin: pickled"):
        load_update(tmp_path / "a")


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"base_model.model.m.lora_A.weight": torch.ones(4, 3)}, "lora_A only"),
        ({"base_model.model.m.lora_embedding_A": torch.ones(4, 3)}, "lora_embedding_A"),
        (
            {"base_model.model.m.lora_A.weight": torch.full((4, 3), float("nan")),
             "base_model.model.m.lora_B.weight": torch.ones(3, 4)}, "module m: A holds NaN",
        ),
    ],
)  # fmt: skip
def test_bad_tensors_are_named(tmp_path: Path, tensors: dict[str, torch.Tensor], named: str) -> None:
    save_update(tmp_path / "a", random_update(1))
    save_file(tensors, tmp_path / "a" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=named):
        load_update(tmp_path / "a")


def test_folding_what_does_not_fit_changes_nothing() -> None:
    model = tiny_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"layers\.7\.self_attn\.q_proj is not in the base model \(1 of 2"):
        fold(model, random_update(1, [MODULES[0], "model.layers.7.self_attn.q_proj"]))
    with pytest.raises(UserError, match=r"mlp\.up_proj is \[32, 16\]"):
        fold(model, random_update(1, ["model.layers.0.mlp.up_proj"]))
    tied = LoraUpdate({"lm_head": LoraFactors(torch.ones(1, 16), torch.ones(64, 1))})
    with pytest.raises(UserError, match="shares its weight"):
        fold(model, tied)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    fold(tiny_model(tied=False), tied)


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_update(tmp_path / "a", random_update(1))
    old = (tmp_path / "a" / "adapter_model.safetensors").read_bytes()
    monkeypatch.setattr("grandrounds.lora.files.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_update(tmp_path / "a", random_update(2))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "adapter_model.safetensors").read_bytes() == old
