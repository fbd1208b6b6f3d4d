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
        tokens = stepper.likeliest(stepper.step(tokens), 1)[1][:, 0]
        chosen = tokens.tolist()
        for text, token in zip(left, chosen, strict=True):
            written[text].append(token)
        going = _closed_up([token != end for token in chosen])
        if not going or step == longest - 1:
            break
        if len(going) < len(chosen):
            stepper.keep(going)
            tokens, left = tokens[going], [left[row] for row in going]
    return written


def beam_search(
    stepper: Stepper, texts: int, start: int, end: int, longest: int, beams: int, length_penalty: float
) -> list[list[int]]:
    r"""For each text the one with the highest score that a beam finds:

    .. math:: \mathrm{score}(y) = \frac{\sum_t \log p(y_t \mid y_{<t})}{|y|^\alpha}

    At each step the 2k likeliest continuations of a text's k rows are found. Those among the first k that end it are
    finished; the k best of the others go on. A text is done once k are finished and none that goes on is better than
    the worst of these. This is what ``generate(num_beams=k)`` of transformers does; here a text that is done costs no
    more, and a row that one continuation goes on from stays where it is.
    """
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(texts)]
    left = list(range(texts))
    scores = torch.full((texts, beams), NEVER)
    scores[:, 0] = 0.0
    tokens = torch.full((texts * beams,), start)
    written: list[list[int]] = [[] for _ in range(texts * beams)]
    for length in range(1, longest + 1):
        values, parents, found = _continuations(*stepper.likeliest(stepper.step(tokens), 2 * beams), scores)
        ends = (found == end) | (length == longest)
        for row, rank in ends[:, :beams].nonzero().tolist():
            text = [*written[row * beams + int(parents[row, rank])], int(found[row, rank])]
            finished[left[row]].append((float(values[row, rank]) / length**length_penalty, text))
        if length == longest:
            break
        scores, chosen = (values + ends * NEVER).topk(beams)
        best = (scores[:, 0] / length**length_penalty).tolist()
        going = _closed_up([_goes_on(finished[text], best[row], beams) for row, text in enumerate(left)])
        if not going:
            break
        parents, found = parents.gather(1, chosen), found.gather(1, chosen)
        order = [_in_place(each) for each in parents.tolist()]
        place = torch.tensor(order)
        scores, parents, found = (each.gather(1, place) for each in (scores, parents, found))
        sources = (parents + torch.arange(0, len(left) * beams, beams)[:, None]).flatten().tolist()
        moved = [row for row, source in enumerate(sources) if row != source]
        stepper.replace(moved, [sources[row] for row in moved])
        tokens = found.flatten()
        written = [[*written[source], token] for source, token in zip(sources, tokens.tolist(), strict=True)]
        if len(going) < len(left):
            stepper.keep(going)
            scores, tokens, left = scores[going], found[going].flatten(), [left[row] for row in going]
            written = [written[row * beams + beam] for row in going for beam in range(beams)]
    return [max(each, key=lambda scored: scored[0])[1] for each in finished]


def _continuations(
    values: Float[Tensor, "rows count"], tokens: Int[Tensor, "rows count"], before: Float[Tensor, "texts beams"]
) -> tuple[Float[Tensor, "texts count"], Int[Tensor, "texts count"], Int[Tensor, "texts count"]]:
    """For each text, out of the likeliest next tokens of its beams, those with the highest sums of logarithms: the
    sums, the beams, the tokens."""
    (texts, beams), count = before.shape, values.shape[1]
    sums, place = (values.view(texts, beams, count) + before[..., None]).flatten(1).topk(count)
    return sums, place // count, tokens.view(texts, beams * count).gather(1, place)


def _goes_on(finished: list[tuple[float, list[int]]], best: float, beams: int) -> bool:
    """Whether what a text's beam may still find could be better; of what is finished, as many as beams are kept."""
    finished.sort(key=lambda scored: -scored[0])
    del finished[beams:]
    return len(finished) < beams or best > finished[-1][0]


def _in_place(parents: list[int]) -> list[int]:
    """Which continuation stands in which row: one of each parent in its parent's, the others in what is left.

    >>> _in_place([2, 0, 2, 2])
    [1, 2, 0, 3]
    """
    order = [-1] * len(parents)
    others = []
    for child, parent in enumerate(parents):
        if order[parent] < 0:
            order[parent] = child
        else:
            others.append(child)
    return [others.pop(0) if child < 0 else child for child in order]


def _closed_up(going: list[bool]) -> list[int]:
    """Who goes on, in places from 0 on: the last ones take the places of those that do not.

    >>> _closed_up([True, False, True, False, True])
    [0, 4, 2]
    """
    left = [row for row, goes in enumerate(going) if goes]
    return [row if going[row] else left.pop() for row in range(len(left))]
