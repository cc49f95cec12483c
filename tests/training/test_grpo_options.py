"""What each option of GRPO does to a real, tiny training."""

import math

import pyarrow.parquet as pq
import pytest

from grandrounds import models
from grandrounds.domain import prompts, rewards
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import Gba, Gdpo, Grouped, GrpoItem, Lora, Watch
from grandrounds.runtime import seed_everything
from grandrounds.training import adapter, grpo
from grandrounds.training.dealing import Rollouts, micro_batch, replacements
from grandrounds.training.guarding import Diverged
from grandrounds.training.watching import Recorder, histogram


def item(**changes) -> GrpoItem:
    settings = {
        "questions": "data/curated/train.parquet", "init": "models/base", "rewards": {"length": 1.0},
        "group": 4, "questions_per_step": 2, "steps": 2, "max_new_tokens": 8, "loss": "dapo", "learning_rate": 1e-2,
    }  # fmt: skip
    return GrpoItem(**(settings | changes))


def trained(tiny, settings: GrpoItem, functions=None, recorder=None):
    """(figures of each step, LoRA weights, the questions that each reward call saw)."""
    model, processor = models.load(tiny.folder, "cpu", "float32")
    seed_everything(7)
    model = adapter.attach(model, Lora(r=4))
    asked: list[list[str]] = []

    def parity(completions, *, question, completion_ids, **_):
        """Something that differs in a group: whether the completion's tokens sum to an even number."""
        asked.append([each["id"] for each in question])
        return [float(sum(ids) % 2) for ids in completion_ids]

    functions = functions or [parity]
    seen: list[dict] = []
    grpo.train(
        model, Encoder(processor, tiny.images), tiny.questions[:9], functions, settings, prompts.COMPACT, 7,
        lambda _, figures: seen.append(figures), recorder,
    )  # fmt: skip
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    return seen, weights, asked


def lottery(every: int):
    """A reward of 1 for every `every`th row."""

    def reward(completions, **_):
        return [float(i % every == 0) for i in range(len(completions))]

    reward.__name__ = f"lottery{every}"
    return reward


def distance(one: dict, two: dict) -> float:
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def test_accumulation_changes_memory_and_not_the_update(tiny) -> None:
    """Loss dapo divides by the tokens of the whole step; bnpo would by those of a micro-batch, as TRL says."""
    (whole, at_once, asked), (parts, in_parts, again) = (
        trained(tiny, item(accumulation=n)) for n in (1, 8)
    )  # 8 rollouts a step: eight micro-batches of one
    assert asked == again
    assert [step["loss"] for step in whole] == pytest.approx([step["loss"] for step in parts], abs=1e-6)
    assert distance(at_once, in_parts) < 1e-4


def test_several_updates_share_one_batch_of_rollouts(tiny) -> None:
    seen, _, asked = trained(tiny, item(updates=2, iterations=2, steps=8, clip=1e-4))
    assert len(seen) == 8 and len(asked) == 2 and len(asked[0]) == 16
    assert seen[0]["clip_fraction"] == 0 and max(step["clip_fraction"] for step in seen[2:4]) > 0


def test_easy_to_hard_asks_in_order(tiny) -> None:
    _, _, asked = trained(tiny, item(order="easy_to_hard"))
    ids = [each.id for each in tiny.questions[:9]]
    assert asked == [[name for name in ids[i : i + 2] for _ in range(4)] for i in (0, 2)]


def test_groups_without_signal_give_way_to_other_questions(tiny, tmp_path) -> None:
    dull = {each.id for each in tiny.questions[:5]}

    def reward(completions, *, question, **_):
        return [0.0 if each["id"] in dull else float(i % 2) for i, each in enumerate(question)]

    settings = item(steps=3, watch=Watch(every=1))
    plain, _, _ = trained(tiny, settings, [reward])
    assert max(step["zero_variance_share"] for step in plain) > 0
    recorder = Recorder(settings.watch, tmp_path / "scratch")
    seen, _, _ = trained(tiny, settings.model_copy(update={"resample": 9}), [reward], recorder)
    recorder.finish(tmp_path)
    asked = {row["question_id"] for row in pq.read_table(tmp_path / "completions.parquet").to_pylist()}
    assert all(step["zero_variance_share"] == 0 for step in seen) and any(step.get("resampled", 0) for step in seen)
    assert asked and not asked & dull


