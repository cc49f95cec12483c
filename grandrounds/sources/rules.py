"""Published reference rules behind the embedded vignettes, each with its source.

A `Bands` rule cuts one measured number into named bands; a `Sum` rule adds the scores of parts. They are facts to learn
from, chosen because a machine can check them; research only, never for clinical use.
"""

from dataclasses import dataclass, replace

MEDLINE = "MedlinePlus Medical Encyclopedia, Vital signs (2023)"
PALS = "American Heart Association, PALS Provider Manual (2020), vital signs in children"
ABIM = "American Board of Internal Medicine, Laboratory Test Reference Ranges (2024)"
ACC = "ACC/AHA Guideline for High Blood Pressure in Adults (2017)"
KDIGO = "KDIGO Clinical Practice Guideline for Chronic Kidney Disease (2012), GFR categories"
APGAR = "Apgar, Anesth Analg 32 (1953); ACOG Committee Opinion 644 (2015)"
GCS = "Teasdale and Jennett, Lancet 304 (1974); severity as in BTF guidelines"
WHO_HEARING = "World Health Organization, World report on hearing (2021), grades of hearing loss"
NIHSS = "Brott et al., Stroke 20 (1989); severity bands as in NINDS practice"
AAO = "American Academy of Ophthalmology, intraocular pressure (2023)"
STEINER = "Steiner and Andrews, Br J Anaesth 97 (2006)"
TOMBAUGH = "Tombaugh and McIntyre, J Am Geriatr Soc 40 (1992)"
RECIST = "Eisenhauer et al., RECIST 1.1, Eur J Cancer 45 (2009)"
NINES = "Wallace, Lancet 257 (1951), rule of nines; infant modification as taught in ATLS"
AJCC = "AJCC Cancer Staging Manual, 8th edition (2017), T category by size"
DAMICO = "D'Amico et al., JAMA 280 (1998), risk by PSA"


GRIDS, MOST_VALUES = (1, 2, 5, 10, 20, 50), 240
SHIFT = 0.7  # of the room that the asked values leave: how far misremembered cuts may lie from the published ones


@dataclass(frozen=True)
class Bands:
    """`labels[i]` holds from `cuts[i-1]` up to just below `cuts[i]`, in steps of `10 ** -decimals`."""

    specialty: str
    topic: str
    subject: str  # who or what: "Infant", "Breast tumour"
    measure: str
    unit: str
    cuts: tuple[float, ...]
    labels: tuple[str, ...]
    low: float  # of the values asked about, both ends included
    high: float
    source: str
    decimals: int = 0
    anchor: str = ""  # the band that the explanation states, whatever the value: "normal", or the middle grade

    @property
    def name(self) -> str:
        return f"{self.subject} {self.measure}".lower()

    def text(self, value: float) -> str:
        return f"{value:.{self.decimals}f}"

    def values(self) -> list[float]:
        """The values asked about: from `low` to `high` on the finest of GRIDS with under MOST_VALUES points."""
        spans = [(self.high - self.low) * 10**self.decimals / step for step in GRIDS]
        step = next(step for step, count in zip(GRIDS, spans, strict=True) if count < MOST_VALUES)
        points = range(round(self.low * 10**self.decimals), round(self.high * 10**self.decimals) + 1, step)
        return [round(point / 10**self.decimals, self.decimals) for point in points]

    def band(self, value: float) -> int:
        return sum(value >= cut for cut in self.cuts)

    def misremembered(self) -> "Bands":
        """The rule as it is often misquoted: its cuts a band's width away, on the side where there is more room."""
        below, above = self.cuts[0] - self.low, self.high - self.cuts[-1]
        room = max(below, above)
        width = min(self.cuts[-1] - self.cuts[0] or room / 2, SHIFT * room)
        step = 10**-self.decimals
        shift = max(round(width, self.decimals), step) * (1 if above >= below else -1)
        return replace(self, cuts=tuple(round(cut + shift, self.decimals) for cut in self.cuts))

    def ends(self, band: int) -> tuple[float | None, float | None]:
        """First and last value of a band; None where it is open."""
        first = self.cuts[band - 1] if band > 0 else None
        last = round(self.cuts[band] - 10**-self.decimals, self.decimals) if band < len(self.cuts) else None
        return first, last

    def span(self, band: int) -> str:
        """The band in words: "60 to 100", "below 20", "95 or more"."""
        first, last = self.ends(band)
        if first is None:
            return f"below {self.text(self.cuts[0])}"
        return f"{self.text(first)} to {self.text(last)}" if last is not None else f"{self.text(first)} or more"


