"""Memory by arithmetic: counts against transformers' own models (no weights), terms against figures worked by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.memory import CONTEXT, GIB, MARGIN, SHAPES, Shape, Step, estimate, shape, smallest_accumulation

TINY = Shape(8, 16, 2, 2, 1, 100, True, vision_hidden=4, vision_layers=1, vision_intermediate=8)
STEP = Step(rows=8, prompt=10, completion=6, trainable=1000, adapter=True)


@pytest.mark.parametrize("name", SHAPES)
def test_counts_are_those_of_transformers(name: str) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2VLConfig

    given = SHAPES[name]
    text = {
        "hidden_size": given.hidden, "intermediate_size": given.intermediate, "num_hidden_layers": given.layers,
        "num_attention_heads": given.heads, "num_key_value_heads": given.kv_heads, "vocab_size": given.vocabulary,
        "tie_word_embeddings": given.tied,
    }  # fmt: skip
    if given.gated:
        vision = {"hidden_size": 1280, "intermediate_size": given.vision_intermediate, "out_hidden_size": given.hidden}
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=given.tied)
    else:
        config = Qwen2VLConfig(
            text_config=text, vision_config={"hidden_size": given.hidden}, tie_word_embeddings=given.tied
        )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert given.parameters() == sum(each.numel() for each in model.parameters())
    assert shape(config.to_dict()) == given


def test_published_sizes() -> None:
    """Bytes of the published bfloat16 weights, by their index files."""
    bytes_ = {name.split("/")[1]: 2 * each.parameters() for name, each in SHAPES.items()}
    assert bytes_["Qwen2.5-VL-3B-Instruct"] == 7_509_245_952
    assert bytes_["Qwen2.5-VL-7B-Instruct"] == 16_584_333_312
    assert bytes_["Qwen2-VL-2B-Instruct"] == 4_417_971_200


def test_terms_worked_by_hand() -> None:
    # a layer: q and o 8 x 8, k and v 8 x 4, three 8 x 16; biases 8 + 4 + 4; norms 16. Twice; 100 x 8; last norm 8
    assert TINY.language() == 2 * (2 * 64 + 2 * 32 + 3 * 128 + 16 + 16) + 800 + 8
    assert TINY.lora(2, ["q_proj", "v_proj"]) == 2 * 2 * (16 + 12)
    found = estimate(TINY, replace(STEP, rollouts=True), width=2)
    assert found["weights"] == 2 * TINY.parameters() and found["gradients"] == 4000 and found["optimizer"] == 8000
    assert found["activations"] == 2 * (8 * 16) * 2 * (6 * 8 + 2 * 4 + 4 * 16)
    assert found["scores"] == 8 * 7 * 100 * 4 * 3
    assert found["cache"] == (8 * 16) * 2 * 4 * 2 * 2
    held = found["weights"] + found["gradients"] + found["optimizer"]
    assert found["total"] == CONTEXT + MARGIN * (held + found["activations"] + found["scores"])


def test_full_fine_tuning_of_the_3b_model_worked_by_hand() -> None:
    """3.09 G parameters of the language model in bfloat16: 2 bytes each for gradients, 4 for the moments."""
    model = SHAPES["Qwen/Qwen2.5-VL-3B-Instruct"]
    step = Step(16, 512, 512, model.language(), adapter=False, accumulation=16, reference=True)
    found = estimate(model, step)
    assert found["weights"] / GIB == pytest.approx(6.99, abs=0.01) and found["reference"] == found["weights"]
    assert found["gradients"] / GIB == pytest.approx(5.75, abs=0.01)
    assert found["optimizer"] / GIB == pytest.approx(11.50, abs=0.01)
    eighth = estimate(model, step, devices=8, sharded=True)
    assert eighth["optimizer"] == found["optimizer"] / 8 and eighth["weights"] == found["weights"] / 8


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 64), st.booleans())
def test_dividing_never_costs_and_longer_never_saves(accumulation: int, completion: int, checkpointing: bool) -> None:
    step = replace(STEP, completion=completion, checkpointing=checkpointing)
    whole, divided = estimate(TINY, step), estimate(TINY, replace(step, accumulation=accumulation))
    assert divided["total"] <= whole["total"]
    assert estimate(TINY, replace(step, completion=completion + 1))["total"] > whole["total"]
    assert estimate(TINY, replace(step, checkpointing=True))["activations"] <= whole["activations"]


def test_the_smallest_accumulation_that_fits() -> None:
    small, large = (estimate(TINY, replace(STEP, accumulation=n))["total"] for n in (4, 2))
    assert small < large and smallest_accumulation(TINY, STEP, (small + large) / 2) == 4
    assert smallest_accumulation(TINY, STEP, CONTEXT) is None
