"""A tokenizer for any pair of languages: byte-pair merges within words, and bytes for what it never saw.

A word is a run of letters of one kind (Chinese characters apart from alphabets), one digit, or a run of punctuation,
each with the space before it, shown as ``▁``. So tokens stay readable, whatever language they are of; numbers are
copied digit by digit; and a character outside the vocabulary becomes its UTF-8 bytes (``<0xE2>``): any text survives.

Byte-pair encoding: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016.
A tag before the source that names the target language: Johnson et al., "Google's Multilingual Neural Machine
Translation System", 2017.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..errors import ArgumentError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, UNKNOWN, START, END = SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
COVERAGE = 0.9998
"""The share of the text's characters that get a token of their own; the rarest ones are spelt in bytes."""

WORDS = r"▁?\p{Han}+|▁?[\p{L}\p{M}&&[^\p{Han}]]+|▁?\p{N}|▁?[^\p{L}\p{M}\p{N}▁]+|▁+"


def train_tokenizer(
    texts: Sequence[str],
    vocabulary: int = 8000,
    *,
    source_languages: Sequence[str] = (),
    target_languages: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """A tokenizer of at most ``vocabulary`` tokens for texts like these, as Hugging Face's.

    It puts ``</s>`` behind a text. With several target languages each has a tag such as ``<2fr>``, which goes before
    the source (`tagged`).

    Args:
        texts: of all languages together.
        vocabulary: tokens in all: 4 special ones, the tags, 256 bytes, characters, and what merges make of them.
        source_languages: what it can read; kept with the tokenizer, as are
        target_languages: what it can write.

    Raises:
        ArgumentError: where there is no text, or the vocabulary is too small for special tokens and bytes.

    >>> tokenizer = train_tokenizer(["the cat sat", "the mat", "le chat"] * 9, 300)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("the chat")["input_ids"])
    ['▁the', '▁chat', '</s>']
    >>> tokenizer.decode(tokenizer("貓 & the cat!")["input_ids"], skip_special_tokens=True)
    '貓 & the cat!'
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tags = [tag(language) for language in target_languages] if len(target_languages) > 1 else []
    least = len(SPECIAL) + len(tags) + len(BYTES)
    if vocabulary <= least:
        raise ArgumentError(f"vocabulary: expected more than {least} (special tokens and bytes), got {vocabulary}")
    if not any(texts):
        raise ArgumentError("data: a tokenizer needs text to learn from, and there is none")
    core = Tokenizer(models.BPE(unk_token=UNKNOWN))
    core.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        ]
    )
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(BYTES),
        special_tokens=[*SPECIAL, *tags],
        limit_alphabet=min(_characters(texts), vocabulary - least),
        min_frequency=2,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core = Tokenizer.from_str(_with_bytes(core.to_str(), len(SPECIAL) + len(tags)))
    core.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, SPECIAL.index(END))])
    make: Any = PreTrainedTokenizerFast
    return cast(
        PreTrainedTokenizerFast,
        make(
            tokenizer_object=core,
            pad_token=PAD,
            unk_token=UNKNOWN,
            bos_token=START,
            eos_token=END,
            additional_special_tokens=tags,
            clean_up_tokenization_spaces=False,
            model_input_names=["input_ids", "attention_mask"],
            source_languages=list(source_languages),
            target_languages=list(target_languages),
        ),
    )


def tag(language: str) -> str:
    """The token that asks for this target language."""
    return f"<2{language}>"


def tagged(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], language: str) -> list[str]:
    """The texts as the model wants them for this target language: behind its tag where there is a choice."""
    prefix = tag(language)
    return [prefix + text for text in texts] if prefix in tokenizer.get_added_vocab() else list(texts)


def target_languages(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What a model with this tokenizer translates into; empty where nobody said."""
    return list(tokenizer.init_kwargs.get("target_languages", ()))


def _characters(texts: Iterable[str]) -> int:
    """How many of the most frequent characters make up `COVERAGE` of the texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    wanted = COVERAGE * counts.total()
    for number, (_, count) in enumerate(counts.most_common(), 1):
        wanted -= count
        if wanted <= 0:
            return number
    return len(counts)


def _with_bytes(text: str, first: int) -> str:
    """The tokenizer's JSON with a token for each byte behind the first ones, used where a character has none."""
    state = json.loads(text)
    model = state["model"]
    names = sorted(model["vocab"], key=model["vocab"].get)
    model["vocab"] = {name: index for index, name in enumerate([*names[:first], *BYTES, *names[first:]])}
    model["byte_fallback"] = True
    return json.dumps(state)