@dataclass(frozen=True)
class Sum:
    """Parts whose scores have to be known, and are added: the total is the answer."""

    specialty: str
    topic: str
    subject: str
    measure: str
    unit: str
    parts: dict[str, int]  # part -> its score
    source: str
    confused: dict[str, int]  # parts that are often misquoted -> the score that is quoted
    at_most: int = 3  # parts asked about at once

    @property
    def name(self) -> str:
        return f"{self.subject} {self.measure}".lower()

    def misremembered(self) -> "Sum":
        return replace(self, parts=self.parts | self.confused)


Rule = Bands | Sum


def _range(topic, subject, measure, unit, low, high, ends, source, decimals=0, specialty="adult_medicine") -> Bands:
    """A reference range: low, normal, high; `high` is the last normal value."""
    above = round(high + 10**-decimals, decimals)
    labels = ("low", "normal", "high")
    return Bands(
        specialty, topic, subject, measure, unit, (low, above), labels, ends[0], ends[1], source, decimals, "normal"
    )


def _child(measure: str, unit: str, ranges: dict[str, tuple[int, int]], ends: tuple[int, int]) -> list[Bands]:
    return [
        _range("pediatric vital signs", age, measure, unit, *span, ends, PALS, specialty="pediatrics")
        for age, span in ranges.items()
    ]


def _graded(specialty, topic, subject, measure, unit, cuts, labels, ends, source, decimals=0) -> Bands:
    """A scale of which three neighbouring grades, or two, are asked about; the explanation states the middle one."""
    return Bands(specialty, topic, subject, measure, unit, cuts, labels, ends[0], ends[1], source, decimals, labels[1])


HEART, BREATHS, SYSTOLIC = "heart rate", "breathing rate", "systolic pressure"

ADULT: list[Rule] = [
    _range("adult vital signs", "Adult", HEART, "per minute", 60, 100, (30, 220), MEDLINE),
    _range("adult vital signs", "Adult", BREATHS, "per minute", 12, 18, (4, 60), MEDLINE),
    _range("adult vital signs", "Adult", SYSTOLIC, "mmHg", 90, 120, (50, 180), MEDLINE),
    _range("adult vital signs", "Adult", "temperature", "degrees", 36.5, 37.3, (34.0, 41.0), MEDLINE, 1),
    _range("electrolytes", "Adult", "sodium", "mmol/L", 136, 145, (115, 165), ABIM),
    _range("electrolytes", "Adult", "potassium", "mmol/L", 3.5, 5.0, (1.5, 8.0), ABIM, 1),
    _range("electrolytes", "Adult", "chloride", "mmol/L", 98, 106, (80, 125), ABIM),
    _range("electrolytes", "Adult", "bicarbonate", "mmol/L", 23, 28, (8, 45), ABIM),
    _range("electrolytes", "Adult", "calcium", "mg/dL", 8.6, 10.2, (5.0, 14.0), ABIM, 1),
    _range("electrolytes", "Adult", "magnesium", "mg/dL", 1.6, 2.6, (0.5, 5.0), ABIM, 1),
    _range("electrolytes", "Adult", "phosphorus", "mg/dL", 3.0, 4.5, (1.0, 8.0), ABIM, 1),
    _range("electrolytes", "Adult", "fasting glucose", "mg/dL", 70, 99, (30, 250), ABIM),
    _graded(
        "adult_medicine", "blood pressure stages", "Adult", "clinic systolic pressure", "mmHg", (120, 130),
        ("normal", "elevated", "stage 1"), (95, 139), ACC,
    ),
    _graded(
        "adult_medicine", "kidney function stages", "Adult", "filtration rate", "mL/min", (45, 60),
        ("G3b", "G3a", "G2"), (30, 89), KDIGO,
    ),
]  # fmt: skip

PEDIATRICS: list[Rule] = [
    *_child(
        HEART, "per minute",
        {"Neonate": (100, 205), "Infant": (100, 180), "Toddler": (98, 140), "Preschooler": (80, 120),
         "Schoolchild": (75, 118), "Adolescent": (60, 100)},
        (40, 240),
    ),
    *_child(
        BREATHS, "per minute",
        {"Infant": (30, 53), "Toddler": (22, 37), "Preschooler": (20, 28), "Schoolchild": (18, 25),
         "Adolescent": (12, 20)},
        (6, 75),
    ),
    *_child(
        SYSTOLIC, "mmHg",
        {"Neonate": (67, 84), "Infant": (72, 104), "Toddler": (86, 106), "Preschooler": (89, 112),
         "Schoolchild": (97, 115), "Adolescent": (110, 131)},
        (45, 165),
    ),
    _graded(
        "pediatrics", "Apgar", "Newborn", "Apgar score", "points", (4, 7), ("low", "moderate", "reassuring"), (0, 10),
        APGAR,
    ),
]  # fmt: skip

