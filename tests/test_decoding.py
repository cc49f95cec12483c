"""Our decoding against transformers' own, and against plain attention."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds import decoding, models
from grandrounds.domain import prompts
from grandrounds.encoding import Encoder, collate
from grandrounds.errors import UserError
from grandrounds.params import Sampling


@pytest.fixture(scope="module")
def loaded(tiny):
    model, processor = models.load(tiny.folder, "cpu", "float32")
    encoder = Encoder(processor, tiny.images)
    rows = [encoder.prompt(each, prompts.form("reasoning", prompts.COMPACT)) for each in tiny.questions[:10]]
    assert {bool(row.vision) for row in rows} == {True, False}
    return model, encoder, rows


def drawn(loaded, rows, seeds, **how) -> list[list[decoding.Drawn]]:
    return decoding.draw(loaded[0], loaded[1], rows, seeds, Sampling(**({"max_new_tokens": 24} | how)))


def test_greedy_is_what_transformers_generates(loaded) -> None:
    model, encoder, rows = loaded
    with torch.inference_mode():
        whole = model.generate(
            **collate(encoder, rows), max_new_tokens=24, do_sample=False, eos_token_id=encoder.end,
            pad_token_id=encoder.pad,
        )  # fmt: skip
    width = max(len(row.ids) for row in rows)
    for ids, (sample,) in zip(whole[:, width:].tolist(), drawn(loaded, rows, [[0]] * 10, temperature=0), strict=True):
        assert sample.ids == (ids[: ids.index(encoder.end)] if encoder.end in ids else ids)
        assert sample.finished == (encoder.end in ids)


def test_a_sample_is_its_own_whatever_else_is_drawn(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = loaded[2]
    seeds = [[100 * i + k for k in range(4)] for i in range(len(rows))]
    often = Counter(i for row in drawn(loaded, rows, seeds, temperature=2.0) for one in row for i in one.ids)
    monkeypatch.setattr(loaded[1], "end", often.most_common(1)[0][0])  # untrained, it hardly ever ends a turn
    all_at_once = drawn(loaded, rows, seeds, temperature=2.0)
    alone = [
        drawn(loaded, [row], [[seed]], temperature=2.0)[0][0]
        for row, mine in zip(rows, seeds, strict=True)
        for seed in mine
    ]
    assert [sample for mine in all_at_once for sample in mine] == alone
    assert len({tuple(sample.ids) for sample in alone}) > 30
    lengths = {len(sample.ids) for sample in alone}
    assert len(lengths) > 3 and {sample.finished for sample in alone} == {True, False}
    monkeypatch.setattr(decoding, "SPARED", 0.0)  # nobody leaves before all have ended
    assert drawn(loaded, rows, seeds, temperature=2.0) == all_at_once


def test_with_an_adapter_and_in_training_the_model_is_left_as_it_was(loaded, tiny) -> None:
    from grandrounds.params import Lora
    from grandrounds.training import adapter

    model, _ = models.load(tiny.folder, "cpu", "float32")
    before = drawn((model, loaded[1]), loaded[2], [[1, 2]] * 10)
    wrapped = adapter.attach(model, Lora(r=4)).train()
    how = wrapped.config.get_text_config()._attn_implementation
    assert drawn((wrapped, loaded[1]), loaded[2], [[1, 2]] * 10) == before  # B is zero
    assert wrapped.training and wrapped.config.get_text_config()._attn_implementation == how


def test_sliding_attention_is_refused_by_name(loaded) -> None:
    config = loaded[0].config.get_text_config()
    kinds, config.layer_types = config.layer_types, ["full_attention", "sliding_attention"]
    try:
        with pytest.raises(UserError, match="sliding_attention"):
            drawn(loaded, loaded[2], [[0]] * 10)
    finally:
        config.layer_types = kinds


def test_tokens_are_drawn_as_often_as_their_chances_say() -> None:
    from scipy.stats import chisquare

    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -float("inf")]]).expand(20_000, -1)
    noise = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts = torch.bincount(decoding.choose(logits, noise, Sampling(temperature=1.5)), minlength=5)
    chances = torch.softmax(logits[0].double() / 1.5, -1)
    assert counts[4] == 0
    assert chisquare(counts[:4].numpy(), (chances[:4] * 20_000).numpy()).pvalue > 1e-3
    nucleus = torch.bincount(decoding.choose(logits, noise, Sampling(top_p=0.7)), minlength=5)
    assert (nucleus[:2] > 0).all() and nucleus[2:].sum() == 0  # 0.64 + 0.24 pass 0.7
    only = decoding.choose(logits, noise, Sampling(top_p=0.01))
    assert (only == 0).all()


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(1, 9), st.integers(1, 70)
)
@settings(max_examples=40, deadline=None)
def test_attention_in_two_parts_is_attention_over_both(prompts, width, group, shared, length, own) -> None:
    torch.manual_seed(0)
    size, samples = 4, prompts * width
    before = [torch.randn(prompts, shared, length, size) for _ in range(2)]
    layer = decoding._Layer(*before)
    after = [torch.randn(samples, shared, own, size) for _ in range(2)]
    for place in range(own):
        layer.append(*(each[:, :, place : place + 1] for each in after))
    hidden = torch.rand(prompts, 1, 1, length) < 0.3
    hidden[..., -1] = False
    mask = torch.zeros(prompts, 1, 1, length).masked_fill(hidden, torch.finfo(torch.float32).min)
    query = torch.randn(samples, group * shared, 1, size)
    keys, values = (
        torch.cat([a.repeat_interleave(width, 0), b], 2).repeat_interleave(group, 1).double()
        for a, b in zip(before, after, strict=True)
    )
    whole = torch.cat([mask.repeat_interleave(width, 0), torch.zeros(samples, 1, 1, own)], -1).double()
    wanted = torch.nn.functional.scaled_dot_product_attention(query.double(), keys, values, whole, scale=0.5)
    found = decoding.attend(query, layer, mask, 0.5)
    assert torch.allclose(found.double(), wanted.transpose(1, 2), atol=1e-5)
