"""Samples of diffusion models: on their way from noise, and made again without the examples they are attributed to."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from dataloupe.apps import Likelihoods, Regenerated, pictures
from dataloupe.report._cards import Picture
from dataloupe.report._charts import Scale, Strip, axis, courses, strip
from dataloupe.report._judged import Chart, Line, Plot, Verdict
from dataloupe.report._panel import Ends, Gallery, Panel, example_of
from dataloupe.report._parts import Method
from dataloupe.report._png import data_uri
from dataloupe.report._words import between, capital, count, fixed

SAMPLES = 6
"""So many samples are shown."""

MOVED = {
    "agree": "without the rows that a sample is attributed to, the same noise becomes something further away than without as many others",
    "disagree": "without random rows the same noise becomes something further away than without those that a sample is attributed to",
    "undecided": "whether the rows that a sample is attributed to move it more than others, the retrainings cannot tell",
}


def journey_sentence(found: Likelihoods) -> str:
    """When the samples were decided, in one clause."""
    steps = found.timesteps[found.decisions]
    early, late = int(steps.max()), int(steps.min())
    when = f"at timestep {early:,}" if early == late else f"between timesteps {early:,} and {late:,}"
    return f"what {count(len(found.journey), 'sample')} would become was decided {when} of {int(found.journey.timesteps[0]) + 1:,}"


def journey_panel(found: Likelihoods, main: Method | None) -> Panel:
    """Every sample's way: what it seemed to become, and which training example each step is attributed to."""
    own = np.take_along_axis(found.ending, found.classes[None, :, None], axis=2)[:, :, 0]
    times = found.timesteps.astype(np.float64)
    plots = [
        Plot(
            "by other ends from there",
            "Probability of what it became",
            courses(
                times,
                own[:, :SAMPLES].T,
                names=("timestep, from noise to sample", "probability of its own class"),
            ),
            f"A line per sample: how often other noise leads from there to the class in which it ended ({count(found.draws, 'end')} each).",
        )
    ]
    rows = _rows_of(found, main)
    tops = None if main is None or rows is None else _tops(main, rows)
    if main is not None and rows is not None:
        plots.append(_scores(main, rows, times))
    rest = len(found.journey) - SAMPLES
    return Panel(
        "When was it decided what a sample becomes?",
        capital(journey_sentence(found)),
        plots=tuple(plots),
        ends=tuple(_way(found, own, j, main, tops) for j in range(min(SAMPLES, len(found.journey)))),
        rest=f"{count(rest, 'more sample')} not shown." if rest > 0 else "",
    )


def regenerated_sentence(found: Regenerated) -> str:
    """How far samples moved, in one clause."""
    return str(found).split(":", maxsplit=1)[0]


def regenerated_panel(found: Regenerated) -> Panel:
    """The claim, the distances, and the samples of every world side by side."""
    rows = (
        (f"Without the top {found.removed:,}", found.top_mean, found.top_interval, found.top.mean(1), False),
        (
            f"Without {found.removed:,} random",
            found.random_mean,
            found.random_interval,
            found.random.mean(1),
            True,
        ),
    )
    scale = Scale.around([0.0, *(float(v) for _, mean, ends, dots, _ in rows for v in (mean, *ends, *dots))])
    lines = [
        Line(
            name,
            strip(Strip(scale, mean, ends, "quiet" if quiet else "accent", dots=tuple(map(float, dots)))),
            f"{fixed(mean, 3)} {between(ends)}",
            quiet=quiet,
        )
        for name, mean, ends, dots, quiet in rows
    ]
    kept = min(SAMPLES, len(found.top))
    said = (
        f"Distance between what models with and without the rows make of the same noise, mean over {count(len(found.top), 'sample')} and "
        f"{count(found.top.shape[1], 'seed')}; every dot is one sample. The difference is {fixed(found.difference, 3)} "
        f"{between(found.difference_interval)}.",
    )
    return Panel(
        "What would the same noise have become without them?",
        capital(regenerated_sentence(found)),
        Verdict(found.verdict, MOVED[found.verdict]),
        charts=(("", Chart(tuple(lines), axis(scale), said)),),
        ends=tuple(_worlds(found, j) for j in range(kept)),
        rest=f"{count(len(found.top) - kept, 'more sample')} not shown." if len(found.top) > kept else "",
    )


