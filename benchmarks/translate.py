"""Translating on a CPU: `Translator.translate` beside transformers' `generate()` and CTranslate2, with equal weights.

    OMP_NUM_THREADS=1 QKV_THREADS=1 .venv/bin/python benchmarks/translate.py    # random weights and texts
    ... benchmarks/translate.py --model fr --data data/en-fr                    # a trained model, its test set

The other model is transformers' own class with the same weights: MarianMT where the norms stand after the sums, Pegasus
where they stand before the parts, with PyTorch's fused attention and with plain operations; the faster one counts.
CTranslate2 (`pip install ctranslate2`) runs the same weights in float32, if it is there. Who runs takes turns; the
fastest run of each counts. Texts are compared first: transformers must write the same tokens, or tokens that the model
finds as likely within rounding. CTranslate2 ends a beam search by a rule of its own, so how many of its texts are equal
is reported.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qkv.bench.equal_models import equal_model
from qkv.models import Translator, TranslatorConfig
from qkv.training import SIZES
from qkv.training._sizes import of_size

Texts = list[list[int]]
Writer = Callable[[Texts, int, int], Texts]
"""From texts, beams and the most tokens to write, to what is written, without start, end and padding."""
LEAST = 8
"""Texts that are translated, in one batch or one after the other."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder of `qkv train`; random weights otherwise")
    parser.add_argument("--data", type=Path, help="a data set, whose first test sentences are translated")
    parser.add_argument("--size", choices=SIZES, default="small", help="of random weights")
    parser.add_argument("--norm-place", choices=("before", "after"), default="after", help="of random weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)

    model = _model(chosen)
    writers: dict[str, Writer] = {"qkv": _ours(model)}
    for attention in ("sdpa", "eager"):
        writers[f"transformers, {attention}"] = _generating(equal_model(model, attention), model)
    with tempfile.TemporaryDirectory() as folder:
        if fast := _ctranslate2(model, Path(folder), threads):
            writers["CTranslate2"] = fast
        print("| batch | beams | tokens | qkv, ms | transformers, ms | ratio | CTranslate2, ms | ratio | equal texts |")
        print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
        for batch in chosen.batches:
            texts = _texts(chosen, model, max(batch, LEAST))
            for beams in chosen.beams:
                print(_row(model, writers, texts, batch, beams, chosen.runs), flush=True)


def _row(model: Translator, writers: dict[str, Writer], texts: Texts, batch: int, beams: int, runs: int) -> str:
    longest = 3 * max(map(len, texts)) // 2
    batches = [texts[start : start + batch] for start in range(0, len(texts), batch)]
    found = {name: [row for each in batches for row in write(each, beams, longest)] for name, write in writers.items()}
    for name, written in found.items():
        if name != "CTranslate2":
            _compare(model, name, texts, found["qkv"], written)
    times: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(runs):
        for name, write in writers.items():
            start = time.perf_counter()
            for each in batches:
                write(each, beams, longest)
            times[name].append(1e3 * (time.perf_counter() - start))
    best = {name: min(taken) for name, taken in times.items()}
    ours, theirs = best["qkv"], min(best["transformers, sdpa"], best["transformers, eager"])
    fast = best.get("CTranslate2")
    last = "- | - | -"
    if fast:
        equal = sum(one == other for one, other in zip(found["qkv"], found["CTranslate2"], strict=True))
        last = f"{fast:.1f} | {fast / ours:.2f} | {equal} of {len(texts)}"
    count = sum(map(len, found["qkv"]))
    return f"| {batch} | {beams} | {count} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} | {last} |"


def _compare(model: Translator, name: str, texts: Texts, ours: Texts, theirs: Texts) -> None:
    """Equal tokens; or, where rounding decides between two texts, one that is as likely."""
    for text, one, other in zip(texts, ours, theirs, strict=True):
        if one != other:
            likelihoods = [_likelihood(model, text, written) for written in (one, other)]
            assert abs(likelihoods[0] - likelihoods[1]) < 1e-4, f"{name} writes {other}, qkv {one}: {likelihoods}"


@torch.no_grad()
def _likelihood(model: Translator, text: list[int], written: list[int]) -> float:
    """The mean log p of a token."""
    labels = torch.tensor([[*written, model.config.eos_token_id]])
    return -float(model(input_ids=torch.tensor([text]), labels=labels).loss)


def _model(chosen: argparse.Namespace) -> Translator:
    if chosen.model:
        return Translator.from_pretrained(chosen.model, dtype=torch.float32).eval()
    torch.manual_seed(0)
    config = TranslatorConfig(vocab_size=8000, **of_size(chosen.size), norm_place=chosen.norm_place)
    model = Translator(config).eval()
    with torch.no_grad():  # texts that end at different lengths, as real ones do
        model.get_input_embeddings().weight[config.eos_token_id] *= 3
    return model


def _texts(chosen: argparse.Namespace, model: Translator, count: int) -> Texts:
    """Sentences of 10 to 40 tokens, with their ends."""
    end = model.config.eos_token_id
    if not chosen.data:
        random = torch.Generator().manual_seed(count)
        lengths = torch.randint(10, 41, (count,), generator=random).tolist()
        return [[*torch.randint(3, 8000, (length,), generator=random).tolist(), end] for length in lengths]
    from transformers import AutoTokenizer

    from qkv.training import open_corpus

    tokenizer: Any = AutoTokenizer.from_pretrained(chosen.model)
    encoded = tokenizer([source for source, _ in open_corpus(chosen.data).pairs("test")])["input_ids"]
    return [ids for ids in encoded if 10 <= len(ids) <= 40][:count]


def _padded(texts: Texts, model: Translator) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[model.config.pad_token_id] * (width - len(text))] for text in texts])
    lengths = torch.tensor([len(text) for text in texts])
    return ids, (torch.arange(width) < lengths[:, None]).long()


