"""Words that state a fact in a medical text, by what they come to: the tables of :mod:`grandrounds.domain.wording`."""


def _words(table: str) -> dict[str, str]:
    """{"neonate": "newborn", ...} of lines "newborn: neonate neonatal"; a meaning stands for itself too."""
    lines = [line.partition(":") for line in table.strip().splitlines()]
    return {word: name.strip() for name, _, words in lines for word in [name.strip(), *words.split()]}


COUNTS = _words("""
2: two
3: three
4: four
5: five
6: six
7: seven
8: eight
9: nine
10: ten
11: eleven
12: twelve
""")  # "one" is seldom a number: "which one of these"
ROMAN = _words("""
1: i
2: ii
3: iii
4: iv
5: v
6: vi
7: vii
8: viii
9: ix
10: x
11: xi
12: xii
""")
# Behind these a roman numeral is a number: "stage IV", and not "IV fluids".
NUMBERED = frozenset(_words("stage: grade type class factor nerve phase group degree category level"))

UNITS = _words("""
%: percent pct
g: gram grams gm
kg: kilogram kilograms kilo
mg: milligram milligrams
ug: mcg microgram micrograms
ng: nanogram nanograms
l: liter liters litre litres
dl: deciliter deciliters decilitre decilitres
ml: milliliter milliliters millilitre millilitres cc
mol: mole moles
mmol: millimole millimoles
umol: micromole micromoles
meq: milliequivalent milliequivalents
u: unit units iu
m: meter meters metre metres
cm: centimeter centimeters centimetre centimetres
mm: millimeter millimeters millimetre millimetres
um: micrometer micrometers micron microns
mmhg:
kpa:
bpm: beats
c: celsius centigrade
f: fahrenheit
gy: gray grays
second: seconds sec secs s
minute: minutes min mins
hour: hours hr hrs h
day: days
week: weeks wk wks
month: months mo mos
year: years yr yrs y yo
""")
SIDES = _words("""
left: leftsided lt sinistra
right: rightsided rt dextra
bilateral: both bilaterally
unilateral: unilaterally
""")
AGES = _words("""
fetus: fetal foetus foetal
preterm: premature
newborn: newborns neonate neonates neonatal
infant: infants infantile baby babies
toddler: toddlers
preschooler: preschoolers
child: children childhood schoolchild pediatric paediatric boy boys girl girls
adolescent: adolescents adolescence teenager teenagers teen teens
adult: adults man men woman women
elderly: geriatric senior seniors
""")
SEXES = _words("""
male: males man men boy boys
female: females woman women girl girls
""")
NEGATIONS = _words("""
not: no without except never neither nor none non cannot false incorrect untrue wrong least unlikely
not: absent absence denies denied deny lacks lacking contraindicated
""")
# Words of which another would turn the question round; on the left what their forms come to.
OPPOSITES = _words("""
upper: uppermost
lower:
anterior: anteriorly ventral
posterior: posteriorly dorsal
medial: medially
lateral: laterally
proximal: proximally
distal: distally
superior:
inferior:
ascending:
descending:
internal:
external:
increase: increases increased increasing elevated elevation raised
decrease: decreases decreased decreasing reduced reduction
high: higher highest
low: lowest
before: preceding
after:
early: earlier earliest
late: later latest
acute: acutely
chronic: chronically
benign:
malignant:
primary:
secondary:
systolic:
diastolic:
arterial:
venous:
sensitivity:
specificity:
positive:
negative:
agonist: agonists
antagonist: antagonists
motor:
sensory:
flexion:
extension:
abduction:
adduction:
mild:
moderate:
severe:
""")
SITES = _words("""
brain: cerebral cerebrum intracranial
skull: cranial
eye: eyes ocular
ear: ears otic
nose: nasal
tongue: lingual
throat: pharynx pharyngeal
larynx: laryngeal
trachea: tracheal
lung: lungs pulmonary
heart: cardiac
aorta: aortic
esophagus: esophageal oesophagus oesophageal
stomach: gastric
duodenum: duodenal
jejunum: jejunal
ileum: ileal
appendix: appendiceal
colon: colonic
rectum: rectal
liver: hepatic
gallbladder:
pancreas: pancreatic
spleen: splenic
kidney: kidneys renal
bladder: vesical
prostate: prostatic
testis: testes testicle testicles testicular
ovary: ovaries ovarian
uterus: uterine
cervix:
breast: breasts mammary
thyroid:
parathyroid:
adrenal: adrenals
pituitary:
skin: cutaneous dermal
bone: bones osseous
spine: spinal
neck:
head:
face: facial
back:
groin: inguinal
chest: thorax thoracic
abdomen: abdominal belly
pelvis: pelvic
shoulder: shoulders
arm: arms
elbow: elbows
wrist: wrists
hand: hands
hip: hips
leg: legs
knee: knees
ankle: ankles
foot: feet
humerus:
radius:
ulna:
femur: femoral
tibia: tibial
fibula: fibular
""")
PREFIXES = ("hyper", "hypo", "brady", "tachy")  # of which one letter or two turn a finding into its opposite
