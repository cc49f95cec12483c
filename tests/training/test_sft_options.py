"""SFT's options: what changes nothing (accumulation, packing), what changes what is learned, and what stops it."""

from typing import Any

import pytest

from grandrounds import lora, models
from grandrounds.domain import prompts
from grandrounds.encoding import Encoder
from grandrounds.engines import factory
from grandrounds.errors import UserError
from grandrounds.params import Adapter, Checkpoints, Lora, SftTraining
from grandrounds.records import Trace
from grandrounds.runtime import seed_everything
from grandrounds.training import adapter, packing, sft
from grandrounds.training.checkpoints import Keeper, Score, best, keeping, stale
from tasks.adapt import mixed

FORM = prompts.form("reasoning", prompts.COMPACT)


def loaded(tiny: Any, full: bool = False) -> tuple[Any, Encoder]:
    model, processor = models.load(tiny.folder, "cpu", "float32")
    seed_everything(7)
    return adapter.unfreeze_language(model) if full else adapter.attach(model, Lora(r=4)), Encoder(
        processor, tiny.images
    )


def examples(tiny: Any, count: int = 8) -> list[sft.Example]:
    pictured = [q for q in tiny.questions if q.image][: count // 2]
    text = [q for q in tiny.questions if not q.image][: count - len(pictured)]
    assert len(pictured) == len(text) == count // 2  # both kinds in one batch
    return [sft.Example(q, FORM, prompts.target(q.explanation, q.answer, FORM)) for q in pictured + text]


def losses(tiny: Any, **options: Any) -> list[float]:
    model, encoder = loaded(tiny)
    seen: list[float] = []
    schedule = sft.Schedule(3, options.pop("batch", 8), 1e-2, 0.0, **options)
    sft.train(model, encoder, examples(tiny), schedule, 7, lambda _, figures: seen.append(figures["loss"]))
    return seen


def test_micro_batches_and_packed_rows_give_the_losses_of_the_whole_batch(tiny: Any) -> None:
    whole = losses(tiny)
    assert losses(tiny, accumulation=8) == pytest.approx(whole, abs=1e-5)
    _, encoder = loaded(tiny)
    data = examples(tiny)
    sizes = [len(encoder.prompt(e.question, FORM).ids) + len(encoder.completion(e.target)) for e in data]
    packed = losses(tiny, packing=sum(sizes), batch=1)  # all eight in one row: none may see another
    assert packed == pytest.approx(whole, abs=1e-5)
    prompts_too = losses(tiny, whole_turns=True)
    assert losses(tiny, whole_turns=True, packing=sum(sizes), batch=1) == pytest.approx(prompts_too, abs=1e-5)
    assert abs(prompts_too[0] - whole[0]) > 1e-3


def test_rows_are_packed_best_fit_and_none_is_cut() -> None:
    assert packing.bins([5, 3, 4, 2, 2], 8) == [[0, 1], [2, 3, 4]]
    with pytest.raises(UserError, match="has 9 tokens and a row 8; packing: 9 would do"):
        packing.bins([3, 9], 8)


def test_a_full_fine_tune_is_a_whole_model_that_predicts_and_does_not_merge(tiny: Any, tmp_path: Any) -> None:
    model, encoder = loaded(tiny, full=True)
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    sft.train(model, encoder, examples(tiny), sft.Schedule(2, 4, 1e-2, 0.0), 7, lambda *_: None)
    changed = {name for name, each in model.named_parameters() if not each.equal(before[name])}
    assert changed and not any("visual" in name for name in changed)
    adapter.save_whole(model, encoder.processor, tmp_path / "full")
    from grandrounds.params import TransformersEngine, load

    engine: Any = factory.make(TransformersEngine(), tiny.folder, load(), 7, "predict.engine", tmp_path / "full")
    name = sorted(changed)[0]
    assert dict(engine.model.named_parameters())[name].equal(dict(model.named_parameters())[name])
    with pytest.raises(UserError, match=r"full: is a whole model, not an adapter.*method: lora"):
        lora.load_update(tmp_path / "full")


def trace(number: int, specialty: str) -> Trace:
    text = {"question_id": str(number), "specialty": specialty, "teacher": "", "revision": "", "prompt": ""}
    return Trace(**text, sample=0, n=1, correct=1, tokens=1, cost=0.0, thinking="", target="")


def test_a_share_of_general_data() -> None:
    traces = [trace(i, "pediatrics" if i < 40 else "oncology_surgery") for i in range(200)]
    own = Adapter(specialties=("pediatrics",))
    assert mixed(traces, own, 7) == traces[:40]
    fifth = mixed(traces, own.model_copy(update={"general": 0.2}), 7)
    assert fifth[:40] == traces[:40] and len(fifth) == 50 and len({each.question_id for each in fifth}) == 50
    assert mixed(traces, own.model_copy(update={"general": 0.2}), 8) != fifth
    assert len(mixed(traces, own.model_copy(update={"general": 0.99}), 7)) == 200


def test_the_best_by_rule_and_when_to_stop() -> None:
    scores = [Score(10, 0.5, 0.9, 400), Score(20, 0.6, 0.7, 200), Score(30, 0.6, None, 90), Score(40, 0.6, 0.7, 90)]
    by = {"every": 10, "keep": "best"}
    assert best(scores, Checkpoints(**by)).step == 20  # of equals the earliest
    assert best(scores, Checkpoints(**by, rule="reasoning")).step == 10
    assert best(scores, Checkpoints(**by, rule="reasoning", tokens=256)).step == 20
    assert best(scores, Checkpoints(**by, tokens=50)) is None
    assert [stale(scores[:n], Checkpoints(**by, patience=2)) for n in range(1, 5)] == [False, False, False, True]
    with pytest.raises(ValueError, match="patience need scored checkpoints"):
        Checkpoints(patience=1)


def test_patience_ends_training_and_the_best_weights_are_left(tiny: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    model, encoder = loaded(tiny)
    trained: dict[int, Any] = {}

    def score(one: Any, step: int) -> Score:
        trained[step] = [p.detach().clone() for p in one.parameters() if p.requires_grad]
        return Score(step, 1.0 if step == 2 else 0.5, None, 8)

    settings = Checkpoints(every=1, keep="best", patience=2)
    with keeping("adapt", "tiny", "same", settings, "base", score=score) as keeper:
        told = sft.train(model, encoder, examples(tiny), sft.Schedule(9, 4, 1e-2, 0.0), 7, lambda *_: None, keeper)
    assert sorted(trained) == [1, 2, 3, 4] and told["checkpoints"]["kept"] == 2
    left = [p for p in model.parameters() if p.requires_grad]
    assert all(a.equal(b) for a, b in zip(left, trained[2], strict=True))


def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_is_kept(
    tiny: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    model, encoder = loaded(tiny)

    def on_step(step: int, _: Any) -> None:
        if step == 3:
            next(p for p in model.parameters() if p.requires_grad).data.fill_(float("nan"))

    data = examples(tiny)
    with (
        pytest.raises(UserError, match=r"step 4: the loss is nan, on questions .*step-000002") as caught,
        keeping("adapt", "tiny", "same", Checkpoints(every=2, questions=0), "base") as keeper,
    ):
        sft.train(model, encoder, data, sft.Schedule(9, 2, 1e-2, 0.0), 7, on_step, keeper)
    assert sum(each.question.id in str(caught.value) for each in data) == 2
    assert [path.name for path in keeper.folder.iterdir()] == ["step-000002"]

    other = Keeper(keeper.folder, keeper.settings, "another")
    with pytest.raises(UserError, match=r"was trained from base base, but the base now is another.*dvc checkout"):
        other.open()


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch 8 does not divide into accumulation 3; \[1, 2, 4, 8\] would"):
        SftTraining(batch=8, accumulation=3)