BRAIN: list[Rule] = [
    _graded(
        "brain_senses", "Glasgow Coma Scale", "Head injury", "coma score", "points", (9, 13),
        ("severe", "moderate", "mild"), (3, 15), GCS,
    ),
    _graded(
        "brain_senses", "hearing", "Hearing", "threshold", "decibels", (35, 50),
        ("mild", "moderate", "moderately severe"), (20, 64), WHO_HEARING,
    ),
    _graded(
        "brain_senses", "stroke", "Stroke", "NIHSS score", "points", (5, 16),
        ("minor", "moderate", "moderate to severe"), (1, 20), NIHSS,
    ),
    _range("pressures", "Eye", "pressure", "mmHg", 10, 21, (2, 60), AAO, specialty="brain_senses"),
    _range("pressures", "Skull", "pressure", "mmHg", 7, 15, (1, 50), STEINER, specialty="brain_senses"),
    _graded(
        "brain_senses", "cognition", "Memory clinic", "MMSE score", "points", (18, 24), ("severe", "mild", "none"),
        (0, 30), TOMBAUGH,
    ),
]  # fmt: skip


def _tumour(subject: str, measure: str, unit: str, cuts, labels, ends, decimals=0, source=AJCC) -> Bands:
    return _graded(
        "oncology_surgery", "tumour stage", subject, measure, unit, cuts, labels, ends, source, decimals
    )  # fmt: skip


_TRUNK = {"chest and belly": 18, "back": 18, "one arm": 9, "both arms": 18}
ONCOLOGY: list[Rule] = [
    _graded(
        "oncology_surgery", "RECIST response", "Tumour", "sum fell by", "percent", (30, 100),
        ("stable", "partial response", "complete response"), (5, 100), RECIST,
    ),
    _graded(
        "oncology_surgery", "RECIST response", "Tumour", "sum rose by", "percent", (20,), ("stable", "progression"),
        (1, 90), RECIST,
    ),
    _tumour("Breast tumour", "size", "mm", (21, 51), ("T1", "T2", "T3"), (2, 95)),
    _tumour("Lung tumour", "size", "mm", (21, 31), ("T1b", "T1c", "T2a"), (11, 40)),
    _tumour("Kidney tumour", "size", "mm", (41, 71), ("T1a", "T1b", "T2a"), (5, 100)),
    _tumour("Thyroid tumour", "size", "mm", (11, 21), ("T1a", "T1b", "T2"), (2, 40)),
    _tumour("Melanoma", "depth", "mm", (1.1, 2.1), ("T1", "T2", "T3"), (0.2, 4.0), 1),
    _tumour("Prostate", "PSA", "ng/mL", (11, 21), ("low risk", "medium risk", "high risk"), (1, 60), source=DAMICO),
    Sum(
        "oncology_surgery", "burns", "Burned adult", "burned area", "percent",
        {"head": 9, "one leg": 18, "both legs": 36, **_TRUNK, "groin": 1}, NINES,
        confused={"head": 18, "one leg": 14, "both legs": 28},  # an infant's
    ),
    Sum(
        "oncology_surgery", "burns", "Burned infant", "burned area", "percent",
        {"head": 18, "one leg": 14, "both legs": 28, **_TRUNK}, NINES,
        confused={"head": 9, "one leg": 18, "both legs": 36},  # an adult's
    ),
]  # fmt: skip

RULES: list[Rule] = [*ADULT, *PEDIATRICS, *BRAIN, *ONCOLOGY]

# Asked about in `unseen` only, open book: the range stands in the prompt, so no fact need be known.
NEVER_TRAINED: list[Bands] = [
    _range("open book", "Adult", "lipase", "U/L", 10, 140, (2, 400), ABIM),
    _range("open book", "Adult", "albumin", "g/dL", 3.5, 5.5, (1.5, 7.0), ABIM, 1),
    _range("open book", "Adult", "ferritin", "ng/mL", 24, 336, (3, 700), ABIM),
    _range("open book", "Adult", "amylase", "U/L", 25, 125, (5, 300), ABIM),
    _range("open book", "Adult", "haptoglobin", "mg/dL", 83, 267, (10, 500), ABIM),
    _range("open book", "Adult", "uric acid", "mg/dL", 2.5, 8.0, (0.5, 14.0), ABIM, 1),
]