def _plain(written: torch.Tensor, model: Translator) -> Texts:
    end, rows = model.config.eos_token_id, written[:, 1:].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def _ours(model: Translator) -> Writer:
    def write(texts: Texts, beams: int, longest: int) -> Texts:
        ids, mask = _padded(texts, model)
        return _plain(model.translate(ids, mask, beams=beams, max_new_tokens=longest), model)

    return write


def _generating(theirs: Any, model: Translator) -> Writer:
    theirs.generation_config.max_length = None

    def write(texts: Texts, beams: int, longest: int) -> Texts:
        ids, mask = _padded(texts, model)
        with torch.inference_mode():
            written = theirs.generate(
                ids, attention_mask=mask, num_beams=beams, do_sample=False, max_new_tokens=longest
            )
        return _plain(written, model)

    return write


def _ctranslate2(model: Translator, folder: Path, threads: int) -> Writer | None:
    """The same weights through CTranslate2's own specification; None where it is not installed."""
    try:
        import ctranslate2
        from ctranslate2.converters.transformers import BartLoader
        from ctranslate2.specs import Activation, TransformerSpec
    except ImportError:
        return None
    theirs, config = equal_model(model), model.config
    spec = TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.num_attention_heads,
        pre_norm=config.norm_place == "before",
        activation={"relu": Activation.RELU, "gelu": Activation.GELU}[config.activation],
    )
    loader: Any = BartLoader()
    loader.set_encoder(spec.encoder, theirs.model.encoder)
    loader.set_decoder(spec.decoder, theirs.model.decoder)
    loader.set_linear(spec.decoder.projection, theirs.lm_head)
    names = [str(token) for token in range(config.vocab_size)]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.bos_token = spec.config.decoder_start_token = names[config.decoder_start_token_id]
    spec.config.eos_token = names[config.eos_token_id]
    spec.config.unk_token = names[3]
    spec.validate()
    spec.save(str(folder))
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=threads, inter_threads=1)

    def write(texts: Texts, beams: int, longest: int) -> Texts:
        named = [[names[token] for token in text] for text in texts]
        found = translator.translate_batch(named, beam_size=beams, max_decoding_length=longest)
        return [[int(token) for token in each.hypotheses[0]] for each in found]

    return write


if __name__ == "__main__":
    main()
