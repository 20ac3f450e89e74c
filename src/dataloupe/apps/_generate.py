"""Answers of a language model as targets: what taught it to say this?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataloupe._errors import BadInput
from dataloupe._identity import Stream
from dataloupe.core import IGNORED, Examples, Model, checked, logits_of


def answered(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], texts: Sequence[str] | None = None
) -> Examples:
    """Prompts with their answers, as sequences of which the answers alone are asked for.

    Inputs are a dict of ``input_ids``, ``attention_mask`` and ``labels``, ``[n, t]``, filled up on the right with token 0, mask 0 and label -100; the
    labels of a prompt are -100. For outputs of language models, as training rows or as targets; the first token of a sequence is never
    asked for, so a prompt has at least one.

    Raises ``BadInput`` dl-769 (an empty prompt or answer, not as many of both, no token numbers).

    >>> answered([[5, 6], [7]], [[1], [2, 3]]).inputs["labels"].tolist()
    [[-100, -100, 1], [-100, 2, 3]]
    """
    prompts, answers = _ids(prompts), _ids(answers)
    if len(prompts) != len(answers) or not len(prompts):
        raise BadInput(
            "dl-769",
            asked=f"answers to {len(prompts)} prompts",
            found=f"{len(answers)} answers",
            do="give one answer, a list of token numbers, for each prompt",
        )
    prompts, answers = [_ids(prompt) for prompt in prompts], [_ids(answer) for answer in answers]
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if isinstance(prompt, str) or isinstance(answer, str):
            raise BadInput(
                "dl-769",
                asked="prompts and answers as token numbers",
                found=f"text in row {i}",
                do='tokenise it first: tokenizer(prompts)["input_ids"], and the answers with add_special_tokens=False',
            )
        found = (
            "a prompt without tokens"
            if len(prompt) == 0
            else "an answer without tokens"
            if len(answer) == 0
            else "numbers that are no tokens"
            if not all(isinstance(t, int | np.integer) and t >= 0 for t in [*prompt, *answer])
            else None
        )
        if found is not None:
            raise BadInput(
                "dl-769",
                asked="prompts and answers of whole numbers from 0",
                found=f"{found} in row {i}",
                do="leave the row out, begin the prompt with a start token, or let the model say more",
            )
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    length = max(len(row) for row in rows)
    ids, labels = torch.zeros(len(rows), length, dtype=torch.int64), torch.full((len(rows), length), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, len(prompts[i]) : len(row)] = ids[i, len(prompts[i]) : len(row)]
    mask = torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]
    return Examples({"input_ids": ids, "attention_mask": mask.long(), "labels": labels}, texts=texts)


def _ids(row: Any) -> Any:
    """A row as a list: of a tensor or an array its numbers; text as it is. Raises ``BadInput`` dl-769."""
    row = row.tolist() if isinstance(row, Tensor | np.ndarray) and row.ndim else row
    if isinstance(row, str | list | tuple):
        return row
    if isinstance(row, Sequence):
        return list(row)
    raise BadInput(
        "dl-769",
        asked="a list of token numbers for every prompt and answer",
        found=f"a {type(row).__name__}",
        do="give lists of lists: [[5, 6], [7]]",
    )


@checked("dl-769")
def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    most: int = 32,
    *,
    stop: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Examples:
    """What a causal language model answers to prompts, as targets (:func:`answered`).

    Token by token the likeliest one, or with a ``temperature`` one drawn from ``softmax(logits / temperature)`` by a number keyed by (seed,
    prompt, place); at most ``most`` tokens, or up to and with ``stop``. The model is asked for ``[1, t]`` token ids and gives logits
    ``[1, t, v]`` (or an object with ``logits``).

    Raises ``BadInput`` dl-769 (prompts without tokens, settings, a model without logits).

    >>> class Next:
    ...     def predict(self, ids):
    ...         return torch.nn.functional.one_hot((ids + 1) % 5, 5).float()
    >>> generate(Next(), [[1], [3, 3]], most=3).inputs["input_ids"].tolist()
    [[1, 2, 3, 4, 0], [3, 3, 4, 0, 1]]
    """
    if most < 1 or temperature < 0:
        raise BadInput(
            "dl-769",
            asked=f"answers of at most {most} tokens at temperature {temperature:g}",
            found="no token, or a temperature below 0",
            do="ask for at least one token; temperature 0 takes the likeliest",
        )
    if not hasattr(model, "predict"):
        raise BadInput(
            "dl-769",
            asked=f"answers of a {type(model).__name__}",
            found="no method `predict`" + (": a module of torch" if isinstance(model, nn.Module) else ""),
            do="give dataloupe.Checkpoints(model, model).models()[0], or a model of a lab",
        )
    prompts = [_ids(prompt) for prompt in prompts]
    answered(prompts, [[0]] * len(prompts))  # the prompts are looked at before any is asked
    answers = []
    for i, prompt in enumerate(prompts):
        ids, draws = list(prompt), Stream.root(seed)("generate", i)
        while len(ids) < len(prompt) + most and (stop is None or ids[len(prompt) :][-1:] != [stop]):
            logits = _last_logits(model, ids)
            if temperature:
                shares = (logits / temperature).softmax(0).cumsum(0)
                drawn = float(draws.uniform([len(ids)])[0]) * float(shares[-1])
                ids.append(min(int((shares <= drawn).sum()), len(shares) - 1))
            else:
                ids.append(int(logits.argmax()))
        answers.append(ids[len(prompt) :])
    return answered(prompts, answers)


def _last_logits(model: Model, ids: list[int]) -> Tensor:
    with torch.no_grad():
        found = logits_of(model.predict(torch.tensor([ids])))
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[:2] != (1, len(ids)):
        raise BadInput(
            "dl-769",
            asked="the logits of every place, [1, t, v]",
            found=f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found).__name__}",
            do="give a causal language model",
        )
    return found[0, -1].double()
