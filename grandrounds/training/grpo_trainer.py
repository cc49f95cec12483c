"""GRPOTrainer with prompts per rollout, our advantages and our decoding: one small subclass.

A group's rollouts may stand under different prompt forms (guidelines), which TRL cannot express; rewards are TRL's own
contract, and with plain GRPO the advantages are TRL's own numbers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grandrounds.domain import advantages as ours
from grandrounds.domain.rewards import weights_at
from grandrounds.encoding import Encoder, collate
from grandrounds.errors import UserError
from grandrounds.params import GrpoItem
from grandrounds.records import Question
from grandrounds.runtime import derive_seed
from grandrounds.training import dealing, guarding
from grandrounds.training.checkpoints import Resumable
from grandrounds.training.dealing import Rollouts
from grandrounds.training.watching import Recorder

MEND = "lower the learning rate, or raise beta"


if TYPE_CHECKING:
    from trl import GRPOTrainer as _Base
else:
    _Base = object  # importing TRL takes seconds: :func:`trainer_class` puts it underneath


class Dealt(_Base):
    """What is ours of the trainer."""

    def deal(
        self,
        encoder: Encoder,
        questions: Sequence[Question],
        rollouts: Rollouts,
        item: GrpoItem,
        recorder: Recorder,
    ) -> None:
        """Give what TRL's constructor has no place for. Raises UserError for options that exclude each other."""
        self._encoder, self._questions, self._rollouts, self._item = encoder, questions, rollouts, item
        self._recorder = recorder
        self._ready: list[list[int]] | None = None  # completions that resampling has already drawn
        self._batch: list[int] = []  # rows of the micro-batch at hand
        self.add_callback(guarding.gradient_guard(lambda: [questions[row] for row in self._batch]))
        if not self._own_decoding and (item.resample or rollouts.plain):
            raise UserError("grpo: resample and update_prompt: plain need our own decoding: no vLLM, no sharding")

    @property
    def _own_decoding(self) -> bool:
        return not (self.use_vllm or self.is_deepspeed_enabled or self.is_fsdp_enabled)

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
        """Deal the prompts of each rollout before, and replace the advantages after."""
        import torch

        self.reward_weights = torch.tensor(weights_at(self._item.rewards, self.state.global_step))
        rows = [each["row"] for each in inputs]
        if self._item.resample:
            rows, self._ready = self._with_signal(rows)
        forms = self._deal(rows)
        pictured = any(question.image for question, _ in self._asked)
        dealt = [dealing.row(self._encoder, question, form, pictured) for question, form in self._updated]
        output = super()._generate_and_score_completions(dealt)
        self._set_advantages(output, forms)
        if self._rollouts.plain:
            output["old_per_token_logps"] = self._sampled_logps(output)
        output["row"] = torch.tensor(rows, device=output["advantages"].device)
        self._record(output)
        return output

    def _deal(self, rows: list[int]) -> list[int]:
        """Set how each rollout is asked for, and under which prompt its update is computed; the forms' numbers."""
        group = self.num_generations
        forms = [self._rollouts.form(row, i % group, group) for i, row in enumerate(rows)]
        pairs = list(zip(rows, forms, strict=True))
        self._asked = [(self._questions[row], self._rollouts.forms[form]) for row, form in pairs]
        self._updated = [(self._questions[row], self._rollouts.updated(row, form)) for row, form in pairs]
        return forms

    def _set_advantages(self, output: dict, forms: list[int]) -> None:
        """Ours, of the groups of all processes, of which this one takes its own; where they are TRL's they stay."""
        import torch

        group, how = self.num_generations, self._item.advantages
        guidelines = self.accelerator.gather(torch.tensor(forms, device=self._scored.device))
        if ours.replaces(how):
            found = ours.advantages(self._scored, self.reward_weights, group, guidelines, how)
            own = slice(self._first, self._first + len(forms))
            output["advantages"] = found[own].to(output["advantages"])
        shares = ours.advantage_shares(self._scored, self.reward_weights, group, guidelines, how)
        for name, share in zip(self.reward_func_names, shares.tolist(), strict=True):
            self._metrics["train"][f"advantage_share/{name}"].append(share)

    @property
    def _first(self) -> int:
        """The place of this process's first rollout among those of all."""
        return self.accelerator.process_index * len(self._asked)

    def _with_signal(self, rows: list[int]) -> tuple[list[int], list[list[int]]]:
        """Rows and completions in which groups of equal rewards have given way to other questions' groups.

        After `resample` rounds those that are left stay: their advantages are 0.
        """
        group, ordered = self.num_generations, self._item.order == "easy_to_hard"
        chosen = rows[::group]
        drawn: list[list[int]] = [[] for _ in rows]
        seen, dull = set(chosen), list(range(len(chosen)))
        for turn in range(self._item.resample + 1):
            if turn:
                seed = derive_seed(self.args.seed, self.state.global_step, self.accelerator.process_index, turn)
                fresh = dealing.replacements(sorted(seen), len(dull), len(self._questions), ordered, seed)
                dull = dull[: len(fresh)]
                seen |= set(fresh)
                for place, row in zip(dull, fresh, strict=True):
                    chosen[place] = row
                self._metrics["train"]["resampled"].append(len(fresh) / len(chosen))
            if not dull:
                break
            self._deal([chosen[place] for place in dull for _ in range(group)])
            found = self._sample(turn)
            for i, place in enumerate(dull):
                drawn[place * group : (place + 1) * group] = found[i * group : (i + 1) * group]
            signal = ours.informative(self._score(found), self.reward_weights, group).tolist()
            dull = [place for place, good in zip(dull, signal, strict=True) if not good]
        return [row for row in chosen for _ in range(group)], drawn

    def _score(self, ids: list[list[int]]) -> Any:
        """The rewards [B, R] of completions to what is asked now, on this process alone."""
        import torch

        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        rows = [dealing.row(self._encoder, question, form, False) for question, form in self._asked]
        columns = {name: [row[name] for row in rows] for name in rows[0]} | {"prompts": [r["prompt"] for r in rows]}
        found = [
            reward(completions=texts, completion_ids=ids, trainer_state=self.state, **columns)
            for reward in self.reward_funcs
        ]
        values = [[torch.nan if value is None else value for value in each] for each in found]
        return torch.tensor(values, dtype=torch.float32, device=self.accelerator.device).T

    def _tokenize_prompts(self, asked: list) -> tuple:
        """Our own encoding: prefilled turns are continued, and each prompt is encoded once."""
        import torch

        rows = [self._encoder.prompt(question, form) for question, form in self._updated]
        fields: dict[str, Any] = {}
        for name in sorted({name for each in rows for name in each.vision}):
            fields[name] = torch.cat([each.vision[name] for each in rows if name in each.vision])
        images = None
        if fields:
            fields["mm_token_type_ids"] = [each.kinds for each in rows]
            images = [self._encoder.pictures(q) for q, _ in self._updated]
        return [each.ids for each in rows], images, fields

    def _generate_single_turn(
        self, prompt_ids: list, images: Any, multimodal_fields: dict, num_generations: int, **more: Any
    ) -> tuple:
        """Our own decoding, which encodes a prompt once for all its rollouts; sharded models keep TRL's."""
        if not self._own_decoding:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **more)
        ready, self._ready = self._ready, None
        return ready or self._sample(0), None

    def _sample(self, turn: int) -> list[list[int]]:
        model = self.accelerator.unwrap_model(self.model_wrapped)
        seed = derive_seed(self.args.seed, self.state.global_step, 0, *([turn] if turn else []))
        return dealing.rollouts(model, self._encoder, self._asked, self._item, seed, self._first)

    def _sampled_logps(self, output: dict) -> Any:
        """Log-probabilities [B, T] of the completions under the prompts that they were drawn under."""
        import torch

        rows = [self._encoder.prompt(question, form) for question, form in self._asked]
        ids, mask = output["completion_ids"], output["completion_mask"]
        asked = {name: value.to(ids.device) for name, value in collate(self._encoder, rows).items()}
        seen = {name: output[name] for name in ("pixel_values", "image_grid_thw", "num_images") if name in output}
        if seen:
            kinds = asked["mm_token_type_ids"]
            seen["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(ids.shape)], dim=1)
        with torch.no_grad():
            return self._get_per_token_logps_and_entropies(
                self.model, torch.cat([asked["input_ids"], ids], dim=1),
                torch.cat([asked["attention_mask"], mask], dim=1), ids.size(1),
                batch_size=self.args.per_device_train_batch_size, **seen,
            )[0]  # fmt: skip

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, batch_size: int | None = None,
        **more: Any,
    ) -> tuple:  # fmt: skip
        """TRL's, but a chunk without pictures of a batch with some gets no empty tensors, which Qwen refuses."""
        import torch

        counts, size = more.get("num_images"), batch_size or len(input_ids)
        starts = range(0, len(input_ids), size)
        above = super()._get_per_token_logps_and_entropies
        if counts is None or all(any(counts[start : start + size]) for start in starts):
            return above(model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **more)
        parts = []
        for rows in (slice(start, start + size) for start in starts):
            own = _pictures(more, rows)
            parts.append(above(model, input_ids[rows], attention_mask[rows], logits_to_keep, **own))
        logps, entropies, losses = zip(*parts, strict=True)
        return (
            torch.cat(logps),
            torch.cat(entropies) if entropies[0] is not None else None,
            torch.stack(losses).mean() if losses[0] is not None else None,
        )

    def _calculate_rewards(self, inputs: list, asked: list, completions: list, ids: list) -> Any:
        self._scored = super()._calculate_rewards(inputs, asked, completions, ids)
        return self._scored

    def _compute_loss(self, model: Any, inputs: dict) -> Any:
        """TRL's, which must be a number before a gradient is taken from it."""
        self._batch = inputs["row"].tolist()
        loss = super()._compute_loss(model, inputs)
        guarding.check_finite(
            loss.detach(), "loss", self.state.global_step + 1, [self._questions[row] for row in self._batch], MEND
        )
        return loss

    def _record(self, output: dict) -> None:
        """Hand this process's rollouts to the recorder, in the steps of which it keeps them."""
        step, span = self.state.global_step + 1, self._item.updates * self._item.iterations
        if not (self.accelerator.is_main_process and self._recorder.wants(step, span)):
            return
        pairs = zip(output["completion_ids"], output["completion_mask"], strict=True)
        ids = [tokens[mask.bool()].tolist() for tokens, mask in pairs]
        self._recorder.take(
            step, self._asked, [self._encoder.decode(each) for each in ids], [len(each) for each in ids],
            self.reward_func_names, self._scored[self._first : self._first + len(ids)], self.reward_weights,
            output["advantages"],
        )  # fmt: skip


def _pictures(columns: dict[str, Any], rows: slice) -> dict[str, Any]:
    """What some rows of a batch see: patches and grids of their own pictures, or no such column at all."""
    counts = columns["num_images"]
    first, last = sum(counts[: rows.start]), sum(counts[: rows.stop])
    seen = ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images")
    own = {name: value for name, value in columns.items() if name not in seen}
    if first == last:
        return own
    patches = [0, *columns["image_grid_thw"].prod(dim=-1).cumsum(0).tolist()]
    return own | {
        "pixel_values": columns["pixel_values"][patches[first] : patches[last]],
        "image_grid_thw": columns["image_grid_thw"][first:last],
        "mm_token_type_ids": columns["mm_token_type_ids"][rows],
        "num_images": counts[rows],
    }


def trainer_class() -> type:
    """TRL's trainer under ours."""
    from trl import GRPOTrainer

    class DealtGRPOTrainer(Resumable, Dealt, GRPOTrainer):
        pass

    return DealtGRPOTrainer
