"""A version of the registry that was never asked the whole selection split answers it now, so that it can be compared.

Checkpoints are such versions: their training asked them a sample. Asked, sampled and verified is as `predict` does it,
and which questions were right is kept with the version.
"""

from pathlib import Path

from grandrounds import delivery, files
from grandrounds.engines.validation import right
from grandrounds.errors import UserError
from grandrounds.params import Params
from grandrounds.records import Question
from grandrounds.tracking import promotion
from grandrounds.tracking.progress import progress


def examine(params: Params, model: str, version: str) -> float:
    """Ask `<model>@<version>` the selection split and keep its answers; the share that is right.

    UserError where its bytes, its base or the questions are not here, or where it is not known what its base was.
    """
    split = params.publish.select_split
    questions = files.read(f"data/curated/{split}.parquet", Question)
    with delivery.located(model, version) as found:
        if found.adapter is not None and "base_md5" not in found.tags:
            raise UserError(
                f"{model} version {version}: its base is not noted, so that {delivery.BASE} may be another one; "
                "`grandrounds pick --checkpoints` it again"
            )
        whole = None if found.base == Path(delivery.BASE) else found.base
        name = found.tags.get("arm", f"version {version}")
        with progress(len(questions), f"answers, {name}") as advance:
            correct = right(questions, params, found.adapter or whole, advance)
    answers: promotion.Answers = {
        question.id: [question.group, ok] for question, ok in zip(questions, correct, strict=True)
    }
    share = sum(correct) / max(1, len(correct))
    promotion.keep(model, version, answers, {f"{split}.accuracy": f"{share:.6g}"})
    return share
