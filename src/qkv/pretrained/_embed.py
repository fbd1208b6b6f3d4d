"""Texts as vectors: an encoder's last states, averaged over tokens, of length 1; computed once and kept.

What is kept lies in the user's cache, in parts that are written whole, each text known by its digest: an embedding that
was cut off goes on where it stood, and a list that changed is embedded where it changed. The folder is named by a
digest of the model's own weights, so that another model of the same name finds nothing that is not its own::

    embeddings/3f0a.../    one .npz a part: digests (n, 16), vectors (n, width)
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._replacing import replacing
from ..errors import ArgumentError, ModelError
from ._cache import cache_folder
from ._load import Pretrained

Vectors = NDArray[np.float32]

PART = 1_024
"""Texts that are embedded between two writes."""
TOKENS = 4_096
"""Tokens in a batch."""


def embed(
    pretrained: Pretrained,
    texts: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    *,
    keep: bool = True,
) -> Vectors:
    """The embeddings ``(texts, width)`` float32, each of length 1; from the cache as far as it has them.

    Texts that are longer than the model reads are cut there.

    Args:
        pretrained: an encoder, or an encoder-decoder, of which the encoder serves.
        texts: what to embed.
        progress: told after each batch, how many of the texts that were missing are done, and how many were.
        keep: use the cache; False for a text that nobody asks for again.

    Raises:
        ModelError: the model is a decoder, or reads no texts.

    >>> from qkv import pretrained
    >>> vectors = pretrained.embed(pretrained.load("minilm"), ["a dog", "a puppy", "a sonata"], keep=False)
    >>> alike = vectors @ vectors[0]
    >>> vectors.shape, bool(alike[1] > 0.7 > 0.3 > alike[2])
    ((3, 384), True)
    """
    if pretrained.kind == "decoder":
        raise ModelError(f"model {pretrained.name!r} is a decoder: embedding needs an encoder, such as minilm.")
    folder = cache_folder() / "embeddings" / _fingerprint(pretrained) if keep else None
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
    known = _kept(folder) if folder is not None else {}
    missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
    # By length, so that a batch needs no padding, and a text's vector does not depend on its neighbours' lengths.
    tokens = _tokens(pretrained, list(missing.values()))
    order = sorted(zip(missing, tokens, strict=True), key=lambda pair: len(pair[1]))
    done = 0
    for start in range(0, len(order), PART):
        part: dict[bytes, Vectors] = {}
        for batch in _batches(order[start : start + PART]):
            rows = _vectors(pretrained, [ids for _, ids in batch])
            part.update(zip((digest for digest, _ in batch), rows, strict=True))
            done += len(batch)
            if progress is not None:
                progress(done, len(order))
        if folder is not None:
            _keep(folder, part)
        known |= part
    return np.stack([known[digest] for digest in digests])


def _tokens(pretrained: Pretrained, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    tokenizer = pretrained.text_tokenizer()
    limit = pretrained.maximum_length
    cut: dict[str, Any] = {"truncation": True, "max_length": limit} if limit is not None else {}
    tokens: list[list[int]] = tokenizer(texts, **cut)["input_ids"]
    return [ids or [tokenizer.unk_token_id or 0] for ids in tokens]


def _batches(texts: list[tuple[bytes, list[int]]]) -> list[list[tuple[bytes, list[int]]]]:
    """Runs of one length, of `TOKENS` tokens at most."""
    batches: list[list[tuple[bytes, list[int]]]] = []
    for digest, ids in texts:
        if batches and len(batches[-1][0][1]) == len(ids) and (len(batches[-1]) + 1) * len(ids) <= TOKENS:
            batches[-1].append((digest, ids))
        else:
            batches.append([(digest, ids)])
    return batches


def _vectors(pretrained: Pretrained, tokens: list[list[int]]) -> Vectors:
    import torch

    network: Any = pretrained.model
    network = network.get_encoder() if pretrained.kind == "encoder-decoder" else network
    with torch.inference_mode():
        output = network(input_ids=torch.tensor(tokens), output_hidden_states=True)
    means = output.hidden_states[-1].float().mean(1).numpy()
    length = np.linalg.norm(means, axis=1, keepdims=True)
    found: Vectors = means / np.where(length > 0, length, 1)
    return found


def _fingerprint(pretrained: Pretrained) -> str:
    """A digest of weights and vocabulary."""
    digest = hashlib.sha256(b"mean of the last states, 1")
    for name, weight in pretrained.model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().float().contiguous().numpy().tobytes())
    digest.update(repr(sorted(pretrained.text_tokenizer().get_vocab().items())).encode())
    return digest.hexdigest()[:16]


def _kept(folder: Path) -> dict[bytes, Vectors]:
    """What is kept; a part that cannot be read is deleted, and its texts are embedded again."""
    known: dict[bytes, Vectors] = {}
    for file in sorted(folder.glob("*.npz")):
        try:
            with np.load(file, allow_pickle=False) as part:
                digests, vectors = part["digests"], part["vectors"]
            known |= {row.tobytes(): vector for row, vector in zip(digests, vectors, strict=True)}
        except Exception:  # whatever zipfile and numpy raise on bytes that are none of theirs
            file.unlink(missing_ok=True)
    return known


def _keep(folder: Path, part: dict[bytes, Vectors]) -> None:
    """Write a part; a cache that cannot be written costs time, and no result."""
    digests = np.frombuffer(b"".join(part), np.uint8).reshape(len(part), 16)
    name = hashlib.sha256(digests.tobytes()).hexdigest()[:16]
    with contextlib.suppress(OSError, ArgumentError):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, digests=digests, vectors=np.stack(list(part.values())))
