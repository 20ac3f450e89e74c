"""Architectures that people train, small: what gradients of examples are held against batch-of-one autograd on.

``ZOO`` maps names to functions ``(generator) -> (module, inputs)``; every module gives ``[b, 3]``.
``DATA_DEPENDENT`` names those whose work depends on what the rows hold.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Made = tuple[nn.Module, Any]
B, D, C, T = 64, 8, 3, 9


def vectors(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(B, *(shape or (D,)), generator=g)


def tokens(g: torch.Generator, of: int = 20) -> Tensor:
    return torch.randint(1, of, (B, T), generator=g)


def ragged(g: torch.Generator, of: int = 20) -> Tensor:
    """Token ids with padding 0 behind."""
    ids = tokens(g, of)
    return ids.masked_fill(torch.arange(T) >= torch.randint(2, T + 1, (B, 1), generator=g), 0)


class Wrapped(nn.Module):
    """A function of some layers."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module | nn.Parameter | Tensor) -> None:
        super().__init__()
        for name, layer in layers.items():
            if isinstance(layer, nn.Parameter):
                self.register_parameter(name, layer)
            elif isinstance(layer, Tensor):
                self.register_buffer(name, layer)
            else:
                self.add_module(name, layer)
        self.work = forward

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        return self.work(self, *inputs, **named)


def experts(count: int, width: int = D, hidden: int = 16) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(count)
    )


# --- routed ---


def routed(net: Any, x: Tensor, top: int = 1) -> Tensor:
    """Every row (or token) goes to its ``top`` experts, which see their own rows only."""
    flat = x.reshape(-1, x.shape[-1])
    share, which = net.gate(flat).softmax(-1).topk(top, -1)
    out = torch.zeros_like(flat)
    for number, expert in enumerate(net.experts):
        rows, place = (which == number).nonzero(as_tuple=True)
        if len(rows):
            out = out.index_add(0, rows, expert(flat[rows]) * share[rows, place, None])
    return out.view_as(x)


def moe_rows(top: int) -> Callable[[torch.Generator], Made]:
    def make(g: torch.Generator) -> Made:
        net = Wrapped(
            lambda n, x: n.head(x + routed(n, x, top)),
            gate=nn.Linear(D, 4),
            experts=experts(4),
            head=nn.Linear(D, C),
        )
        return net, vectors(g)

    return make


def moe_tokens(top: int) -> Callable[[torch.Generator], Made]:
    def make(g: torch.Generator) -> Made:
        net = Wrapped(
            lambda n, x: n.head((x + routed(n, x, top)).mean(1)),
            gate=nn.Linear(D, 4),
            experts=experts(4),
            head=nn.Linear(D, C),
        )
        return net, vectors(g, T, D)

    return make


def moe_by_sign(g: torch.Generator) -> Made:
    """Case 01: rows (as wholes) go to an expert by their first number."""

    def forward(net: Any, x: Tensor) -> Tensor:
        flat = x.reshape(-1, 4)
        which = (flat[:, 0] > 0).long()
        out = torch.zeros_like(flat)
        for number, expert in enumerate(net.experts):
            rows = (which == number).nonzero().squeeze(1)
            out = out.index_add(0, rows, torch.tanh(expert(flat[rows])))
        return net.head(out.reshape(x.shape).mean(1))

    net = Wrapped(forward, experts=nn.ModuleList(nn.Linear(4, 4) for _ in range(2)), head=nn.Linear(4, C))
    x = vectors(g, 4, 4)
    x[:, :, 0] = x[:, :, 0].abs() * torch.where(torch.rand(B, 1, generator=g) < 0.5, -1.0, 1.0)
    return net, x


def moe_masked(g: torch.Generator) -> Made:
    """Experts see masked rows of all, weighed by zero: dense work, sparse gradients."""

    def forward(net: Any, x: Tensor) -> Tensor:
        gate = net.gate(x).softmax(-1)
        hard = F.one_hot(gate.argmax(-1), 4) * gate
        return net.head(sum(hard[:, k, None] * expert(x) for k, expert in enumerate(net.experts)))

    return Wrapped(forward, gate=nn.Linear(D, 4), experts=experts(4), head=nn.Linear(D, C)), vectors(g)


