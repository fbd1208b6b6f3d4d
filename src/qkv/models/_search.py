"""Which tokens to write: the likeliest one at each step, or the likeliest text that a beam finds."""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Float, Int
from ._stepping import Stepper

NEVER = -1.0e9
"""Added to what may not be chosen."""


def greedy(stepper: Stepper, texts: int, start: int, end: int, longest: int) -> list[list[int]]:
    """The likeliest token at each step, for each of the texts, up to `end` or `longest` tokens; without `start`."""
    written: list[list[int]] = [[] for _ in range(texts)]
    left = list(range(texts))
    tokens = torch.full((texts,), start)
    for step in range(longest):
        tokens = stepper.step(tokens).argmax(-1)
        chosen = tokens.tolist()
        for text, token in zip(left, chosen, strict=True):
            written[text].append(token)
        going = [row for row, token in enumerate(chosen) if token != end]
        if not going or step == longest - 1:
            break
        if len(going) < len(chosen):
            rows = torch.tensor(going)
            stepper.keep(rows, rows)
            tokens, left = tokens[rows], [left[row] for row in going]
    return written


def beam_search(
    stepper: Stepper, texts: int, start: int, end: int, longest: int, beams: int, length_penalty: float
) -> list[list[int]]:
    r"""For each text the one with the highest score that a beam finds:

    .. math:: \mathrm{score}(y) = \frac{\sum_t \log p(y_t \mid y_{<t})}{|y|^\alpha}

    At each step the 2k likeliest continuations of a text's k rows are found. Those among the first k that end it are
    finished; the k best of the others go on. A text is done once k are finished and none that goes on is better than
    the worst of these. This is what ``generate(num_beams=k)`` of transformers does; here a text that is done costs no
    more.
    """
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(texts)]
    left = list(range(texts))
    scores = torch.full((texts, beams), NEVER)
    scores[:, 0] = 0.0
    tokens = torch.full((texts * beams,), start)
    written = torch.empty(texts * beams, 0, dtype=torch.long)
    for length in range(1, longest + 1):
        values, parents, found = _likeliest(stepper.step(tokens), scores, 2 * beams)
        ends = (found == end) | (length == longest)
        normed = values / length**length_penalty
        first = torch.arange(len(left))[:, None] * beams
        for row, rank in ends[:, :beams].nonzero().tolist():
            text = [*written[row * beams + int(parents[row, rank])].tolist(), int(found[row, rank])]
            finished[left[row]].append((float(normed[row, rank]), text))
        if length == longest:
            break
        scores, chosen = (values + ends * NEVER).topk(beams)
        rows, tokens = (first + parents.gather(1, chosen)).flatten(), found.gather(1, chosen).flatten()
        going = [row for row, text in enumerate(left) if _goes_on(finished[text], scores[row], length, length_penalty)]
        if not going:
            break
        kept = None
        if len(going) < len(left):
            kept = torch.tensor(going)
            scores, left = scores[kept], [left[row] for row in going]
            rows, tokens = (each.view(-1, beams)[kept].flatten() for each in (rows, tokens))
        stepper.keep(rows, kept)
        written = torch.cat([written[rows], tokens[:, None]], 1)
    return [max(each, key=lambda scored: scored[0])[1] for each in finished]


def _likeliest(
    scores: Float[Tensor, "rows tokens"], before: Float[Tensor, "texts beams"], count: int
) -> tuple[Float[Tensor, "texts count"], Int[Tensor, "texts count"], Int[Tensor, "texts count"]]:
    """For each text the continuations with the highest sums of logarithms: the sums, the beams, the tokens."""
    texts, beams = before.shape
    whole = scores.float().log_softmax(-1).view(texts, beams, -1) + before[..., None]
    values, place = whole.flatten(1).topk(count)
    return values, place // whole.shape[2], place % whole.shape[2]


def _goes_on(finished: list[tuple[float, list[int]]], scores: Tensor, length: int, length_penalty: float) -> bool:
    """Whether what a text's beam may still find could be better; of what is finished, as many as beams are kept."""
    beams = len(scores)
    finished.sort(key=lambda scored: -scored[0])
    del finished[beams:]
    return len(finished) < beams or float(scores[0]) / length**length_penalty > finished[-1][0]
