import pytest

from grandrounds.domain import prompts, rewards
from grandrounds.domain.answers import extract
from grandrounds.errors import UserError
from grandrounds.references import FORMS, REWARDS


def test_both_wordings_have_every_form_and_params_knows_them() -> None:
    assert set(prompts.COMPACT) == set(prompts.FULL) == set(FORMS)
    assert set(rewards.REWARDS) == set(REWARDS)
    assert set(prompts.GUIDELINES) < set(FORMS)


@pytest.mark.parametrize("wording", prompts.WORDINGS)
@pytest.mark.parametrize("name", FORMS)
def test_a_target_has_the_exact_form_and_begins_with_its_prefill(wording: str, name: str) -> None:
    form = prompts.form(name, prompts.WORDINGS[wording])
    turn = prompts.target("Because of this.", "normal", form)
    read = extract(turn, thinking=form.thinking)
    assert read.format_ok and read.answer == "normal"
    assert turn.startswith(form.prefill)


def test_an_unknown_form_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'bayesian'"):
        prompts.form("baysian", prompts.COMPACT)


def test_the_digest_changes_with_the_wording() -> None:
    assert prompts.digest(prompts.COMPACT) != prompts.digest(prompts.FULL)