def moe_grouped(g: torch.Generator) -> Made:
    """Rows are sorted by expert, and a tensor of all experts' weights multiplies pieces."""

    def forward(net: Any, x: Tensor) -> Tensor:
        which = net.gate(x).argmax(-1)
        order = which.argsort(stable=True)
        pieces = x[order].split(which.bincount(minlength=4).tolist())
        done = torch.cat([piece @ net.weights[k] for k, piece in enumerate(pieces)])
        return net.head(x + torch.tanh(done[order.argsort()]))

    weights = nn.Parameter(torch.randn(4, D, D, generator=g) * 0.3)
    return Wrapped(forward, gate=nn.Linear(D, 4), weights=weights, head=nn.Linear(D, C)), vectors(g)


def moe_capacity(g: torch.Generator) -> Made:
    """An expert takes each row by a mask, and only if there is one."""

    def forward(net: Any, x: Tensor) -> Tensor:
        out = x.clone()
        for k, expert in enumerate(net.experts):
            mask = net.gate(x).argmax(-1) == k
            if mask.any():
                out[mask] = out[mask] + expert(x[mask])
        return net.head(out)

    return Wrapped(forward, gate=nn.Linear(D, 4), experts=experts(4), head=nn.Linear(D, C)), vectors(g)


def hf_mixtral(g: torch.Generator) -> Made:
    from transformers import MixtralConfig, MixtralForSequenceClassification

    config = MixtralConfig(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, pad_token_id=0,
        max_position_embeddings=32,
    )  # fmt: skip
    config.num_labels = C
    return MixtralForSequenceClassification(config), {"input_ids": tokens(g)}


