"""TODO"""

from diff_common import compared, facts, learner

import dataloupe as dl

train, targets = dl.data.fashion_mnist(train=2000, test=500)
with_noise = dl.Question(learner(lr=0.1, batch_size=32), train, targets, dl.outputs.margin)
without_noise = dl.Question(learner(lr=0.02, batch_size=128, epochs=40), train, targets, dl.outputs.margin)


cover = dl.transforms.Occlude(0, centre=(14, 14), high=255)
claim = dl.CounterfactualTest(cover, strengths=(4, 8), tolerance=0.02)


def main(folder: str = "runs/diff_noise") -> dict:
    lab = dl.Lab(folder)
    questions = {"high noise": with_noise, "low noise": without_noise}
    found = compared(questions, lab)
    answer = claim.run(questions, lab, models=10)
    print(answer)
    return facts(found, answer)


if __name__ == "__main__":
    main()