def test_replacements_never_ask_the_same_again() -> None:
    assert replacements([3, 4], 3, 6, True, 1) == [5, 0, 1]
    found = replacements([0, 1, 2], 5, 6, False, 1)
    assert sorted(found) == [3, 4, 5] and found == replacements([0, 1, 2], 5, 6, False, 1)


@pytest.mark.parametrize(
    "how", [Grouped(scale="none"), Grouped(scale="batch"), Grouped(std_floor=0.5), Gdpo(type="gdpo")], ids=str
)
def test_every_kind_of_advantage_trains_and_shares_it(tiny, how) -> None:
    functions = [lottery(2), lottery(3)]
    settings = item(advantages=how, rewards={"lottery2": 1.0, "lottery3": 0.5}, loss="dr_grpo")
    seen, _, _ = trained(tiny, settings, functions)
    shares = [value for name, value in seen[0].items() if name.startswith("advantage_share/")]
    assert math.isfinite(seen[0]["loss"]) and len(shares) == 2 and sum(shares) == pytest.approx(1.0)


def test_plain_update_prompt_is_off_policy_and_clipped(tiny) -> None:
    gba = {"type": "gba", "within": 1.0, "between": 1.0}
    same, one, _ = trained(tiny, item(advantages=Gba(**gba), steps=2, clip=0.001))
    plain, two, _ = trained(tiny, item(advantages=Gba(**gba, update_prompt="plain"), steps=2, clip=0.001))
    assert same[0]["reward"] == plain[0]["reward"]  # the same rollouts, drawn under the guidelines
    assert same[0]["clip_fraction"] == 0 < plain[0]["clip_fraction"]  # the ratio is that of two prompts
    assert distance(one, two) > 0
    forms = prompts.COMPACT
    dealt = Rollouts.of(item(advantages=Gba(**gba, update_prompt="plain"), prompts=("reasoning",)), forms)
    assert {dealt.updated(0, form) for form in range(4)} == {forms["reasoning"]}
    with pytest.raises(UserError, match="open the assistant's turn"):
        Rollouts.of(item(advantages=Gba(**gba, update_prompt="plain"), prompts=("explanation",)), forms)


def test_scheduled_weights_reach_the_advantages(tiny) -> None:
    weights = {"lottery2": {0: 1.0, 2: 0.0}, "lottery3": {0: 0.0, 2: 1.0}}
    seen, _, _ = trained(tiny, item(rewards=weights, steps=3), [lottery(2), lottery(3)])
    assert [round(step["advantage_share/lottery2"], 6) for step in seen][::2] == [1.0, 0.0]
    assert 0 < seen[1]["advantage_share/lottery2"] < 1


def test_samples_and_histograms_are_kept_every_few_steps(tiny, tmp_path) -> None:
    settings = item(steps=5, watch=Watch(every=2, completions=3, bins=4), rewards={"length": 1.0, "reasoning": 1.0})
    functions = [rewards.length, lambda completions, **_: [None] * len(completions)]
    functions[1].__name__ = "reasoning"
    recorder = Recorder(settings.watch, tmp_path / "scratch")
    trained(tiny, settings, functions, recorder)
    recorder.finish(tmp_path)
    rows = pq.read_table(tmp_path / "completions.parquet").to_pylist()
    assert [row["step"] for row in rows] == [1] * 3 + [2] * 3 + [4] * 3
    assert all(row["rewards"] == ["length", "reasoning"] and row["scores"][1] is None for row in rows)
    assert all(row["reward"] == pytest.approx(row["scores"][0]) and row["tokens"] > 0 for row in rows)
    lines = (tmp_path / "histograms.csv").read_text().splitlines()
    assert lines[0] == "step,name,low,high,count"
    counts = [line.split(",") for line in lines[1:]]
    assert sum(int(c[-1]) for c in counts if c[:2] == ["2", "completion_length"]) == 8
    assert not (tmp_path / "scratch").exists() and not [c for c in counts if c[1] == "rewards/reasoning"]
    assert sum(row["count"] for row in histogram(1, "x", [1.0, 1.0, float("nan")], 5)) == 2


