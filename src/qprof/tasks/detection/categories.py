"""From the class index of a model to the category id of the annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qprof.errors import DataError, ProfileError

RULES = ("order", "coco91", "coco80", "ids", "list")

#: COCO 2014/2017 detection categories: the 80 ids in use of the 91 of the COCO paper (Lin et al., arXiv 1405.0312,
#: appendix II), as in instances_val2017.json. Keys ascend, so that position = index of an 80-class model.
COCO_CATEGORIES: dict[int, str] = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe", 27:
    "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis", 36: "snowboard",
    37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard", 42: "surfboard",
    43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl",
    52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza",
    60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet",
    72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone", 78: "microwave", 79: "oven",
    80: "toaster", 81: "sink", 82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 87: "scissors",
    88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip

#: Length of the COCO paper's list; models made on it have 90 or 91 outputs.
COCO_LIST_LENGTH = 91


@dataclass(frozen=True)
class CategoryConfig:
    """`rule`: "order" (class n is the n-th category of the annotations by ascending id), "coco91" (class n is id n+1),
    "coco80" (class n is the n-th of the 80 COCO ids in use), "ids" (class n is id n + `offset`), "
    ""list" (class n is `ids[n]`).
    """

    rule: str = "order"
    offset: int = 0
    ids: list[int] | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ProfileError(f"categories.rule = {self.rule!r} is not one of {', '.join(RULES)}")
        if (self.ids is not None) != (self.rule == "list"):
            raise ProfileError("categories.ids and categories.rule = 'list' go together: give both or neither")
        if self.ids is not None and (not self.ids or len(set(self.ids)) != len(self.ids)):
            raise ProfileError("categories.ids must be a list of different ids, one per class of the model")


@dataclass(frozen=True, slots=True)
class CategoryMap:
    """The rule applied to one annotation file."""

    config: CategoryConfig
    categories: Mapping[int, str]

    def category_id(self, index: int) -> int | None:
        """Category id of class `index`; `None` where the rule has none."""
        if index < 0:
            return None
        if self.config.rule == "ids":
            return index + self.config.offset
        if self.config.rule == "coco91":
            return index + 1 if index < COCO_LIST_LENGTH else None
        ids = self._ids()
        return ids[index] if index < len(ids) else None

    def class_counts(self) -> frozenset[int] | None:
        """The numbers of classes that a model may have by this rule; `None` where it may have any."""
        if self.config.rule == "ids":
            return None
        if self.config.rule == "coco91":
            return frozenset({COCO_LIST_LENGTH - 1, COCO_LIST_LENGTH})
        return frozenset({len(self._ids())})

    def check_class_count(self, count: int | None) -> None:
        """Refuse a model whose number of classes contradicts the rule: every box would get a wrong category."""
        expected = self.class_counts()
        if count is None or expected is None:
            return
        if count not in expected:
            raise DataError(
                f"the model has {count} classes, categories.rule {self.config.rule!r} gives {max(expected)}: set "
                "categories.rule to one of "
                f"{', '.join(RULES)} (and head.background, if one class is the background)"
            )

    def notes(self) -> list[str]:
        """A remark if a COCO rule meets annotations whose ids mean something else."""
        if self.config.rule not in ("coco80", "coco91"):
            return []
        other = [
            f"{n} is {self.categories[n]!r}" for n in self.categories if COCO_CATEGORIES.get(n) != self.categories[n]
        ]
        if not other:
            return []
        return [
            f"categories.rule {self.config.rule!r} is for COCO's own ids, but in the annotations {', '.join(other[:3])}"
            f"{' ...' if len(other) > 3 else ''}: set categories.rule to 'order', 'ids' or 'list'"
        ]

    def _ids(self) -> list[int]:
        if self.config.ids is not None:
            return self.config.ids
        return list(COCO_CATEGORIES) if self.config.rule == "coco80" else list(self.categories)
