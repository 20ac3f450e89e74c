"""The class of `traker` 0.3.2, on dataloupe's engine, sketches and store."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dataloupe._errors import BadInput, StoreError
from dataloupe._identity import NUMERICS, canonical, differences, identity
from dataloupe._typing import Facts
from dataloupe.compat._checks import (
    check_device,
    device_for,
    known_parameters,
    model_folder,
    no_counterpart,
    out_of_order,
    row_ids,
    rows_missing,
    targets_folder,
)
from dataloupe.compat._features import Featuriser
from dataloupe.compat._projection import reduction_of
from dataloupe.compat._shelf import Contents, Shelf, packed, unpacked
from dataloupe.compat._solve import Gram, add_scores, gram_of, solved
from dataloupe.compat._tasks import Batch, Single, asked_of, leaves, picked
from dataloupe.core import DenseAttribution, Info, TorchModel
from dataloupe.learners import Checkpoints
from dataloupe.store import open_store


class TRAKer:
    """TRAK step by step, for scripts written for ``traker``: checkpoint by checkpoint, batch by batch.

        scores_ij = mean_k [x_ki' (X_k' X_k + lambda I)^-1 phi_kj] * mean_k [Q_ki],    X_k = gradients P_k / root p

    ``from dataloupe.compat import TRAKer`` in place of ``from trak import TRAKer``; names and order are the original's.
    What differs:

    - Gradients come as factors from one pass of a batch and meet a factored sketch; no random matrix, no nvcc.
    - ``lambda_reg=None``, the default, is a ridge of the mean eigenvalue of the Gram; numbers are the original's lambda
      (0.0 is its default). The original's inverse is rescaled to a mean size of 1, checkpoint by checkpoint; ours is not,
      so that checkpoints count as they should. With one checkpoint, scores agree up to that scale.
    - ``use_half_precision`` stores features in half, with a scale for every row. Grams, inverses and sums are in fp64.
    - ``save_dir`` holds whole batches, each published at once: kill the script at any time and run it again. What
      was made under other settings, by another checkpoint or from other rows is refused, never reused or overwritten
      (so ``load_from_save_dir`` changes nothing). ``check_rows=False`` lets a loader hand out other contents each time.
    - ``device=None`` is where the model is. ``proj_max_batch_size`` has no effect. ``gradient_computer``, ``saver``
      and ``score_computer`` have no counterpart.

    ``task``: "image_classification", "text_classification", an output of :mod:`dataloupe.outputs`, or an object like
    :class:`AbstractModelOutput`. ``projector``: None, :class:`NoOpProjector`, a sketch, or a projector of the original.

    Raises ``BadInput`` dl-960 (device), dl-964 (order), dl-965 (rows), dl-966 (missing rows), dl-967 (singular Gram),
    dl-968 (gradients), dl-969 (other rows), dl-970 (experiment), dl-972 (``grad_wrt``), dl-973 (settings);
    ``CapabilityError`` dl-961 (no counterpart), dl-971 (task); ``StoreError`` dl-962 (other settings), dl-963 (other
    checkpoint). Source: Park et al. 2023 (TRAK); the interface is that of ``traker`` 0.3.2.

    >>> import tempfile
    >>> net, x, y = nn.Linear(3, 2), torch.randn(20, 3), torch.arange(20) % 2
    >>> traker = TRAKer(net, "image_classification", 20, tempfile.mkdtemp(), proj_dim=4)
    >>> traker.load_checkpoint(net.state_dict(), model_id=0)
    >>> traker.featurize((x, y), num_samples=20)
    >>> traker.finalize_features()
    >>> traker.start_scoring_checkpoint("test", net.state_dict(), model_id=0, num_targets=5)
    >>> traker.score((x[:5], y[:5]), num_samples=5)
    >>> traker.finalize_scores("test").shape
    (20, 5)
    """

    def __init__(  # budget: the constructor of the original
        self,
        model: nn.Module,
        task: Any,
        train_set_size: int,
        save_dir: str | Path = "./trak_results",
        load_from_save_dir: bool = True,  # noqa: ARG002  (nothing is ever overwritten)
        device: str | torch.device | None = None,
        gradient_computer: Any = None,
        projector: Any = None,
        saver: Any = None,
        score_computer: Any = None,
        proj_dim: int = 2048,
        logging_level: int = logging.INFO,
        use_half_precision: bool = True,
        proj_max_batch_size: int = 32,  # noqa: ARG002  (the engine chooses)
        projector_seed: int = 0,
        grad_wrt: Iterable[str] | None = None,
        lambda_reg: float | None = None,
        check_rows: bool = True,
    ) -> None:
        no_counterpart(gradient_computer=gradient_computer, saver=saver, score_computer=score_computer)
        if train_set_size < 1 or not (lambda_reg is None or 0.0 <= lambda_reg < float("inf")):
            raise BadInput(
                "dl-973",
                asked=f"train_set_size={train_set_size}, lambda_reg={lambda_reg}",
                found="no rows, or a negative ridge",
                do="give the number of training rows, and a lambda of 0 or above (None for the default)",
            )
        self.task, self.reduction = asked_of(task), reduction_of(projector, proj_dim, projector_seed)
        self.model, self.device = model, device_for(model, device)
        self.train_set_size, self.half, self.lambda_reg = train_set_size, use_half_precision, lambda_reg
        self.check_rows = check_rows
        self.grad_wrt = known_parameters(model, grad_wrt)
        self.logger = logging.getLogger("dataloupe.traker")
        self.logger.setLevel(logging_level)
        self.store = open_store(save_dir)
        self._train_rows = Contents(self.store, "train-rows", train_set_size)
        self._check_settings()
        self._featuriser: Featuriser | None = None
        self._shelf: Shelf | None = None
        self._targets: tuple[Featuriser, Shelf, Contents] | None = None
        self._next = self._next_target = 0
        self.scores: Float[np.ndarray, "n m"] | None = None

    # --- training rows -------------------------------------------------------------------------------------

    def load_checkpoint(self, checkpoint: Mapping[str, Tensor] | str | Path, model_id: int) -> None:
        """Featurise at this checkpoint from now on. Names, shapes and NaN are checked as by :class:`Checkpoints`."""
        self._featuriser = self._at(checkpoint, model_id, new=True)
        self._shelf = Shelf(self.store, model_folder(model_id), self.train_set_size)
        self._next = 0
        there = int(self._shelf.there.sum())
        self.logger.info("model %s: %d of %d rows are there", model_id, there, self.train_set_size)

    def featurize(self, batch: Batch, inds: Any = None, num_samples: int | None = None) -> None:
        """Features of a batch of training rows: ``inds`` names them, ``num_samples`` means the next ones."""
        if self._featuriser is None or self._shelf is None:
            raise out_of_order("featurize", "no checkpoint", "call load_checkpoint first")
        ids = row_ids(batch, inds, num_samples, self._next, self._train_rows)
        self._keep(batch, ids, self._featuriser, self._shelf, self._train_rows)
        self._next += len(ids) if inds is None else 0

    def finalize_features(self, model_ids: Iterable[int] | None = None, del_grads: bool = False) -> None:  # noqa: ARG002
        """The Gram of every model, once all its rows are there; ``del_grads`` has no effect, for nothing is kept twice."""
        for model_id in self._ids_of_models(model_ids):
            gram = self._gram(model_id)
            how = solved(gram, self.lambda_reg, f"model {model_id}")
            self.logger.info(
                "model %s: effective dimension %.0f of %d at lambda %.3g; seen %s",
                *(model_id, how.dimension, gram.d, how.ridge, gram.facts["coverage"]),
            )

    # --- targets -------------------------------------------------------------------------------------------

    def start_scoring_checkpoint(
        self, exp_name: str, checkpoint: Mapping[str, Tensor] | str | Path, model_id: int, num_targets: int
    ) -> None:
        """Score ``num_targets`` targets under the name of an experiment at this checkpoint from now on."""
        known = self.store.read_facts("experiments", exp_name)
        if num_targets < 1 or (known is not None and known["num_targets"] != num_targets):
            raise BadInput(
                "dl-970",
                asked=f"{num_targets} targets in the experiment {exp_name!r}",
                found="a number below 1" if known is None else f"{known['num_targets']} targets there",
                do="give other targets another exp_name; what is there stays",
            )
        featuriser = self._at(checkpoint, model_id, new=False)
        if known is None:
            self.store.write_facts("experiments", exp_name, {"num_targets": num_targets})
        shelf = Shelf(self.store, targets_folder(exp_name, model_id), num_targets)
        rows = Contents(self.store, f"experiments/{exp_name}/target-rows", num_targets)
        self._targets = featuriser, shelf, rows
        self._next_target = 0

    def score(self, batch: Batch, inds: Any = None, num_samples: int | None = None) -> None:
        """Features of a batch of targets, whose numbers are given as to :meth:`featurize`."""
        if self._targets is None:
            raise out_of_order("score", "no checkpoint to score at", "call start_scoring_checkpoint first")
        featuriser, shelf, rows = self._targets
        ids = row_ids(batch, inds, num_samples, self._next_target, rows)
        self._keep(batch, ids, featuriser, shelf, rows)
        self._next_target += len(ids) if inds is None else 0

    def finalize_scores(
        self, exp_name: str, model_ids: Iterable[int] | None = None, allow_skip: bool = False
    ) -> Float[np.ndarray, "n m"]:
        """Scores ``[n, m]`` in fp32, over all models or some; positive where having the row raises the output.

        A model with rows or targets missing is an error, or left out and said with ``allow_skip``.
        """
        used = self._used(exp_name, model_ids, allow_skip)
        made_by = {"models": used, "lambda": self.lambda_reg, "numerics": NUMERICS}
        folder, name = f"experiments/{exp_name}/scores", identity(made_by)
        known = self.store.read(folder, name)
        if known is None:
            scores = self._scores(exp_name, used)
            self.store.write(folder, name, {"scores": scores}, made_by)
        self.scores = scores if known is None else known[0]["scores"]
        return self.scores

    def attribution(
        self, exp_name: str, model_ids: Iterable[int] | None = None, allow_skip: bool = False
    ) -> DenseAttribution:
        """The scores as an attribution in relative units: for :func:`dataloupe.lds`, ``calibrate`` and what follows."""
        scores = self.finalize_scores(exp_name, model_ids, allow_skip)
        used = self._used(exp_name, model_ids, allow_skip)
        grams = [self._gram(k).facts for k in used]
        worst = {name: max(one[name] for one in grams) for name in ("zero_rows", "gradient_error")}
        certificate = {"models": len(used), "coverage": grams[0]["coverage"], **worst}
        info = Info("TRAKer", {**self._settings(), "lambda": self.lambda_reg}, certificate)
        return DenseAttribution(np.ascontiguousarray(scores.T), info, units="relative")

    # --- how it gets done ----------------------------------------------------------------------------------

    def _settings(self) -> Facts:
        """What decides features."""
        return {
            "task": canonical(self.task.identity()),
            "train_set_size": self.train_set_size,
            "projection": self.reduction.identity,
            "grad_wrt": self.grad_wrt,
            "stored in": "float16" if self.half else "float32",
            "numerics": NUMERICS,
        }

    def _check_settings(self) -> None:
        known = self.store.read_facts("traker", "settings")
        apart = [] if known is None else differences(self._settings(), known)
        if apart:
            raise StoreError(
                "dl-962",
                asked=f"to go on in {self.store}",
                found=f"features made with other settings ({'; '.join(apart[:4])})",
                do="give the settings of then, or another save_dir; what is there stays",
            )

    def _at(self, checkpoint: Any, model_id: int, *, new: bool) -> Featuriser:
        """A checkpoint under its id, held against the one that the id belongs to."""
        source = Checkpoints(self.model, checkpoint)
        (model,) = source.models()
        about = {name: part for name, part in source.__identity__().items() if name != "kept"}
        known = self.store.read_facts(model_folder(model_id), "checkpoint")
        if known is None and not new:
            raise out_of_order(
                f"to score at model {model_id}", "no such model", "call load_checkpoint with that id"
            )
        apart = [] if known is None else differences(about, known)
        if apart:
            raise StoreError(
                "dl-963",
                asked=f"model {model_id}",
                found=f"another checkpoint under that id in {self.store} ({len(apart)} differences)",
                do="give the checkpoint of then, or another model_id; what is there stays",
            )
        if known is None:
            self.store.write_facts("traker", "settings", self._settings())
            self.store.write_facts(model_folder(model_id), "checkpoint", about)
        return Featuriser(self.task, self._placed(model), self.reduction, model_id)

    def _placed(self, model: Any) -> TorchModel:
        """The model on its device; parameters that no gradient is asked for stand among its buffers."""
        tensors = {name: t.to(self.device) for name, t in {**model.params, **model.buffers}.items()}
        wanted = model.params if self.grad_wrt is None else self.grad_wrt
        if isinstance(self.task, Single):  # it is handed the module itself
            model.module.to(self.device).load_state_dict(tensors, strict=False)
        params = {name: tensors[name] for name in model.params if name in wanted}
        return TorchModel(model.module, params, {n: t for n, t in tensors.items() if n not in params})

    def _keep(
        self, batch: Batch, ids: Int[np.ndarray, " b"], featuriser: Featuriser, shelf: Shelf, rows: Contents
    ) -> None:
        """Publish the features of those rows that are not there yet."""
        check_device(batch, self.device)
        contents = rows.checked(ids, leaves(batch)) if self.check_rows else None
        new = np.flatnonzero(~shelf.there[ids])
        if len(new):
            batch = batch if len(new) == len(ids) else picked(batch, torch.from_numpy(new))
            found = featuriser.of(batch)
        if contents is not None:  # only now: a batch that was refused may come back mended
            rows.note(ids, contents)
        if len(new):
            shelf.add(ids[new], {**packed(found.rows, self.half), "slope": found.slope}, found.facts)

    def _used(self, exp_name: str, model_ids: Iterable[int] | None, allow_skip: bool) -> list[int]:
        """The models that scores are made of (dl-964, dl-966, dl-970)."""
        m = self._targets_of(exp_name)
        used = [k for k in self._ids_of_models(model_ids) if self._ready(exp_name, k, m, allow_skip)]
        if not used:
            raise out_of_order("scores", "no model whose rows and targets are all there", "score first")
        return used

    def _targets_of(self, exp_name: str) -> int:
        """How many targets an experiment has (dl-970)."""
        facts = self.store.read_facts("experiments", exp_name)
        if facts is None:
            raise BadInput(
                "dl-970",
                asked=f"the scores of the experiment {exp_name!r}",
                found="no such experiment",
                do="call start_scoring_checkpoint and score first",
            )
        return facts["num_targets"]

    def _ready(self, exp_name: str, model_id: int, m: int, allow_skip: bool) -> bool:
        """Whether a model can be scored (dl-966, dl-964 if it cannot and must)."""
        shelf = Shelf(self.store, targets_folder(exp_name, model_id), m)
        finalized = bool(self.store.units(f"{model_folder(model_id)}/gram"))
        if allow_skip and (len(shelf.missing) or not finalized):
            self.logger.warning("model %s: not all there, left out", model_id)
            return False
        if len(shelf.missing):
            raise rows_missing(f"scores at model {model_id}", shelf, "score")
        if not finalized:
            raise out_of_order(
                f"scores at model {model_id}", "features that are not finalized", "call finalize_features"
            )
        return True

    def _scores(self, exp_name: str, used: list[int]) -> Float[np.ndarray, "n m"]:
        """The product of averages."""
        m = self._targets_of(exp_name)
        total = np.zeros((self.train_set_size, m), dtype=np.float32)
        slope = np.zeros(self.train_set_size)
        for model_id in used:
            gram = self._gram(model_id)
            phi = np.empty((m, gram.d), dtype=np.float32)
            for ids, arrays, _ in Shelf(self.store, targets_folder(exp_name, model_id), m).blocks():
                phi[ids] = unpacked(arrays)
            how = solved(gram, self.lambda_reg, f"model {model_id}")
            features = Shelf(self.store, model_folder(model_id), self.train_set_size)
            slope += add_scores(total, features, phi, gram, how)
        return total * (slope / len(used) ** 2).astype(np.float32)[:, None]

    def _gram(self, model_id: int) -> Gram:
        """The Gram of a model whose rows are all there, read or made."""
        folder = f"{model_folder(model_id)}/gram"
        known = self.store.read(folder, "gram")
        if known is not None:
            return Gram(known[0]["matrix"], known[1]["d"], known[1])
        shelf = Shelf(self.store, model_folder(model_id), self.train_set_size)
        if len(shelf.missing):
            raise rows_missing(f"features at model {model_id}", shelf, "featurize")
        gram = gram_of(shelf)
        self.store.write(folder, "gram", {"matrix": gram.matrix}, {**gram.facts, "d": gram.d})
        return gram

    def _ids_of_models(self, asked: Iterable[int] | None) -> list[int]:
        """The models that are meant, all that are known if none is named (dl-966)."""
        found = (re.fullmatch(r"models/(\d+)", folder) for folder in self.store.folders())
        known = sorted(int(match[1]) for match in found if match)
        wanted = known if asked is None else [int(model_id) for model_id in asked]
        unknown = [model_id for model_id in wanted if model_id not in known]
        if unknown or not wanted:
            raise BadInput(
                "dl-966",
                asked=f"the models {wanted}" if wanted else "models",
                found=f"{known or 'none'} in {self.store}",
                do="call load_checkpoint and featurize for each first",
            )
        return wanted
