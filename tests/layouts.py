"""Small files in the layouts in which published sets are given out. Questions and pictures are made up."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OPTIONS = {"A": "the heart", "B": "the liver", "C": "the spleen", "D": "the lung"}


def picture(seed: int, form: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture file of blocks of colour that no other seed has."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(buffer, form)
    return buffer.getvalue()


def stored(seed: int) -> dict[str, Any]:
    """A picture as the hub's Parquet holds it."""
    return {"bytes": picture(seed), "path": f"{seed}.png"}


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def jsonl(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def array(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def zipped(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def m23k(root: Path) -> None:
    prompt = "Return your final response within \\boxed{}. Which organ beats?\n" + "\n".join(
        f"{letter}. {text}" for letter, text in OPTIONS.items()
    )
    hub = {"prompt": prompt, "answer_letter": "A", "answer_string": "the heart", "reasoning": "It pumps blood."}
    parquet(root / "data/train-00000-of-00001.parquet", [hub])
    ours = {"question": "Which organ makes bile?", "options": json.dumps(OPTIONS), "answer_label": "B", "reasoning": ""}
    jsonl(root / "train.jsonl", [{**ours, "answer": "the liver"}, {**ours, "options": "{'A': ", "question": "Broken?"}])


def pmc_vqa(root: Path) -> None:
    row = {"Figure_path": "PMC1064097_F1.jpg", "Question": "What is shown?", "Answer": "the liver"}
    row |= {f"Choice {letter}": f" {letter}:{text}" for letter, text in OPTIONS.items()} | {"Answer_label": "B"}
    second = {**row, "Figure_path": "PMC1064097_F2.jpg", "Question": "And here?"}
    table(root / "train.csv", [row, second, {**second, "Figure_path": "PMC2_F9.jpg"}])
    zipped(root / "images.zip", {f"images/PMC1064097_F{i}.jpg": picture(i, "JPEG") for i in (1, 2)})


def pmc_vqa_traces(root: Path) -> None:
    row = {"images": [stored(1)], "question": "Which organ?", "options": json.dumps(OPTIONS), "answer_label": "D"}
    row |= {"answer": "the lung", "dataset_name": "pmc_vqa"}
    parquet(root / "data/train-00000-of-00001.parquet", [{**row, "reasoning": "Air."}, {**row, "reasoning": None}])


def medvlthinker_eval(root: Path) -> None:
    row = {"images": [stored(1)], "question": "Which organ?", "options": json.dumps(OPTIONS), "answer_label": "D"}
    row |= {"answer": "the lung", "dataset_name": "slake"}
    lines = "\n".join(f"{letter}. {text}" for letter, text in OPTIONS.items())
    several = {**row, "images": [stored(2), stored(3)]}
    parquet(root / "data/test-0.parquet", [row, {**row, "options": lines, "question": "And?"}, several])


def vqa_rad(root: Path) -> None:
    row = {"qid": 1, "phrase_type": "freeform", "image_name": "synpic1.jpg", "image_organ": "CHEST"}
    row |= {"question": "Is the heart large?", "question_type": "SIZE", "answer": "Yes"}
    test = {**row, "qid": 2, "phrase_type": "test_freeform", "question": "How many ribs?", "answer": 24}
    array(root / "VQA_RAD Dataset Public.json", [row, test])
    (root / "VQA_RAD Image Folder").mkdir()
    (root / "VQA_RAD Image Folder/synpic1.jpg").write_bytes(picture(1, "JPEG"))


def slake(root: Path) -> None:
    row = {"img_id": 1, "img_name": "xmlab1/source.jpg", "question": "Which organ is abnormal?", "answer": "Lung"}
    row |= {"q_lang": "en", "location": "Chest", "modality": "X-Ray", "content_type": "Abnormality", "qid": 7}
    array(
        root / "train.json",
        [row, {**row, "qid": 8, "q_lang": "zh"}, {**row, "qid": 9, "img_name": "xmlab2/source.jpg"}],
    )
    zipped(root / "imgs.zip", {"imgs/xmlab1/source.jpg": picture(1, "JPEG"), "imgs/xmlab1/mask.png": picture(2)})


def vqa_med_2019(root: Path) -> None:
    root.joinpath("ImageClef-2019-VQA-Med-Training").mkdir(parents=True)
    lines = 'synpic1|what "plane" is this?|axial\nsynpic1|is this mri?|no\nsynpic1|what is wrong?\n'
    (root / "ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt").write_text(lines, encoding="utf-8")
    zipped(root / "ImageClef-2019-VQA-Med-Training/Train_images.zip", {"Train_images/synpic1.jpg": picture(1, "JPEG")})


def path_vqa(root: Path) -> None:
    rows = [{"image": stored(1), "question": "what is present?", "answer": "necrosis"}]
    parquet(root / "data/train-00000-of-00007.parquet", [*rows, {"image": stored(2), "question": "", "answer": "no"}])


def silvar_med(root: Path) -> None:
    row = {
        "image": "xmlab1.jpg",
        "audio": "1.mp3",
        "question": "What is wrong?",
        "answer": "A mass.",
        "reasoning": "Bright.",
    }
    array(root / "train_abnormal.json", [row])
    zipped(root / "imgs.zip", {"xmlab1.jpg": picture(1, "JPEG")})


def omnimedvqa(root: Path) -> None:
    row = {
        "dataset": "ACRIMA",
        "question_id": "ACRIMA_0000",
        "question_type": "Disease Diagnosis",
        "gt_answer": "Glaucoma",
    }
    row |= {"question": "What is seen?", "image_path": "Images/ACRIMA/im0001.png", "option_A": "Myopia"}
    row |= {"option_B": "Glaucoma", "modality_type": "Fundus Photography"}
    old = {key: text for key, text in row.items() if key != "modality_type"} | {"modality": "CT", "question_id": "2"}
    old |= {"question": "And?", "option_C": "Cataract"}
    array(root / "QA_information/Open-access/ACRIMA.json", [row, old, {**row, "question": "The same id?"}])
    path = root / "Images/ACRIMA/im0001.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(picture(1))


def medxpertqa_text(root: Path) -> None:
    ten = {letter: f"cause {letter.lower()}" for letter in "ABCDEFGHIJ"}
    row = {"id": "Text-0", "question": "Why?\nAnswer Choices: (A) cause a (B) cause b", "options": ten, "label": "J"}
    jsonl(root / "Text/test.jsonl", [{**row, "medical_task": "Diagnosis", "body_system": "Nervous"}])


def medxpertqa_mm(root: Path) -> None:
    row = {
        "id": "MM-0",
        "question": "Why?\nAnswer Choices: (A) ...",
        "options": OPTIONS,
        "label": "A",
        "images": ["MM-0-a.jpeg"],
    }
    jsonl(root / "MM/test.jsonl", [row, {**row, "id": "MM-1", "images": ["MM-0-a.jpeg", "MM-0-b.jpeg"]}])
    zipped(root / "images.zip", {"images/MM-0-a.jpeg": picture(1, "JPEG")})


def mmmu(root: Path) -> None:
    row = {"id": "validation_Pharmacy_1", "question": "Which <image 1> is it?", "options": "['A', \"B's\", 'C']"}
    row |= {"explanation": "", "image_1": stored(1), "image_2": None, "img_type": "['Plots']", "answer": "B"}
    row |= {"subfield": "Pharmacology", "question_type": "multiple-choice"}
    short = {**row, "id": "validation_Pharmacy_2", "options": "[]", "answer": "12 mg"}
    parquet(root / "Pharmacy/validation-00000-of-00001.parquet", [row, short, {**row, "id": "3", "image_2": stored(2)}])
    parquet(root / "Art/validation-00000-of-00001.parquet", [row])


def cv_bench(root: Path) -> None:
    row = {"idx": 0, "type": "2D", "task": "Count", "image": stored(1), "question": "How many?", "choices": ["0", "3"]}
    parquet(root / "test_2d.parquet", [{**row, "answer": "(B)", "source_filename": "000.jpg"}])