def _way(
    found: Likelihoods, own: Float[np.ndarray, "s k"], j: int, main: Method | None, tops: np.ndarray | None
) -> Ends:
    """One sample's pictures, step by step."""
    decided = int(found.decisions[j])
    seen = pictures(found.journey.clean[found.steps][:, j])
    notes = [f"t{_HARD}{t:,} · {float(p):.0%}" for t, p in zip(found.timesteps, own[:, j], strict=True)]
    galleries = [
        Gallery(
            "What it seemed to become, and how likely its class is", "sample", tuple(_pictures(seen, notes))
        )
    ]
    if main is not None and tops is not None:
        examples = tuple(example_of(main, int(i)) for i in tops[j])
        galleries.append(
            Gallery("The training example that each step is attributed to most", "training example", examples)
        )
    facts = (
        ("ended as class", str(int(found.classes[j]))),
        ("decided at timestep", f"{int(found.timesteps[decided]):,}"),
    )
    return Ends(f"Sample {int(found.journey.numbers[j])}", facts, tuple(galleries), len(found.steps))


_HARD = "\N{NO-BREAK SPACE}"


def _pictures(images: np.ndarray | None, notes: Iterable[str]) -> list[Picture]:
    notes = list(notes)
    if images is None:
        return [Picture(i, "", cells=("latent",), note=note) for i, note in enumerate(notes)]
    return [Picture(i, "", image=data_uri(images[i]), tiny=True, note=note) for i, note in enumerate(notes)]


def _worlds(found: Regenerated, j: int) -> Ends:
    """One sample in every world, a picture a seed."""
    worlds = (
        ("By models that saw all", found.unremoved),
        (f"Without its top {found.removed:,} rows", found.without_top),
        (f"Without {found.removed:,} random rows", found.without_random),
    )
    galleries = []
    for title, samples in worlds:
        notes = [f"seed{_HARD}{r}" for r in range(len(samples))]
        galleries.append(Gallery(title, "sample", tuple(_pictures(pictures(samples[:, j]), notes))))
    facts = (
        ("moved, without its top rows", fixed(float(found.top[j].mean()), 3)),
        ("without random rows", fixed(float(found.random[j].mean()), 3)),
    )
    return Ends(f"Sample {j}", facts, tuple(galleries))


def _rows_of(found: Likelihoods, main: Method | None) -> np.ndarray | None:
    """The target rows ``[k, s]`` of the samples at these timesteps, if the attribution is about them."""
    if main is None or not {"sample", "timestep"} <= set(main.targets.meta):
        return None
    meta = main.targets.meta
    places = {
        (int(s), int(t)): i for i, (s, t) in enumerate(zip(meta["sample"], meta["timestep"], strict=True))
    }
    wanted = [[(int(j), int(t)) for t in found.timesteps] for j in found.journey.numbers]
    if main.m != len(main.targets) or not all(key in places for row in wanted for key in row):
        return None
    return np.array([[places[key] for key in row] for row in wanted])


def _tops(main: Method, rows: np.ndarray) -> np.ndarray:
    """The training example that helps most at every step: of a loss the one that lowers it most."""
    sign = -1 if main.attribution.info.better == "lower" else 1
    scores = np.stack([main.attribution.rows(row) for row in rows])
    return (sign * scores).argmax(-1)


def _scores(main: Method, rows: np.ndarray, times: Float[np.ndarray, " s"]) -> Plot:
    """Along each way, the score of the example that its decided end leans on most, as a share of the step's largest."""
    sign = -1 if main.attribution.info.better == "lower" else 1
    lines = []
    for row in rows[:SAMPLES]:
        scores = sign * main.attribution.rows(row)
        largest = np.abs(scores).max(axis=1)
        lines.append(
            scores[:, scores[-2 if len(scores) > 1 else -1].argmax()] / np.where(largest > 0, largest, 1)
        )
    drawn = courses(
        times,
        np.stack(lines),
        names=("timestep, from noise to sample", "share of the largest score"),
        low=-1.0,
    )
    said = "A line per sample: the score of the training example that its last step but one leans on most, at every step, against the largest score there."
    return Plot(main.name, "Scores along the way", drawn, said)
