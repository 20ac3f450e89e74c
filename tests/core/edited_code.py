"""Places of a user's code that decide an answer, each with what is edited: ``@@`` is one value, then another.

A text may hold several files; ``# file: helpers.py`` begins a neighbour that the first one imports. Each text defines
``thing``, a part of a question.
"""

HEAD = """
import dataclasses, enum, functools, math
import numpy as np
import torch
from torch import nn
import dataloupe as dl
"""

LOOP = """
@dataclasses.dataclass(frozen=True)
class MyLoop:
    removal: str = "repack"
    def train(self, data, weights, *, seed):
        return fit(data, weights, seed)
thing = MyLoop()
"""

MODULE = """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
    def forward(self, x):
        return self.a(x)
"""

EDITS: dict[str, tuple[str, str, str]] = {
    # --- functions and what they read ---
    "method body": (
        """
class MyLoop:
    removal = "repack"
    def train(self, data, weights, *, seed):
        return @@ * weights
thing = MyLoop()""",
        "1.0",
        "2.0",
    ),
    "helper": ("def fit(data, weights, seed): return weights * @@" + LOOP, "1.0", "2.0"),
    "helper of a helper": (
        "def inner(x): return x + @@\ndef fit(data, weights, seed): return inner(weights)" + LOOP,
        "1",
        "2",
    ),
    "name of a constant": ("def fit(data, weights, seed): return weights == '@@'" + LOOP, "a", "b"),
    "operator": ("def fit(data, weights, seed): return weights @@ 2" + LOOP, "+", "-"),
    "global constant": ("LR = @@\ndef fit(data, weights, seed): return weights * LR" + LOOP, "0.1", "0.2"),
    "global that is swapped for another": (
        "def one(x): return x\ndef two(x): return -x\nstep = @@\n"
        "def fit(data, weights, seed): return step(weights)" + LOOP,
        "one",
        "two",
    ),
    "global list": ("WIDTHS = [64, @@]\ndef fit(data, weights, seed): return WIDTHS" + LOOP, "32", "16"),
    "global long list": (
        "X = list(range(999)) + [@@]\ndef fit(data, weights, seed): return X" + LOOP,
        "1",
        "2",
    ),
    "global dict": ("C = {'lr': @@}\ndef fit(data, weights, seed): return C['lr']" + LOOP, "0.1", "0.2"),
    "order of a dict of functions": (
        "def one(x): return x\ndef two(x): return -x\nSTEPS = @@\n"
        "def fit(data, weights, seed): return [step(weights) for step in STEPS.values()]" + LOOP,
        "{'a': one, 'b': two}",
        "{'b': two, 'a': one}",
    ),
    "function in a dict of functions": (
        "def one(x): return x * @@\nSTEPS = {'a': one}\n"
        "def fit(data, weights, seed): return STEPS['a'](weights)" + LOOP,
        "1",
        "2",
    ),
    "global tensor": (
        "W = torch.tensor([1.0, @@])\ndef fit(data, weights, seed): return W" + LOOP,
        "1.0",
        "2.0",
    ),
    "global array of objects": (
        "W = np.array(['a', '@@'], dtype=object)\ndef fit(data, weights, seed): return W" + LOOP,
        "b",
        "c",
    ),
    "global set": ("KEPT = {'a', '@@'}\ndef fit(data, weights, seed): return KEPT" + LOOP, "b", "c"),
    "global enum": (
        "class Kind(enum.Enum):\n    A = @@\ndef fit(data, weights, seed): return Kind.A.value" + LOOP,
        "1",
        "2",
    ),
    "global random state": (
        "rng = np.random.default_rng(@@)\ndef fit(data, weights, seed): return rng.normal()" + LOOP,
        "1",
        "2",
    ),
    "global network": (
        "torch.manual_seed(@@)\nnet = nn.Linear(2, 2)\ndef fit(data, weights, seed): return net(weights)"
        + LOOP,
        "1",
        "2",
    ),
    "default argument": ("def fit(data, weights, seed, lr=@@): return lr" + LOOP, "0.1", "0.2"),
    "default that is a name": (
        "LR = @@\ndef fit(data, weights, seed, lr=LR): return lr" + LOOP,
        "0.1",
        "0.2",
    ),
    "keyword-only default": (
        "LR = @@\ndef fit(data, weights, seed, *, lr=LR): return lr" + LOOP,
        "0.1",
        "0.2",
    ),
    "attribute of a function": (
        "def fit(data, weights, seed): return fit.lr\nfit.lr = @@" + LOOP,
        "0.1",
        "0.2",
    ),
    "closure": (
        "def outer(lr):\n    def inner(data, weights, seed): return lr\n    return inner\nfit = outer(@@)"
        + LOOP,
        "0.1",
        "0.2",
    ),
    "closure over a plain object": (
        "class Config: pass\ndef outer():\n    c = Config()\n    c.lr = @@\n"
        "    def inner(data, weights, seed): return c.lr\n    return inner\nfit = outer()" + LOOP,
        "0.1",
        "0.2",
    ),
    "lambda": ("fit = lambda data, weights, seed: @@" + LOOP, "1", "2"),
    "lambdas on one line": ("fit, other = (lambda *a: @@), (lambda *a: 3)" + LOOP, "1", "2"),
    "partial": (
        "def raw(lr, data, weights, seed): return lr\nfit = functools.partial(raw, @@)" + LOOP,
        "1",
        "2",
    ),
    "function of a partial": (
        "def raw(lr, data, weights, seed): return lr + @@\nfit = functools.partial(raw, 1)" + LOOP,
        "1",
        "2",
    ),
    "inner function": (
        "def fit(data, weights, seed):\n    def inner(): return SCALE\n    return inner()\nSCALE = @@" + LOOP,
        "1",
        "2",
    ),
    "comprehension": (
        "SCALE = @@\ndef fit(data, weights, seed): return [SCALE for _ in range(2)]" + LOOP,
        "1",
        "2",
    ),
    # --- decorators and caches ---
    "decorated function": (
        "def twice(f):\n    @functools.wraps(f)\n    def g(*a): return f(*a)\n    return g\n"
        "@twice\ndef fit(data, weights, seed): return @@" + LOOP,
        "1",
        "2",
    ),
    "decorator": (
        "def twice(f):\n    @functools.wraps(f)\n    def g(*a): return @@ * f(*a)\n    return g\n"
        "@twice\ndef fit(data, weights, seed): return 1" + LOOP,
        "2",
        "3",
    ),
    "argument of a decorator": (
        "def times(k):\n    def wrap(f):\n        def g(*a): return k * f(*a)\n        return g\n    return wrap\n"
        "K = @@\n@times(K)\ndef fit(data, weights, seed): return 1" + LOOP,
        "2",
        "3",
    ),
    "lru_cache": (
        "@functools.lru_cache\ndef fit(data, weights, seed): return @@" + LOOP,
        "1",
        "2",
    ),
    "function under torch.no_grad": (
        "@torch.no_grad()\ndef fit(data, weights, seed): return @@" + LOOP,
        "1",
        "2",
    ),
    "function in a cache of a registry": (
        "@functools.singledispatch\ndef scale(x): return x\n@scale.register\ndef _(x: int): return x * @@\n"
        "def fit(data, weights, seed): return scale(seed)" + LOOP,
        "1",
        "2",
    ),
    # --- classes ---
    "class attribute": (
        "class MyLoop:\n    removal = 'repack'\n    lr = @@\n"
        "    def train(self, data, weights, *, seed): return self.lr\nthing = MyLoop()",
        "1",
        "2",
    ),
    "private method of a subclass": (
        "class MyLoop:\n    removal = 'repack'\n    def train(self, data, weights, *, seed): return self._rate()\n"
        "    def _rate(self): return 1\n"
        "class Mine(MyLoop):\n    def _rate(self): return @@\nthing = Mine()",
        "1",
        "2",
    ),
    "base class": (
        "class Base:\n    removal = 'repack'\n    def train(self, data, weights, *, seed): return @@\n"
        "class Mine(Base): pass\nthing = Mine()",
        "1",
        "2",
    ),
    "nested class": (
        "class MyLoop:\n    removal = 'repack'\n    class Step:\n        def go(self): return @@\n"
        "    def train(self, data, weights, *, seed): return self.Step().go()\nthing = MyLoop()",
        "1",
        "2",
    ),
    "property": (
        "class MyLoop:\n    removal = 'repack'\n    @property\n    def lr(self): return @@\n"
        "    def train(self, data, weights, *, seed): return self.lr\nthing = MyLoop()",
        "1",
        "2",
    ),
    "cached property": (
        "class MyLoop:\n    removal = 'repack'\n    @functools.cached_property\n    def lr(self): return @@\n"
        "    def train(self, data, weights, *, seed): return self.lr\nthing = MyLoop()",
        "1",
        "2",
    ),
    "staticmethod": (
        "class MyLoop:\n    removal = 'repack'\n    @staticmethod\n    def lr(): return @@\n"
        "    def train(self, data, weights, *, seed): return self.lr()\nthing = MyLoop()",
        "1",
        "2",
    ),
    "classmethod": (
        "class MyLoop:\n    removal = 'repack'\n    @classmethod\n    def lr(cls): return @@\n"
        "    def train(self, data, weights, *, seed): return self.lr()\nthing = MyLoop()",
        "1",
        "2",
    ),
    "default of a field": ("@dataclasses.dataclass\nclass C:\n    lr: float = @@\nthing = C", "0.1", "0.2"),
    "factory of a field": (
        "def make(): return [@@]\n@dataclasses.dataclass\nclass C:\n    lr: list = dataclasses.field(default_factory=make)\n"
        "    removal: str = 'repack'\n    def train(self, data, weights, *, seed): return C().lr\nthing = C([0])",
        "1",
        "2",
    ),
    "field that does not compare": (
        "@dataclasses.dataclass(frozen=True)\nclass C:\n    w: object = dataclasses.field(compare=False)\n"
        "thing = C(torch.ones(2) * @@)",
        "1",
        "2",
    ),
    "attribute that is no field": (
        "@dataclasses.dataclass\nclass C:\n    lr: float = 0.1\n    steps = 3\nthing = C()\nthing.steps = @@",
        "3",
        "4",
    ),
    "attribute of a plain object": (
        "class C:\n    def __init__(self, lr): self.lr = lr\nthing = C(@@)",
        "1",
        "2",
    ),
    "slot of a plain object": (
        "class C:\n    __slots__ = ('lr',)\n    def __init__(self, lr): self.lr = lr\nthing = C(@@)",
        "1",
        "2",
    ),
    "callable object": (
        "class Scale:\n    def __init__(self, k): self.k = k\n    def __call__(self, x): return x * self.k\n"
        "SCALE = Scale(@@)\ndef fit(data, weights, seed): return SCALE(weights)" + LOOP,
        "1",
        "2",
    ),
    "call of a callable object": (
        "class Scale:\n    def __call__(self, x): return x * @@\n"
        "SCALE = Scale()\ndef fit(data, weights, seed): return SCALE(weights)" + LOOP,
        "1",
        "2",
    ),
    "metaclass": (
        "class Meta(type):\n    def __call__(cls, *a): return @@\nclass Thing(metaclass=Meta): pass\n"
        "def fit(data, weights, seed): return Thing()" + LOOP,
        "1",
        "2",
    ),
    "list of a class of one's own": (
        "class Steps(list):\n    pass\nS = Steps([1, @@])\ndef fit(data, weights, seed): return S" + LOOP,
        "1",
        "2",
    ),
    "named tuple": (
        "import typing\nclass C(typing.NamedTuple):\n    lr: float = 0.1\n    def rate(self): return self.lr * @@\n"
        "c = C()\ndef fit(data, weights, seed): return c.rate()" + LOOP,
        "1",
        "2",
    ),
    # --- modules ---
    "function of an imported module": (
        "import helpers\ndef fit(data, weights, seed): return helpers.f(weights)"
        + LOOP
        + "\n# file: helpers.py\ndef f(x): return x * @@",
        "1",
        "2",
    ),
    "constant of an imported module": (
        "import helpers\ndef fit(data, weights, seed): return helpers.LR"
        + LOOP
        + "\n# file: helpers.py\nLR = @@",
        "1",
        "2",
    ),
    "name imported from a module": (
        "from helpers import f as g\ndef fit(data, weights, seed): return g(weights)"
        + LOOP
        + "\n# file: helpers.py\nLR = @@\ndef f(x): return x * LR",
        "1",
        "2",
    ),
    "module behind a module": (
        "import helpers\ndef fit(data, weights, seed): return helpers.others.LR"
        + LOOP
        + "\n# file: helpers.py\nimport others\n# file: others.py\nLR = @@",
        "1",
        "2",
    ),
    "getattr of an imported module": (
        "import helpers\ndef fit(data, weights, seed): return getattr(helpers, 'L' + 'R')"
        + LOOP
        + "\n# file: helpers.py\nLR = @@",
        "1",
        "2",
    ),
    "import inside a function": (
        "def fit(data, weights, seed):\n    import helpers\n    return helpers.LR"
        + LOOP
        + "\n# file: helpers.py\nLR = @@",
        "1",
        "2",
    ),
    "import of a name inside a function": (
        "def fit(data, weights, seed):\n    from helpers import f\n    return f(weights)"
        + LOOP
        + "\n# file: helpers.py\ndef f(x): return x * @@",
        "1",
        "2",
    ),
    # --- parts of questions ---
    "dataclass Output": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    name = 'mine'\n    repeats = 1\n"
        "    def value(self, model, rows, draw=None): return model.predict(rows.inputs)[:, @@]\n"
        "    def slope(self, model, rows, values, draw=None): return values\n"
        "    def valid(self, rows): return torch.ones(len(rows.inputs), 1, dtype=torch.bool)\nthing = Mine()",
        "0",
        "1",
    ),
    "subclass of an output": (
        "class Mine(dl.outputs.Margin):\n    def value(self, model, rows, draw=None):\n"
        "        return @@ * super().value(model, rows, draw)\nthing = Mine()",
        "1.0",
        "2.0",
    ),
    "subclass of SGD": (
        MODULE
        + "class Mine(dl.SGD):\n    def _rate(self, progress): return @@ * super()._rate(progress)\nthing = Mine(Base)",
        "1.0",
        "0.3",
    ),
    "augmentation": (
        MODULE + "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    draws: int = 0\n"
        "    def __call__(self, images, uniforms): return images * @@\nthing = dl.SGD(Base, augment=Mine())",
        "1.0",
        "2.0",
    ),
    "transform": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    draws: int = 0\n"
        "    def __call__(self, inputs, strength, uniforms): return inputs * @@\n"
        "thing = dl.CounterfactualTest(Mine())",
        "1.0",
        "2.0",
    ),
    "unlearning method": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(dl.unlearning.SCRUB):\n"
        "    def many(self, models, context): return [models[@@]]\nthing = Mine(lr=0.1)",
        "0",
        "1",
    ),
    "method of attribution": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(dl.RandomScores):\n"
        "    def compute(self, question, lab): return @@\nthing = Mine()",
        "0",
        "1",
    ),
    "sklearn estimator of one's own": (
        "from sklearn.linear_model import RidgeClassifier\nclass Mine(RidgeClassifier):\n"
        "    def fit(self, X, y): return super().fit(X * @@, y)\nthing = dl.SklearnLearner(Mine())",
        "1.0",
        "0.1",
    ),
    "FunctionTransformer in a pipeline": (
        "from sklearn.linear_model import RidgeClassifier\nfrom sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import FunctionTransformer\ndef f(x): return x * @@\n"
        "thing = dl.SklearnLearner(make_pipeline(FunctionTransformer(f), RidgeClassifier()))",
        "1.0",
        "0.1",
    ),
    "step of a pipeline of one's own": (
        "from sklearn.base import BaseEstimator, TransformerMixin\nfrom sklearn.linear_model import RidgeClassifier\n"
        "from sklearn.pipeline import make_pipeline\nclass Scale(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, X, y=None): return self\n    def transform(self, X): return X * @@\n"
        "thing = dl.SklearnLearner(make_pipeline(Scale(), RidgeClassifier()))",
        "1.0",
        "0.1",
    ),
    "network that a factory makes": (
        MODULE + "class Mine(Base):\n    def forward(self, x): return super().forward(x) * @@\n"
        "thing = dl.SGD(lambda: Mine())",
        "1.0",
        "2.0",
    ),
    "global used in training mode only": (
        MODULE + "NOISE = @@\nclass Mine(Base):\n    def forward(self, x):\n"
        "        return super().forward(x * (NOISE if self.training else 1.0))\nthing = dl.SGD(Mine)",
        "1.0",
        "2.0",
    ),
    "hook that a helper installs": (
        MODULE
        + "def install(m):\n    m.a.register_forward_hook(lambda mod, i, o: o * @@ if mod.training else o)\n"
        "    return m\ndef make(): return install(Base())\nthing = dl.SGD(make)",
        "1.0",
        "2.0",
    ),
    "bound method as a factory": (
        MODULE
        + "class Mine(Base):\n    def __init__(self, k):\n        super().__init__()\n        self._k = k\n"
        "class Factory:\n    def __init__(self, k): self.k = k\n    def make(self): return Mine(self.k)\n"
        "thing = dl.SGD(Factory(@@).make)",
        "1.0",
        "2.0",
    ),
    "autograd function": (
        MODULE
        + "class F(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return x * 1\n"
        "    @staticmethod\n    def backward(ctx, g): return g * @@\n"
        "class Mine(Base):\n    def forward(self, x): return F.apply(super().forward(x))\nthing = dl.SGD(Mine)",
        "1.0",
        "2.0",
    ),
    "attribute of a checkpoint's module": (
        MODULE
        + "class Mine(Base):\n    def __init__(self, k):\n        super().__init__()\n        self._k = k\n"
        "    def forward(self, x): return super().forward(x) * self._k\n"
        "thing = dl.Checkpoints(Mine(@@), [{'a.weight': torch.ones(3, 4), 'a.bias': torch.ones(3)}])",
        "1.0",
        "2.0",
    ),
    "names of inputs": (
        "P, Q = torch.zeros(3, 2), torch.ones(3, 2)\nthing = dl.Examples(@@)",
        "{'p': P, 'q': Q}",
        "{'q': P, 'p': Q}",
    ),
    "type of inputs": (
        "thing = dl.Examples(torch.ones(3, 2, dtype=@@))",
        "torch.bfloat16",
        "torch.float32",
    ),
    "attribute that a subclass of SGD adds": (
        MODULE + "class Mine(dl.SGD):\n    def __init__(self, *a, scale):\n        super().__init__(*a)\n"
        "        object.__setattr__(self, 'scale', scale)\nthing = Mine(Base, scale=@@)",
        "1.0",
        "2.0",
    ),
    "global read by its name in a text": (
        "LR = @@\ndef fit(data, weights, seed): return globals()['L' + 'R']" + LOOP,
        "1",
        "2",
    ),
    "key of a dict that is a function": (
        "def one(x): return x * @@\nTABLE = {one: 1}\ndef fit(data, weights, seed): return TABLE" + LOOP,
        "1",
        "2",
    ),
}
