"""Tiny torch networks, exported; and a Hugging Face folder of a text classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn


class OwnConv2d(nn.Conv2d):
    """As libraries pad in ways of their own."""


class TinyImages(nn.Module):
    """Convolution, batch norm, a residual sum, pooling, a linear: 4 classes of 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(OwnConv2d(8, 8, 3, padding=1), nn.ReLU())
        self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        found = self.stem(x)
        return self.head(self.flat(self.pool(found + self.body(found))))


class TinyTokens(nn.Module):
    """A table, two linears: 3 classes of 6 tokens out of 20."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.head = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, ids: Any, mask: Any) -> Any:
        found = torch.relu(self.inner(self.table(ids))) * mask.unsqueeze(-1)
        return self.head(found.sum(1) / mask.sum(1, keepdim=True))


def tiny_images() -> nn.Module:
    """With batch norm statistics of its own, or the folding would fold ones and zeros."""
    torch.manual_seed(0)
    net = TinyImages().train()
    with torch.no_grad():
        net(torch.randn(32, 3, 8, 8) * 2 + 0.5)
    return net.eval()


def tiny_tokens() -> nn.Module:
    torch.manual_seed(1)
    return TinyTokens().eval()


def save_images(path: Path, net: nn.Module | None = None) -> Path:
    torch.export.save(torch.export.export(net or tiny_images(), (torch.randn(1, 3, 8, 8),)), str(path))
    return path


def save_tokens(path: Path, net: nn.Module | None = None) -> Path:
    example = (torch.ones(1, 6, dtype=torch.int64), torch.ones(1, 6))
    torch.export.save(torch.export.export(net or tiny_tokens(), example), str(path))
    return path


WORDS = ("a", "good", "bad", "film", "plot", "was", "great", "awful")


def write_text_folder(folder: Path) -> Any:
    """A DistilBERT of two layers in Hugging Face's layout, and its tokenizer; returns the model."""
    from transformers import BertTokenizerFast, DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(2)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    folder.mkdir()
    config = DistilBertConfig(
        vocab_size=len(vocabulary), dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=32,
        id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1},
    )  # fmt: skip
    model = DistilBertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return model


def write_image_folder(folder: Path) -> Any:
    """A ResNet of two stages in Hugging Face's layout, with a preprocessor's settings; returns the model."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(3)
    folder.mkdir()
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    model = ResNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    settings = {
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        "size": {"height": 16, "width": 16},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model
