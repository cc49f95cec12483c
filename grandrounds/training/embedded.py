"""The embedded model: a Qwen2.5-VL-class model small enough to be trained here from nothing, and its teacher.

Same class, processor and chat format as the real target, some 1.5 M parameters. The tokenizer is a byte-level BPE
trained on the corpus and on every prompt form; digits are single tokens, as in Qwen's own. <think> and <answer> are
ordinary added tokens, never special ones: TRL decodes with special tokens skipped, and every reward would be 0.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grandrounds.domain import prompts
from grandrounds.domain.prompts import Form
from grandrounds.params import EmbeddedModel
from grandrounds.records import Question
from grandrounds.training.sft import Example

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>", "<|vision_pad|>"]  # fmt: skip
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# how often each form is practised in pretraining: the plain one most, each other one enough to be understood
FORM_SHARES = {"reasoning": 0.2, "no_reasoning": 0.07}

# How often thoughts are worked out in pretraining, by form (always, where none is named); the others jump to the
# conclusion, which is right less often. The base knows both ways, and under the plain form it mostly jumps: what
# reinforcement finds is that working it out pays.
WORKED = {"reasoning": 0.4, "short_form": 0.2, "intuitive": 0.2, "differential": 0.8, "bayesian": 0.8}
JUMP = "So "


def prepare(built: Any) -> Any:
    """The model, ready to be trained: the projection of patches stays as it was drawn.

    Its 1,176 inputs all move at once, and at our learning rates the features under the rest never come to rest: frozen,
    marks and tissues are learned, else only the plane is. (A frozen random projection: Chen et al., 2104.02057.)
    """
    built.model.visual.patch_embed.requires_grad_(False)
    return built


def corpus(questions: Iterable[Question], forms: Mapping[str, Form]) -> list[str]:
    """Every text that the tokenizer should cover."""
    texts = [form.instruction + " " + form.prefill for form in forms.values()]
    for each in questions:
        texts.append(f"{each.question} {', '.join(each.options)} {each.explanation}")
        texts.append(each.answer)  # as it stands in its block, with no space before it
    return texts


def processor(spec: EmbeddedModel, texts: Sequence[str], image_size: int) -> Any:
    """A Qwen2.5-VL processor with a tokenizer trained on `texts`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    raw = Tokenizer(models.BPE())
    pieces = Regex(r" ?[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]+|\s+")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=spec.vocabulary - len(TAGS), special_tokens=SPECIAL, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=2,
        ),
    )  # fmt: skip
    raw.add_tokens(TAGS)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=2048,
        padding_side="left", additional_special_tokens=SPECIAL[1:],
    )  # fmt: skip
    tokenizer.image_token, tokenizer.video_token = "<|image_pad|>", "<|video_pad|>"
    area = image_size * image_size
    size = {"shortest_edge": area, "longest_edge": area}
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size), tokenizer, Qwen2VLVideoProcessor(size=size), chat_template=TEMPLATE
    )


def model(spec: EmbeddedModel, made: Any, seed: int) -> Any:
    """A freshly initialised model that fits the processor."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = made.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in {
        "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
    }.items()}  # fmt: skip
    head = spec.hidden // spec.heads
    text = {
        "vocab_size": len(tokenizer), "hidden_size": spec.hidden, "intermediate_size": 3 * spec.hidden,
        "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads,
        "num_key_value_heads": max(1, spec.heads // 2), "max_position_embeddings": 2048, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                            "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6]},
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
        "initializer_range": spec.hidden**-0.5,  # the usual 0.02 is for widths of thousands
    }  # fmt: skip
    vision = {
        "depth": spec.vision_layers, "hidden_size": spec.vision_hidden, "intermediate_size": 3 * spec.vision_hidden,
        "num_heads": 4, "out_hidden_size": spec.hidden, "fullatt_block_indexes": list(range(spec.vision_layers)),
        "initializer_range": spec.vision_hidden**-0.5,
    }  # fmt: skip
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    built = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():  # what vision hands over starts about as large as the embeddings of text
        built.model.visual.patch_embed.proj.weight.mul_(0.1)
        built.model.visual.merger.mlp[2].weight.mul_(0.04)
    built.generation_config.eos_token_id = tokenizer.eos_token_id
    built.generation_config.pad_token_id = tokenizer.pad_token_id
    return built


def examples(
    questions: Sequence[Question], forms: Mapping[str, Form], seed: int, *, worked: bool = False
) -> list[Example]:
    """One example a question, its form drawn: so that every form is known before any is reinforced.

    Only some thoughts are worked out, as `WORKED` says of each form; the others jump to the conclusion. `worked`: all
    are, as for a teacher.
    """
    rng = random.Random(f"{seed}/forms")
    rest = [name for name in forms if name not in FORM_SHARES]
    shares = [*FORM_SHARES.values(), *[(1 - sum(FORM_SHARES.values())) / len(rest)] * len(rest)]
    out = []
    for each in questions:
        name = rng.choices([*FORM_SHARES, *rest], shares)[0]
        thinking = each.explanation
        if rng.random() >= WORKED.get(name, 1.0) and not worked:
            thinking = JUMP + thinking.rpartition(JUMP)[2]
        out.append(Example(each, forms[name], prompts.target(thinking, each.answer, forms[name])))
    return out


def save(folder: Path, built: Any, made: Any) -> None:
    """Write model and processor as transformers reads them; weights as safetensors."""
    built.save_pretrained(folder, safe_serialization=True)
    made.save_pretrained(folder)