def early_exit(g: torch.Generator) -> Made:
    """Confident rows leave after the first head."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = F.relu(net.a(x))
        z = net.first(h)
        sure = z.softmax(-1).amax(-1) > 0.42
        return z if sure.all() else torch.where(sure[:, None], z, net.second(F.relu(net.b(h))))

    layers = {
        "a": nn.Linear(D, 16),
        "b": nn.Linear(16, 16),
        "first": nn.Linear(16, C),
        "second": nn.Linear(16, C),
    }
    return Wrapped(forward, **layers), vectors(g)


def missing_branch(g: torch.Generator) -> Made:
    """Rows with a missing value use another encoder, if there are any (10 of 64, not among the first)."""

    def forward(net: Any, x: Tensor) -> Tensor:
        flag, h = x[:, 7] == 0, net.a(x)
        if flag.any():
            h = torch.where(flag[:, None], net.c(x), h)
        return net.b(F.relu(h))

    x = vectors(g)
    x[10:20, 7] = 0
    return Wrapped(forward, a=nn.Linear(D, 16), c=nn.Linear(D, 16), b=nn.Linear(16, C)), x


def deeper_for_some(g: torch.Generator) -> Made:
    """The number of turns through a layer depends on each row."""

    def forward(net: Any, x: Tensor) -> Tensor:
        turns = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        for turn in range(int(turns.max())):
            x = torch.where((turns > turn)[:, None], torch.tanh(net.a(x)), x)
        return net.b(x)

    return Wrapped(forward, a=nn.Linear(D, D), b=nn.Linear(D, C)), vectors(g)


def row_loop(g: torch.Generator) -> Made:
    """Rows one after the other, in Python."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return torch.stack([net.b(torch.tanh(net.a(row) if row[0] > 0 else net.c(row))) for row in x])

    return Wrapped(forward, a=nn.Linear(D, 8), c=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(g)


def in_pieces(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        return torch.cat([net.b(F.relu(net.a(piece))) for piece in x.split(16)])

    return Wrapped(forward, a=nn.Linear(D, 16), b=nn.Linear(16, C)), vectors(g)


# --- packed, sorted ---


def packed(kind: type[nn.RNNBase], **settings: Any) -> Callable[[torch.Generator], Made]:
    def make(g: torch.Generator) -> Made:
        def forward(net: Any, ids: Tensor) -> Tensor:
            lengths = (ids != 0).sum(1).cpu()
            rows = nn.utils.rnn.pack_padded_sequence(
                net.e(ids), lengths, batch_first=True, enforce_sorted=False
            )
            last = net.r(rows)[1]
            return net.h((last[0] if isinstance(last, tuple) else last)[-1])

        net = Wrapped(
            forward,
            e=nn.Embedding(20, 6, padding_idx=0),
            r=kind(6, 5, batch_first=True, **settings),
            h=nn.Linear(5, C),
        )
        return net, ragged(g)

    return make


def unpadded(g: torch.Generator) -> Made:
    """Padding is taken out before the layers and put back behind them."""

    def forward(net: Any, ids: Tensor) -> Tensor:
        real = ids != 0
        flat = net.b(F.relu(net.a(net.e(ids)[real])))
        out = torch.zeros(*ids.shape, C).masked_scatter(real[..., None].expand(-1, -1, C), flat)
        return out.sum(1) / real.sum(1, keepdim=True)

    return Wrapped(forward, e=nn.Embedding(20, 6), a=nn.Linear(6, 8), b=nn.Linear(8, C)), ragged(g)


def sorted_by_length(g: torch.Generator) -> Made:
    """Rows sorted by length, worked on, and put back."""

    def forward(net: Any, ids: Tensor) -> Tensor:
        order = (ids != 0).sum(1).argsort(descending=True)
        h = torch.tanh(net.a(net.e(ids[order]).mean(1)))
        return net.b(h[order.argsort()])

    return Wrapped(forward, e=nn.Embedding(20, 6), a=nn.Linear(6, 8), b=nn.Linear(8, C)), ragged(g)


def shuffled_inside(g: torch.Generator) -> Made:
    """A fixed permutation by content on the way in, undone by a matrix on the way out."""

    def forward(net: Any, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        back = F.one_hot(order, len(x)).float().T
        return back @ net.b(torch.tanh(net.a(x[order])))

    return Wrapped(forward, a=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(g)


def trimmed(g: torch.Generator) -> Made:
    """Trimmed to the longest row of the batch."""

    def forward(net: Any, ids: Tensor) -> Tensor:
        ids = ids[:, : int((ids != 0).sum(1).max())]
        real = (ids != 0)[..., None]
        return net.b((torch.tanh(net.a(net.e(ids))) * real).sum(1) / real.sum(1))

    return Wrapped(
        forward, e=nn.Embedding(20, 6, padding_idx=0), a=nn.Linear(6, 8), b=nn.Linear(8, C)
    ), ragged(g)


def last_token(g: torch.Generator) -> Made:
    def forward(net: Any, ids: Tensor) -> Tensor:
        h = torch.tanh(net.a(net.e(ids)))
        return net.b(h[torch.arange(len(ids)), (ids != 0).sum(1) - 1])

    return Wrapped(
        forward, e=nn.Embedding(20, 6, padding_idx=0), a=nn.Linear(6, 8), b=nn.Linear(8, C)
    ), ragged(g)


# --- graphs ---


def nodes(g: torch.Generator) -> Made:
    """Case 15: an example is a node of one graph, which lies in the module."""

    def forward(net: Any, ids: Tensor) -> Tensor:
        h = torch.relu(net.links @ net.a(net.x))
        return (net.links @ net.b(h))[ids]

    links = torch.eye(B).roll(1, 0) + torch.eye(B)
    layers = {"links": links, "x": torch.randn(B, 5, generator=g), "a": nn.Linear(5, 6), "b": nn.Linear(6, C)}
    return Wrapped(forward, **layers), torch.arange(B)


def molecule(g: torch.Generator) -> Made:
    """An example is a small graph of its own: nodes and an adjacency matrix."""

    def forward(net: Any, x: Tensor, links: Tensor) -> Tensor:
        h = torch.relu(links @ net.a(x))
        return net.b((links @ h).sum(1))

    links = (torch.rand(B, 5, 5, generator=g) < 0.4).float()
    return Wrapped(forward, a=nn.Linear(D, 6), b=nn.Linear(6, C)), (vectors(g, 5, D), links)


def scattered(g: torch.Generator) -> Made:
    """Messages along edges of every example's graph, by index_add over all nodes of the batch."""

    def forward(net: Any, x: Tensor, edges: Tensor) -> Tensor:
        b, v, d = x.shape
        start = (torch.arange(b) * v)[:, None]
        source, goal = ((edges[..., k] + start).flatten() for k in (0, 1))
        h = net.a(x.reshape(b * v, d))
        h = torch.tanh(torch.zeros_like(h).index_add(0, goal, h[source]))
        return net.b(h.view(b, v, -1).mean(1))

    edges = torch.randint(0, 5, (B, 7, 2), generator=g)
    return Wrapped(forward, a=nn.Linear(D, 6), b=nn.Linear(6, C)), (vectors(g, 5, D), edges)


def in_context(g: torch.Generator) -> Made:
    """Examples feel each other: attention across the batch. To be refused."""

    def forward(net: Any, x: Tensor) -> Tensor:
        q, k, v = net.a(x).chunk(3, -1)
        return net.b((q @ k.T / 3).softmax(-1) @ v)

    return Wrapped(forward, a=nn.Linear(D, 24), b=nn.Linear(8, C)), vectors(g)


def centred(g: torch.Generator) -> Made:
    return Wrapped(lambda n, x: n.b(n.a(x) - n.a(x).mean(0)), a=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(
        g
    )


def centred_when_large(g: torch.Generator) -> Made:
    """Statistics of the batch where it has more than four rows. To be refused."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        return net.b(h - h.mean(0) if len(h) > 4 else h)

    return Wrapped(forward, a=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(g)


def scaled_by_largest(g: torch.Generator) -> Made:
    """A branch on the largest number of the batch. To be refused."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        return net.b(h * 2 if float(x.max()) > 2.0 else h)

    return Wrapped(forward, a=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(g)


# --- parameters of other kinds ---


def fourier(g: torch.Generator) -> Made:
    """Case 10: a Fourier layer with complex weights."""

    def forward(net: Any, x: Tensor) -> Tensor:
        modes = torch.einsum("bik,iok->bok", torch.fft.rfft(x)[:, :, :4], net.w)
        return net.h(torch.fft.irfft(modes, n=8).flatten(1))

    w = nn.Parameter(torch.randn(2, 3, 4, dtype=torch.cfloat, generator=g) * 0.3)
    return Wrapped(forward, w=w, h=nn.Linear(24, C)), vectors(g, 2, 8)


def complex_layer(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        z = F.linear(x.to(torch.cfloat), net.w) * net.phase
        return net.h(torch.cat([z.real, z.imag], 1))

    w = nn.Parameter(torch.randn(6, D, dtype=torch.cfloat, generator=g) * 0.3)
    phase = nn.Parameter(torch.randn(6, dtype=torch.cfloat, generator=g))
    return Wrapped(forward, w=w, phase=phase, h=nn.Linear(12, C)), vectors(g)


def temperature(g: torch.Generator) -> Made:
    return Wrapped(lambda n, x: n.a(x) * n.t, a=nn.Linear(D, C), t=nn.Parameter(torch.tensor(1.3))), vectors(
        g
    )


def rezero(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(x + net.t * torch.tanh(net.a(x)))

    return Wrapped(forward, a=nn.Linear(D, D), b=nn.Linear(D, C), t=nn.Parameter(torch.tensor(0.1))), vectors(
        g
    )


def sparse_table(g: torch.Generator) -> Made:
    return Wrapped(
        lambda n, i: n.b(n.e(i).mean(1)), e=nn.Embedding(20, 8, sparse=True), b=nn.Linear(8, C)
    ), tokens(g)


def bag(g: torch.Generator) -> Made:
    return Wrapped(
        lambda n, i: n.b(n.e(i)), e=nn.EmbeddingBag(20, 8, mode="mean"), b=nn.Linear(8, C)
    ), tokens(g)


def hyper(g: torch.Generator) -> Made:
    """A network whose weights another network makes, for every example."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return torch.bmm(net.a(x).view(-1, C, D), x[..., None])[..., 0]

    return Wrapped(forward, a=nn.Linear(D, C * D)), vectors(g)


def shared_weights(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(torch.tanh(F.linear(torch.tanh(net.a(x)), net.a.weight.T)))

    return Wrapped(forward, a=nn.Linear(D, 5), b=nn.Linear(D, C)), vectors(g)


def weight_squared(g: torch.Generator) -> Made:
    return Wrapped(lambda n, x: F.linear(x, n.a.weight.square()) + n.a.bias, a=nn.Linear(D, C)), vectors(g)


def parametrised(which: Callable[[nn.Linear], nn.Module]) -> Callable[[torch.Generator], Made]:
    def make(g: torch.Generator) -> Made:
        return nn.Sequential(which(nn.Linear(D, 12)), nn.Tanh(), nn.Linear(12, C)), vectors(g)

    return make


class Halved(torch.autograd.Function):
    """A function of the user's own whose backward is not its derivative (a straight-through estimator)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient * 0.5


def straight_through(g: torch.Generator) -> Made:
    return Wrapped(lambda n, x: n.b(Halved.apply(n.a(x))), a=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(g)


def quantised(g: torch.Generator) -> Made:
    """A table of codes; every row takes the nearest (straight-through)."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        code = net.codes[torch.cdist(h, net.codes).argmin(1)]
        return net.b(h + (code - h).detach() + code - code.detach())

    codes = nn.Parameter(torch.randn(16, 6, generator=g))
    return Wrapped(forward, a=nn.Linear(D, 6), codes=codes, b=nn.Linear(6, C)), vectors(g)


def implicit(g: torch.Generator) -> Made:
    """A fixed point, found by iterating until the batch has settled."""

    def forward(net: Any, x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        for _ in range(12):
            z = torch.tanh(0.5 * net.a(z) + x)
        return net.b(z)

    return Wrapped(forward, a=nn.Linear(D, D), b=nn.Linear(D, C)), vectors(g)


# --- dense and sequential ---


def plain(*layers: Callable[[], nn.Module], inputs: Callable[[torch.Generator], Any] = vectors) -> Any:
    return lambda g: (nn.Sequential(*(layer() for layer in layers)), inputs(g))


def mlp(act: Callable[[], nn.Module], norm: Callable[[], nn.Module] = nn.Identity) -> Any:
    return plain(lambda: nn.Linear(D, 16), norm, act, lambda: nn.Linear(16, C))


def recurrent(kind: type[nn.RNNBase], **settings: Any) -> Callable[[torch.Generator], Made]:
    def make(g: torch.Generator) -> Made:
        width = 5 * (2 if settings.get("bidirectional") else 1)
        net = Wrapped(
            lambda n, i: n.h(n.r(n.e(i))[0].mean(1)), e=nn.Embedding(20, 6), r=kind(6, 5, batch_first=True, **settings),
            h=nn.Linear(width, C),
        )  # fmt: skip
        return net, tokens(g)

    return make


def cell_loop(g: torch.Generator) -> Made:
    def forward(net: Any, ids: Tensor) -> Tensor:
        h = torch.zeros(len(ids), 5)
        for step in net.e(ids).unbind(1):
            h = net.r(step, h)
        return net.h(h)

    return Wrapped(forward, e=nn.Embedding(20, 6), r=nn.GRUCell(6, 5), h=nn.Linear(5, C)), tokens(g)


def sequence_first(g: torch.Generator) -> Made:
    def forward(net: Any, ids: Tensor) -> Tensor:
        x = net.e(ids).transpose(0, 1)
        return net.h(net.r(x)[0].mean(0))

    return Wrapped(forward, e=nn.Embedding(20, 6), r=nn.LSTM(6, 5), h=nn.Linear(5, C)), tokens(g)


def transformer(**settings: Any) -> Callable[[torch.Generator], Made]:
    def make(g: torch.Generator) -> Made:
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, **settings)
        net = Wrapped(
            lambda n, i: n.h(n.l(n.e(i) + n.p).mean(1)), e=nn.Embedding(20, 8),
            p=nn.Parameter(torch.randn(1, T, 8, generator=g)), l=layer, h=nn.Linear(8, C),
        )  # fmt: skip
        return net, tokens(g)

    return make


def attention_padded(g: torch.Generator) -> Made:
    def forward(net: Any, ids: Tensor) -> Tensor:
        x = net.e(ids)
        x = net.m(x, x, x, key_padding_mask=ids == 0, need_weights=False)[0]
        real = (ids != 0)[..., None]
        return net.h((x * real).sum(1) / real.sum(1))

    return Wrapped(
        forward, e=nn.Embedding(20, 8), m=nn.MultiheadAttention(8, 2, batch_first=True), h=nn.Linear(8, C)
    ), ragged(g)


def convolved(*layers: Callable[[], nn.Module], channels: int = 6) -> Any:
    return plain(
        *layers, lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, lambda: nn.Linear(channels, C),
        inputs=lambda g: vectors(g, 2, 7, 7),
    )  # fmt: skip


def residual(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        h = F.relu(net.n(net.a(x)))
        return net.h((h + net.b(h)).mean((2, 3)))

    layers = {
        "a": nn.Conv2d(2, 6, 3),
        "n": nn.BatchNorm2d(6),
        "b": nn.Conv2d(6, 6, 3, padding=1),
        "h": nn.Linear(6, C),
    }
    return Wrapped(forward, **layers), vectors(g, 2, 7, 7)


def patches(g: torch.Generator) -> Made:
    """A vision transformer."""

    def forward(net: Any, x: Tensor) -> Tensor:
        x = net.a(x).flatten(2).transpose(1, 2)
        x = torch.cat([net.start.expand(len(x), -1, -1), x], 1) + net.p
        return net.h(net.l(x)[:, 0])

    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    start, place = (
        nn.Parameter(torch.randn(1, 1, 8, generator=g)),
        nn.Parameter(torch.randn(1, 10, 8, generator=g)),
    )
    layers = {"a": nn.Conv2d(2, 8, 2, 2), "start": start, "p": place, "l": layer, "h": nn.Linear(8, C)}
    return Wrapped(forward, **layers), vectors(g, 2, 6, 6)


def mixer(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        x = x + net.t(x.transpose(1, 2)).transpose(1, 2)
        return net.h((x + net.c(x)).mean(1))

    return Wrapped(forward, t=nn.Linear(5, 5), c=nn.Linear(D, D), h=nn.Linear(D, C)), vectors(g, 5, D)


def state_space(g: torch.Generator) -> Made:
    """A diagonal linear recurrence, step by step."""

    def forward(net: Any, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 6)
        for step in net.a(x).unbind(1):
            h = torch.sigmoid(net.decay) * h + step
        return net.h(h)

    decay = nn.Parameter(torch.randn(6, generator=g))
    return Wrapped(forward, a=nn.Linear(D, 6), decay=decay, h=nn.Linear(6, C)), vectors(g, 5, D)


def factorised(g: torch.Generator) -> Made:
    """A factorisation machine on tables of features."""

    def forward(net: Any, ids: Tensor) -> Tensor:
        v = net.e(ids)
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1))
        return net.h(pairs) + net.w(ids).sum(1)

    return Wrapped(forward, e=nn.Embedding(20, 6), w=nn.Embedding(20, C), h=nn.Linear(6, C)), tokens(g)


def two_towers(g: torch.Generator) -> Made:
    def forward(net: Any, left: Tensor, right: Tensor) -> Tensor:
        return net.h(net.a(left) * net.b(right))

    return Wrapped(forward, a=nn.Linear(D, 6), b=nn.Linear(D, 6), h=nn.Linear(6, C)), {
        "left": vectors(g),
        "right": vectors(g),
    }


def einsum_layer(g: torch.Generator) -> Made:
    w = nn.Parameter(torch.randn(D, 2, 4, generator=g))
    return Wrapped(
        lambda n, x: n.h(torch.einsum("bd,dhk->bhk", x, n.w).flatten(1)), w=w, h=nn.Linear(8, C)
    ), vectors(g)


def in_place(g: torch.Generator) -> Made:
    def forward(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        h += 1
        h[:, 0] = 0
        return net.b(F.relu(h, inplace=True))

    return Wrapped(forward, a=nn.Linear(D, 8), b=nn.Linear(8, C)), vectors(g)


def rotary(g: torch.Generator) -> Made:
    def forward(net: Any, ids: Tensor) -> Tensor:
        x = net.e(ids)
        angle = torch.arange(T)[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03])
        a, b = x.chunk(2, -1)
        x = torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)
        q, k, v = net.a(x).chunk(3, -1)
        return net.h(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, -1])

    return Wrapped(forward, e=nn.Embedding(20, 8), a=nn.Linear(8, 24), h=nn.Linear(8, C)), tokens(g)


def hugging_face(name: str, **settings: Any) -> Callable[[torch.Generator], Made]:
    """A family's classifier, tiny, on token ids without and (``mask``) with padding."""

    def make(g: torch.Generator) -> Made:
        import transformers

        mask = settings.get("mask", False)
        sizes = {
            "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
            "n_embd": 16, "n_layer": 2, "n_head": 2, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "d_model": 16,
            "num_labels": C, "max_position_embeddings": 32, "n_positions": 32, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "num_key_value_heads": 1, "embedding_size": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        }  # fmt: skip
        config_class = getattr(transformers, f"{name}Config")
        known = config_class().to_dict()
        alias = getattr(config_class, "attribute_map", {})
        config = config_class(**{key: value for key, value in sizes.items() if key in known or key in alias})
        config.num_labels = C
        module = getattr(transformers, f"{name}ForSequenceClassification")(config)
        ids = ragged(g) if mask else tokens(g)
        inputs = {"input_ids": ids}
        return module, inputs | ({"attention_mask": (ids != 0).long()} if mask else {})

    return make


def adapters(g: torch.Generator) -> Made:
    from peft import LoraConfig, get_peft_model

    module, inputs = hugging_face("Llama")(g)
    torch.manual_seed(0)
    adapted = get_peft_model(
        module, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    return adapted, inputs


_ACTIVATIONS = (
    nn.ReLU,
    nn.Tanh,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.ELU,
    nn.Softplus,
    nn.Mish,
    nn.Hardswish,
    nn.PReLU,
    nn.LogSigmoid,
)
_NORMS: dict[str, Callable[[], nn.Module]] = {
    "LayerNorm": lambda: nn.LayerNorm(16), "BatchNorm1d": lambda: nn.BatchNorm1d(16), "RMSNorm": lambda: nn.RMSNorm(16),
    "GroupNorm": lambda: nn.GroupNorm(4, 16),
}  # fmt: skip
_CONVOLUTIONS: dict[str, Any] = {
    "plain": convolved(lambda: nn.Conv2d(2, 6, 3), nn.ReLU),
    "strided, dilated": convolved(lambda: nn.Conv2d(2, 6, 3, stride=2, padding=2, dilation=2), nn.ReLU),
    "grouped": convolved(lambda: nn.Conv2d(2, 6, 3, groups=2), nn.ReLU),
    "depthwise": convolved(lambda: nn.Conv2d(2, 6, 1), lambda: nn.Conv2d(6, 6, 3, groups=6), nn.ReLU),
    "transposed": convolved(lambda: nn.ConvTranspose2d(2, 6, 3, stride=2), nn.ReLU),
    "batch norm": convolved(lambda: nn.Conv2d(2, 6, 3), lambda: nn.BatchNorm2d(6), nn.ReLU),
    "group norm": convolved(lambda: nn.Conv2d(2, 6, 3), lambda: nn.GroupNorm(2, 6), nn.ReLU),
    "instance norm": convolved(
        lambda: nn.Conv2d(2, 6, 3), lambda: nn.InstanceNorm2d(6, affine=True), nn.ReLU
    ),
    "max pool": convolved(lambda: nn.Conv2d(2, 6, 3), lambda: nn.MaxPool2d(2), nn.ReLU),
    "circular": convolved(lambda: nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"), nn.ReLU),
    "same": convolved(lambda: nn.Conv2d(2, 6, 3, padding="same"), nn.ReLU),
    "pixel shuffle": convolved(lambda: nn.Conv2d(2, 24, 3), lambda: nn.PixelShuffle(2), nn.ReLU),
}
_HF = ("Bert", "DistilBert", "Roberta", "Electra", "Albert", "GPT2", "Llama", "Qwen2", "Mistral", "Gemma", "OPT", "GPTNeoX", "Phi", "Bloom", "XLNet", "DebertaV2", "MPNet", "Funnel")  # fmt: skip

DATA_DEPENDENT: dict[str, Callable[[torch.Generator], Made]] = {
    "mixture of experts, rows, top 1": moe_rows(1),
    "mixture of experts, rows, top 2": moe_rows(2),
    "mixture of experts, tokens, top 1": moe_tokens(1),
    "mixture of experts, tokens, top 2": moe_tokens(2),
    "mixture of experts, by sign": moe_by_sign,
    "mixture of experts, masked": moe_masked,
    "mixture of experts, grouped": moe_grouped,
    "mixture of experts, by mask": moe_capacity,
    "early exit": early_exit,
    "branch for missing values": missing_branch,
    "depth by row": deeper_for_some,
    "loop over rows": row_loop,
    "forward in pieces": in_pieces,
    "packed LSTM": packed(nn.LSTM),
    "packed GRU": packed(nn.GRU),
    "packed RNN, two layers": packed(nn.RNN, num_layers=2),
    "unpadded tokens": unpadded,
    "sorted by length": sorted_by_length,
    "permuted inside": shuffled_inside,
    "trimmed to the longest": trimmed,
    "last token": last_token,
    "nodes of one graph": nodes,
    "graphs of their own": molecule,
    "messages along edges": scattered,
    "vector quantisation": quantised,
}
REFUSED: dict[str, Callable[[torch.Generator], Made]] = {
    "attention across the batch": in_context,
    "centred on the batch": centred,
    "centred on large batches": centred_when_large,
    "scaled by the largest of the batch": scaled_by_largest,
}
ZOO: dict[str, Callable[[torch.Generator], Made]] = {
    **DATA_DEPENDENT,
    **REFUSED,
    "Mixtral": hf_mixtral,
    "complex Fourier layer": fourier,
    "complex linear layer": complex_layer,
    "temperature": temperature,
    "ReZero": rezero,
    "sparse table": sparse_table,
    "bag of embeddings": bag,
    "hypernetwork": hyper,
    "tied and transposed": shared_weights,
    "weight squared": weight_squared,
    "weight norm": parametrised(nn.utils.parametrizations.weight_norm),
    "spectral norm": parametrised(nn.utils.parametrizations.spectral_norm),
    "orthogonal": parametrised(nn.utils.parametrizations.orthogonal),
    "straight-through": straight_through,
    "fixed point": implicit,
    **{f"MLP {act.__name__}": mlp(act) for act in _ACTIVATIONS},
    **{f"MLP {name}": mlp(nn.ReLU, norm) for name, norm in _NORMS.items()},
    "MLP, no bias": plain(
        lambda: nn.Linear(D, 16, bias=False), nn.ReLU, lambda: nn.Linear(16, C, bias=False)
    ),
    "MLP, deep": plain(*[lambda: nn.Linear(D, D), nn.Tanh] * 6, lambda: nn.Linear(D, C)),
    "linear": plain(lambda: nn.Linear(D, C)),
    "bilinear": lambda g: (Wrapped(lambda n, x: n.a(x, x), a=nn.Bilinear(D, D, C)), vectors(g)),
    "einsum": einsum_layer,
    "LSTM": recurrent(nn.LSTM),
    "LSTM, both ways": recurrent(nn.LSTM, bidirectional=True),
    "GRU": recurrent(nn.GRU),
    "GRU, two layers": recurrent(nn.GRU, num_layers=2),
    "RNN": recurrent(nn.RNN),
    "GRU cell in a loop": cell_loop,
    "LSTM, sequence first": sequence_first,
    "transformer": transformer(),
    "transformer, norm first": transformer(norm_first=True),
    "transformer, GELU": transformer(activation="gelu"),
    "attention with padding": attention_padded,
    "rotary attention": rotary,
    **{f"convolution, {name}": make for name, make in _CONVOLUTIONS.items()},
    "residual network": residual,
    "vision transformer": patches,
    "MLP mixer": mixer,
    "linear recurrence": state_space,
    "factorisation machine": factorised,
    "two towers": two_towers,
    "in-place": in_place,
    **{f"{name}": hugging_face(name) for name in _HF},
    **{f"{name}, padded": hugging_face(name, mask=True) for name in _HF},
    "Llama with LoRA": adapters,
}
