"""TODO"""

from diff_common import compared, facts, learner

import dataloupe as dl

train, targets = dl.data.fashion_mnist(train=2000, test=500)
with_noise = dl.Question(learner(lr=0.1, batch_size=32), train, targets, dl.outputs.margin)
without_noise = dl.Question(learner(lr=0.02, batch_size=128, epochs=40), train, targets, dl.outputs.margin)


def main(folder: str = "runs/diff_noise") -> dict:
    lab = dl.Lab(folder)
    questions = {"high noise": with_noise, "low noise": without_noise}
    found = compared(questions, lab)
    return facts(found)


if __name__ == "__main__":
    main()
