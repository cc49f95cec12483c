"""GRPOTrainer with prompts per rollout and our advantages: one small subclass.

A group's rollouts may stand under different prompt forms (guidelines), which TRL cannot express; rewards are TRL's own
contract, and with plain GRPO the advantages are TRL's own numbers.
"""

from collections.abc import Sequence
from typing import Any

from grandrounds.domain import advantages as ours
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import GrpoItem
from grandrounds.records import Question
from grandrounds.runtime import derive_seed
from grandrounds.training.checkpoints import Resumable
from grandrounds.training.dealing import Rollouts, rollouts, row


def trainer_class() -> type:
    """GRPOTrainer with prompts per rollout and our advantages. Built here, as importing TRL takes seconds."""
    import torch
    from trl import GRPOTrainer

    class DealtGRPOTrainer(Resumable, GRPOTrainer):
        def deal(self, encoder: Encoder, questions: Sequence[Question], rollouts: Rollouts, item: GrpoItem) -> None:
            self._encoder, self._questions, self._rollouts, self._item = encoder, questions, rollouts, item

        def _generate_and_score_completions(self, inputs: list[dict]) -> dict:
            """Rewrite each rollout's prompt before, and replace the advantages after."""
            group = self.num_generations
            forms = [self._rollouts.form(each["row"], i % group, group) for i, each in enumerate(inputs)]
            self._asked = [
                (self._questions[each["row"]], self._rollouts.forms[f]) for each, f in zip(inputs, forms, strict=True)
            ]
            pictured = any(question.image for question, _ in self._asked)
            dealt = [row(self._encoder, question, form, pictured) for question, form in self._asked]
            output = super()._generate_and_score_completions(dealt)
            guidelines = torch.tensor(forms, device=self._scored.device)
            weights = self.reward_weights
            found = ours.advantages(self._scored, weights, group, guidelines, self._item.advantages)
            output["advantages"] = found.to(output["advantages"])
            shares = ours.advantage_shares(self._scored, weights, group)
            for name, share in zip(self.reward_func_names, shares.tolist(), strict=True):
                self._metrics["train"][f"advantage_share/{name}"].append(share)
            return output

        def _tokenize_prompts(self, asked: list) -> tuple:
            """Our own encoding: prefilled turns are continued, and each prompt is encoded once."""
            rows = [self._encoder.prompt(question, form) for question, form in self._asked]
            fields: dict[str, Any] = {}
            for name in sorted({name for row in rows for name in row.vision}):
                fields[name] = torch.cat([row.vision[name] for row in rows if name in row.vision])
            images = None
            if fields:
                fields["mm_token_type_ids"] = [row.kinds for row in rows]
                images = [[self._encoder.image(q)] if q.image else [] for q, _ in self._asked]
            return [row.ids for row in rows], images, fields

        def _generate_single_turn(
            self, prompt_ids: list, images: Any, multimodal_fields: dict, num_generations: int, **more: Any
        ) -> tuple:
            """Our own decoding, which encodes a prompt once for all its rollouts; sharded models keep TRL's."""
            if self.use_vllm or self.is_deepspeed_enabled or self.is_fsdp_enabled:
                return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **more)
            model = self.accelerator.unwrap_model(self.model_wrapped)
            seed = derive_seed(self.args.seed, self.state.global_step, self.accelerator.process_index)
            return rollouts(model, self._encoder, self._asked, self._item, seed), None

        def _calculate_rewards(self, inputs: list, asked: list, completions: list, ids: list) -> torch.Tensor:
            self._scored = super()._calculate_rewards(inputs, asked, completions, ids)
            if torch.isinf(self._scored).any():
                raise UserError(f"step {self.state.global_step}: a reward is infinite; see grpo.items rewards")
            return self._scored

    return DealtGRPOTrainer