def test_a_step_that_spans_several_is_kept_once() -> None:
    recorder = Recorder(Watch(every=10), "somewhere")
    assert [step for step in range(1, 40, 4) if recorder.wants(step, 4)] == [1, 9, 17, 29, 37]
    assert not Recorder(Watch(every=0), "somewhere").wants(1, 1) and not Recorder(Watch()).wants(1, 1)


def test_a_batch_that_cannot_be_divided_is_refused_with_what_can() -> None:
    assert micro_batch(item(group=8, questions_per_step=6, accumulation=4), 2) == 6
    with pytest.raises(UserError, match=r"48 rollouts .* 5 micro-batches .* accumulation may be 1, 2, 3, 4, 6"):
        micro_batch(item(group=8, questions_per_step=6, accumulation=5), 1)
    with pytest.raises(UserError, match=r"questions rolled out at once.*multiple of 4"):
        micro_batch(item(group=8, questions_per_step=2), 4)


def broken(kind: str):
    def reward(completions, *, question, completion_ids, **_):
        bad = [i for i, each in enumerate(question) if each["id"] == broken.id]
        values = [0.5] * len(completions)
        if bad and kind == "raises":
            raise KeyError("no such column")
        if bad and kind == "short":
            del values[bad[0]]
        for i in bad if kind in ("nan", "inf") else []:
            values[i] = float(kind)
        return values

    reward.__name__ = "mine"
    return reward


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raises", "step 0: the reward 'mine' failed for row 4, question {id}: 'no such column'"),
        ("nan", "step 0: the reward 'mine' is nan for row 4, question {id} "),
        ("inf", "step 0: the reward 'mine' is inf for row 4, question {id} "),
        ("short", "returned 7 rewards for 8 completions.*row 4, question {id}"),
    ],
)
def test_a_reward_that_fails_is_named_with_its_row(tiny, kind: str, words: str) -> None:
    broken.id = tiny.questions[1].id
    with pytest.raises(UserError, match=words.format(id=broken.id)) as caught:
        trained(tiny, item(order="easy_to_hard"), [broken(kind)])
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, Diverged) == (kind in ("nan", "inf"))


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_the_weights_change(tiny, what: str, monkeypatch) -> None:
    from grandrounds.training import grpo_trainer

    kept: dict = {}

    class Spoiled(grpo_trainer.trainer_class()):
        def _get_per_token_logps_and_entropies(self, model, *args, **more):
            logps, entropy, loss = super()._get_per_token_logps_and_entropies(model, *args, **more)
            if self.state.global_step == 1 and logps.requires_grad:
                kept.update({n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad})
                kept["model"] = self.model
                if what == "loss":
                    logps = logps * math.nan
                else:
                    logps.register_hook(lambda grad: grad * math.nan)
            return logps, entropy, loss

    monkeypatch.setattr(grpo, "trainer_class", lambda: Spoiled)
    with pytest.raises(Diverged, match=f"step 2: the {what} is not finite, for questions .+checkpoint is kept"):
        trained(tiny, item(order="easy_to_hard", steps=3))
    model = kept.pop("model")
    assert all(p.equal(kept[n]) for n, p in model.named_parameters() if p.requires_grad)
