"""Specialty by rules: subject first, then modality of the picture, then words of the question; the first rule decides.

Datasets name subjects and modalities in many ways and specialties hardly ever. A rule is a row of a table that a reader
can dispute; which rule decided a row, and what share of rows each decided, is said, so that a table which leaves most
rows to its last resort is seen to. Children's questions are pediatric whatever their organ, as in hospitals. What no
rule decides, a model may be asked (ASKED, :func:`read`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from grandrounds.domain.prompts import Form
from grandrounds.records import SPECIALTIES

Look = Literal["subject", "modality", "question", "any"]  # any: the three together


class Rule(NamedTuple):
    """A row whose `look` has one of the words, whole and in any case, is of `specialty`. A word may be a phrase."""

    look: Look
    specialty: str  # of records.SPECIALTIES
    words: str  # separated by commas


class Label(NamedTuple):
    specialty: str
    rule: int | None  # place in the table; None where no rule applied, and the specialty is "other"
    word: str  # as it stands in the text, "" for none
    by: str  # what decided, for people: "rule 3: subject, brain_senses"


UNDECIDED = "no rule"  # Label.by where no rule applied
STATED = "stated by the source"

NAMES = {name: name.replace("_", " ") for name in SPECIALTIES}
ASKED = Form(
    "Which specialty does the question below belong to: adult medicine; pediatrics; brain senses (neurology, "
    "psychiatry, eyes, ears); oncology surgery (tumours, operations, injuries); or other? A child's question is "
    "pediatrics whatever its organ. Do not answer the question: reply with one of the five names only.",
    thinking=False,
)

CHILD = "pediatric, pediatrics, paediatric, paediatrics, neonate, neonatal, newborn, infant, toddler, child, children"
HEAD = "brain, cranial, cerebral, intracranial, neurology, neurosurgery, psychiatry, ophthalmology, otolaryngology, ent"
SENSES = (
    "eye, retina, retinal, fundus, ear, hearing, stroke, seizure, epilepsy, dementia, headache, glaucoma, meningitis"
)
TUMOUR = "oncology, surgery, surgical, orthopedics, orthopaedics, anesthesiology, anaesthesia"
GROWTHS = "cancer, carcinoma, tumor, tumour, metastasis, metastases, lymphoma, leukemia, leukaemia, sarcoma, melanoma"
ORGANS = "medicine, cardiology, nephrology, pulmonology, gastroenterology, endocrinology, hematology, dermatology"
AILMENTS = (
    "heart failure, hypertension, diabetes, pneumonia, kidney, liver, anemia, anaemia, asthma, arrhythmia, sepsis"
)

RULES: tuple[Rule, ...] = (
    Rule("subject", "pediatrics", CHILD),
    Rule("subject", "oncology_surgery", f"{TUMOUR}, {GROWTHS}"),
    Rule("subject", "brain_senses", f"{HEAD}, {SENSES}"),
    Rule("subject", "adult_medicine", ORGANS),
    Rule(
        "modality",
        "brain_senses",
        "fundus photography, oct, eeg, brain mr, brain mri, brain ct, head ct",
    ),
    Rule("modality", "oncology_surgery", "histopathology, pathology, mammography, pet, pet-ct, dermoscopy, endoscopy"),
    Rule("modality", "adult_medicine", "ecg, ekg, echocardiography"),
    Rule("question", "pediatrics", f"{CHILD}, boy, girl, adolescent, week-old, month-old"),
    Rule(
        "question",
        "oncology_surgery",
        f"{GROWTHS}, biopsy, resection, laparotomy, postoperative, chemotherapy, fracture",
    ),
    Rule("question", "brain_senses", f"{HEAD}, {SENSES}"),
    Rule("question", "adult_medicine", AILMENTS),
)


def labeller(rules: Sequence[Rule] = RULES) -> Callable[[Mapping[Look, str]], Label]:
    """A function from a row's texts by where they stand (subject, modality, question; each may lack) to its label."""
    tried = [(place, rule, _any_of(rule.words)) for place, rule in enumerate(rules)]

    def label(texts: Mapping[Look, str]) -> Label:
        for place, rule, words in tried:
            found = words.search("\n".join(texts.values()) if rule.look == "any" else texts.get(rule.look, ""))
            if found:
                return Label(rule.specialty, place, found.group(), f"rule {place + 1}: {rule.look}, {rule.specialty}")
        return Label("other", None, "", UNDECIDED)

    return label


def read(reply: str) -> str:
    """The specialty that a model named, or "" where it named none, or several."""
    words = " ".join(re.findall(r"[a-z]+", reply.casefold()))
    named = [specialty for specialty, name in NAMES.items() if re.search(rf"\b{name}\b", words)]
    return named[0] if len(named) == 1 else ""


def _any_of(words: str) -> re.Pattern[str]:
    listed = sorted((re.escape(word.strip()) for word in words.split(",")), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(listed)})(?!\w)", re.IGNORECASE)
