"""A Hugging Face folder of a classifier as an exported program. Nothing of it is executed or unpickled: the class is
transformers' own, and weights are safetensors."""

from __future__ import annotations

import contextlib
import inspect
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_export.folder import architecture, is_of_text, read_json
from qprof.runtimes.torch_export.library import import_torch, quiet, require
from qprof.runtimes.torch_export.program import Network, network

#: What a tokenizer reads, none of it code; the configuration tells its class.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "config.json",
)

#: What a text classifier may be given, in the order of its forward.
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def exported(folder: Path, tokens: int) -> tuple[Any, Network, dict[str, Any]]:
    """The program of a folder, for one image or `tokens` tokens at a time. Raises `ModelError`."""
    require(("torch", "transformers", "safetensors"))
    import_torch()
    import torch

    config = _checked(folder)
    with quiet():
        model = _loaded(folder)
    text = is_of_text(folder)
    with _settings_named(folder):
        about = _about(folder, text)
        size = (1, 1) if text else _size(folder, config)
    names = _text_inputs(model, folder) if text else ["pixel_values"]
    if text:
        most = getattr(model.config, "max_position_embeddings", None)
        if isinstance(most, int) and tokens > most > 0:
            tokens = most
        examples = tuple(torch.ones((1, tokens), dtype=torch.int64) for _ in names)
    else:
        channels = getattr(model.config, "num_channels", None) or 3
        examples = (_image((1, channels, *size), folder),)
    _give_logits(model, names)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(model, examples)
    except Exception as error:  # torch raises what it likes
        raise ModelError(
            f"{folder}: torch.export cannot export {architecture(folder)}: {first_line(error)}; export it by hand to a "
            ".pt2, or give another"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    found = network(folder, program, about)
    return program, found, {"exported": architecture(folder)}


def _checked(folder: Path) -> dict[str, Any]:
    from qprof.runtimes.torch_lm.build_bound import refuse_endless_counts  # of the same layout of folders

    config = read_json(folder / "config.json")
    refuse_endless_counts(folder / "config.json", config)
    if config.get("quantization_config"):
        raise ModelError(f"{folder}: is quantized already; give the float folder it was made of")
    if not list(folder.glob("*.safetensors")):
        pickled = [file.name for file in (*folder.glob("*.bin"), *folder.glob("*.pt"))]
        told = f"only {pickled[0]}, a pickle, which is not loaded: it may run anything" if pickled else "no weights"
        raise ModelError(f"{folder}: holds {told}; save it as safetensors (save_pretrained does)")
    return config


def _loaded(folder: Path) -> Any:
    import torch
    import transformers

    from qprof.runtimes.torch_lm.build_bound import built_within

    kind = (
        transformers.AutoModelForSequenceClassification
        if is_of_text(folder)
        else transformers.AutoModelForImageClassification
    )
    try:
        with built_within(folder):
            model = kind.from_pretrained(
                str(folder), dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
    except QprofError:
        raise
    except Exception as error:  # transformers raises what it likes on a damaged folder
        raise ModelError(f"{folder}: transformers cannot load it: {first_line(error)}; check the folder") from error
    return model.eval()


@contextlib.contextmanager
def _settings_named(folder: Path) -> Iterator[None]:
    """Turn what is raised of settings of images and labels that are none into a `ModelError`."""
    try:
        yield
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise ModelError(
            f"{folder}: no image is prepared by its preprocessor_config.json and config.json ({first_line(error)}); "
            "copy both again"
        ) from error


def _image(shape: tuple[int, ...], folder: Path) -> Any:
    import torch

    try:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))
    except (RuntimeError, TypeError) as error:  # of sizes below 0, of no whole ones, and of more than the memory holds
        raise ModelError(
            f"{folder}: says that it takes images of {list(shape[1:])} (channels, height, width): {first_line(error)}; "
            "correct its preprocessor_config.json or config.json"
        ) from error


def _text_inputs(model: Any, folder: Path) -> list[str]:
    taken = inspect.signature(type(model).forward).parameters
    asked = read_json(folder / "tokenizer_config.json").get("model_input_names")
    wanted = (
        asked if isinstance(asked, list) else _TEXT_INPUTS[: 3 if getattr(model.config, "type_vocab_size", 0) else 2]
    )
    return [name for name in _TEXT_INPUTS if name in taken and (name in wanted or name == "input_ids")]


def _size(folder: Path, config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width that images are brought to: after the crop where there is one."""
    processor = read_json(folder / "preprocessor_config.json")
    wanted = processor.get("crop_size") if processor.get("do_center_crop") else None
    for size in (wanted, processor.get("size"), config.get("image_size"), 224):
        if isinstance(size, int) and size > 0:
            return size, size
        if isinstance(size, list) and len(size) == 2:
            return int(size[0]), int(size[1])
        if isinstance(size, dict):
            if "height" in size and "width" in size:
                return int(size["height"]), int(size["width"])
            if "shortest_edge" in size:
                return int(size["shortest_edge"]), int(size["shortest_edge"])
    return 224, 224


def _give_logits(model: Any, names: list[str]) -> None:
    """Let the model take tensors in order and give its logits alone; its modules keep their names."""
    own = type(model).forward

    def image(pixel_values: Any) -> Any:
        return own(model, pixel_values=pixel_values).logits

    def ids(input_ids: Any) -> Any:
        return own(model, input_ids=input_ids).logits

    def masked(input_ids: Any, attention_mask: Any) -> Any:
        return own(model, input_ids=input_ids, attention_mask=attention_mask).logits

    def segmented(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        return own(model, input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    def segments(input_ids: Any, token_type_ids: Any) -> Any:
        return own(model, input_ids=input_ids, token_type_ids=token_type_ids).logits

    forms = {
        ("pixel_values",): image,
        ("input_ids",): ids,
        ("input_ids", "attention_mask"): masked,
        ("input_ids", "token_type_ids"): segments,
        ("input_ids", "attention_mask", "token_type_ids"): segmented,
    }
    model.forward = forms[tuple(names)]


def copy_tokenizer(source: Path, destination: Path) -> None:
    """Copy what a tokenizer is made of, of a folder that has one."""
    files = [source / name for name in _TOKENIZER_FILES if (source / name).is_file()]
    if files:
        destination.mkdir()
        for file in files:
            shutil.copyfile(file, destination / file.name)


def _about(folder: Path, text: bool) -> dict[str, Any]:
    """What the folder says of its data, for whoever runs the program."""
    labels = read_json(folder / "config.json").get("id2label")
    about: dict[str, Any] = {}
    if isinstance(labels, dict) and all(str(key).isdecimal() for key in labels):
        about["labels"] = [str(labels[key]) for key in sorted(labels, key=int)]
    if text:
        return about
    processor = read_json(folder / "preprocessor_config.json")
    mean, std = processor.get("image_mean"), processor.get("image_std")
    rescale = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
    if processor and processor.get("do_normalize", True) and isinstance(mean, list) and isinstance(std, list):
        about["mean"] = [float(value) / rescale for value in mean]
        about["std"] = [float(value) / rescale for value in std]
    elif processor:
        about["mean"], about["std"] = 0.0, 1.0 / rescale
    return about
