"""Methods that run the network, each against a twin: slow, literal, one entry at a time, on a network by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest

from cam_onnx.errors import InputError
from cam_onnx.methods import METHODS, saliency, weights
from cam_onnx.methods.baseline import blurred
from cam_onnx.methods.saliency import apply
from cam_onnx.render.upsample import upsample
from tests.methods.networks import Network
from tests.methods.test_gradient import PLAIN
from tests.methods.test_gradient import TWINS as PLAIN_TWINS

SPACES = [(6,), (4, 5), (2, 3, 2)]
CHANNELS, MAPS = 2, 3
TWINS: dict[str, Callable] = {}


class Setting:
    """A picture, a layer of half its size, a network from the picture and one from the layer."""

    def __init__(self, space, seed=0):
        rng = np.random.default_rng(seed)
        self.space = space
        self.x = rng.normal(size=(CHANNELS, *space))
        self.coarse = tuple(-(-n // 2) for n in space)
        self.A, self.g = rng.normal(size=(2, MAPS, *self.coarse))
        self.network = Network(CHANNELS, *space, seed=seed)
        self.behind = Network(MAPS, *self.coarse, seed=seed + 1)
        self.guided = rng.normal(size=self.x.shape)
        tokens = 2 + int(np.prod(self.coarse))
        self.attention = rng.dirichlet(np.ones(tokens), size=(3, 1, 2, tokens))
        self.attention_gradients = rng.normal(size=self.attention.shape)
        self.mix = rng.normal(size=(MAPS, CHANNELS))

    def layer(self, x):
        """The layer's activations and gradients of a picture: smooth in it, and cheap."""
        small = x[(slice(None), *(slice(None, None, 2) for _ in self.space))]
        A = np.tanh(np.tensordot(self.mix, small, axes=1))
        return A, A**2 - 0.3 * A

    def given(self, name):
        needs = {
            "activations": self.A[None],
            "gradients": self.g[None],
            "image": self.x[None],
            "image_gradients": self.network.gradient(self.x)[None],
            "guided": self.guided[None],
            "attention": self.attention,
            "attention_gradients": self.attention_gradients,
            "early_gradients": self.attention_gradients,
            "biases": [self.A[None] * self.g[None], self.g[None, :, ..., :1].reshape(1, -1), self.x[None] * 0 + 0.3],
            "forward": self.network.scores,
            "backward": self.network.gradients,
            "head": self.behind.scores,
            "probe": lambda variants, count: map(self.layer, variants),
            "curvature": self.behind.curvature(self.A),
        }
        if name == "smooth-grad-cam++":
            needs["activations"] = self.layer(self.x)[0][None]
        return {need: needs[need] for need in METHODS[name].needs}

    def map(self, name, **options):
        return apply(METHODS[name], **self.given(name), **options).saliency[0]


def twin_of(name, **options):
    return lambda function: TWINS.setdefault(name, (function, options))[0]


def weighted(alpha, A):
    return sum(a * A[k] for k, a in enumerate(alpha))


@twin_of("ablation-cam")
def ablation_cam(s):
    y, lost = s.behind.score(s.A), []
    for k in range(MAPS):
        without = s.A.copy()
        without[k] = 0
        lost.append(y - s.behind.score(without))
    below = max(abs(y), 0.01 * max(map(abs, lost)))
    return weighted([d / below for d in lost], s.A)


@twin_of("recipro-cam")
def recipro_cam(s):
    M = np.zeros(s.coarse)
    for p in np.ndindex(s.coarse):
        alone = np.zeros_like(s.A)
        for k in range(MAPS):
            alone[(k, *p)] = s.A[(k, *p)]
        M[p] = s.behind.score(alone)
    return M


@twin_of("vit-recipro-cam")
def vit_recipro_cam(s):
    M = np.zeros(s.coarse)
    for p in np.ndindex(s.coarse):
        around = np.zeros_like(s.A)
        for q in np.ndindex(s.coarse):
            share = math.prod({0: 1 / 2, 1: 1 / 4}.get(abs(a - b), 0) for a, b in zip(p, q, strict=True))
            for k in range(MAPS):
                around[(k, *q)] = share * s.A[(k, *q)]
        M[p] = s.behind.score(around)
    return M


def stretched(m):
    return (m - m.min()) / (m.max() - m.min())


def softmax(scores):
    return [math.exp(v) / sum(math.exp(w) for w in scores) for v in scores]


@twin_of("score-cam")
def score_cam(s):
    y = [s.network.score(s.x * stretched(upsample(s.A[k], s.space))) for k in range(MAPS)]
    y0 = s.network.score(0 * s.x)
    return weighted(softmax([v - y0 for v in y]), s.A)


@twin_of("ss-cam", samples=3, noise=0.2, seed=5)
def ss_cam(s):
    rng, y = np.random.default_rng(5), []
    for k in range(MAPS):
        total = 0
        for _ in range(3):
            noisy = s.A[k] + 0.2 * (s.A[k].max() - s.A[k].min()) * rng.standard_normal(s.coarse)
            total += s.network.score(s.x * stretched(upsample(noisy, s.space)))
        y.append(total / 3)
    return weighted(softmax(y), s.A)


@twin_of("is-cam", steps=4)
def is_cam(s):
    y = []
    for k in range(MAPS):
        m = stretched(upsample(s.A[k], s.space))
        y.append(sum(s.network.score(s.x * m * i / 4) for i in (1, 2, 3, 4)) / 4)
    return weighted(softmax(y), s.A)


@twin_of("occlusion", window=0.5, stride=0.25, baseline="mean")
def occlusion(s):
    y = s.network.score(s.x)
    sides = [max(1, round(0.5 * n)) for n in s.space]
    steps = [max(1, round(0.25 * n)) for n in s.space]
    drops = {p: [] for p in np.ndindex(s.space)}
    corners = [
        c for c in np.ndindex(s.space)
        if all(a + b <= n and (a % d == 0 or a + b == n) for a, b, d, n in zip(c, sides, steps, s.space, strict=True))
    ]  # fmt: skip
    for corner in corners:
        inside = [p for p in drops if all(a <= q < a + b for a, b, q in zip(corner, sides, p, strict=True))]
        covered = s.x.copy()
        for p in inside:
            for c in range(CHANNELS):
                covered[(c, *p)] = s.x[c].mean()
        for p in inside:
            drops[p].append(y - s.network.score(covered))
    return np.reshape([sum(d) / len(d) for d in drops.values()], s.space)


@twin_of("d-rise", masks=5, grid=3, keep=0.4, seed=2)
@twin_of("rise", masks=5, grid=3, keep=0.4, seed=2)
def rise(s):
    rng, M = np.random.default_rng(2), np.zeros(s.space)
    for _ in range(5):
        cells = [-(-n // 3) for n in s.space]
        coarse = (rng.random([4] * len(s.space)) < 0.4).astype(np.float32)
        shift = [int(rng.integers(c)) for c in cells]
        whole = upsample(coarse, [4 * c for c in cells])
        m = whole[tuple(slice(a, a + n) for a, n in zip(shift, s.space, strict=True))]
        M += s.network.score(s.x * m) * m
    return M / (5 * 0.4)


@twin_of("gradient")
def gradient(s):
    return sum(s.network.gradient(s.x)[c] for c in range(CHANNELS))


@twin_of("input-x-gradient")
def input_x_gradient(s):
    return sum(s.x[c] * s.network.gradient(s.x)[c] for c in range(CHANNELS))


def noisy_gradients(s):
    rng = np.random.default_rng(3)
    deviation = 0.2 * (s.x.max() - s.x.min())
    return [s.network.gradient(s.x + deviation * rng.standard_normal(s.x.shape)) for _ in range(4)]


NOISY = {"samples": 4, "noise": 0.2, "seed": 3}


@twin_of("smooth-grad", **NOISY)
def smooth_grad(s):
    return (sum(noisy_gradients(s)) / 4).sum(axis=0)


@twin_of("smooth-grad-squared", **NOISY)
def smooth_grad_squared(s):
    return (sum(g**2 for g in noisy_gradients(s)) / 4).sum(axis=0)


@twin_of("var-grad", **NOISY)
def var_grad(s):
    gs = noisy_gradients(s)
    mean = sum(gs) / 4
    return (sum((g - mean) ** 2 for g in gs) / 4).sum(axis=0)


@twin_of("integrated-gradients", steps=40)
def integrated_gradients(s):
    """By 4000 rectangles where the method has 40 nodes."""
    n = 4000
    total = sum(s.network.gradient(s.x * (i + 0.5) / n) for i in range(n)) / n
    return (s.x * total).sum(axis=0)


@twin_of("expected-gradients", samples=3, seed=1, references="set")
def expected_gradients(s):
    rng, R = np.random.default_rng(1), references(s)
    which = rng.integers(len(R), size=3)
    where = (rng.permutation(3) + rng.random(3)) / 3
    total = 0
    for i, t in zip(which, where, strict=True):
        total += (s.x - R[i]) * s.network.gradient(R[i] + t * (s.x - R[i]))
    return (total / 3).sum(axis=0)


def references(s):
    return np.random.default_rng(9).normal(size=(4, *s.x.shape))


@twin_of("blur-integrated-gradients", steps=6, blur=0.3)
def blur_integrated_gradients(s):
    sigma = [0.3 * max(s.space) * (1 - i / 6) ** 2 for i in range(7)]
    x, total = [blurred(s.x, v) for v in sigma], 0
    for i in range(6):
        total += (x[i + 1] - x[i]) * s.network.gradient((x[i] + x[i + 1]) / 2)
    return total.sum(axis=0)


@twin_of("guided-integrated-gradients", steps=5, share=0.4, anchors=0.3)
def guided_integrated_gradients(s):
    """Entry by entry: those of the smallest gradient go as far as the bounds let them, while the step has length."""
    target, at = s.x.reshape(-1), np.zeros(s.x.size)
    total, length = np.zeros(s.x.size), np.abs(s.x).sum()
    for step in range(1, 6):
        g = s.network.gradient(at.reshape(s.x.shape)).reshape(-1)
        low, high, left = max(step / 5 - 0.3, 0), min(step / 5 + 0.3, 1), length * (1 - step / 5)
        part = [max(at[i] / target[i], low) for i in range(len(at))]
        while True:
            current = sum(abs(target[i]) * (1 - part[i]) for i in range(len(at)))
            free = [i for i in range(len(at)) if part[i] < high]
            if current <= left or not free:
                break
            order = sorted(abs(g[i]) for i in free)
            limit = order[math.ceil(0.4 * (len(order) - 1))]
            moving = [i for i in free if abs(g[i]) <= limit]
            room = sum(abs(target[i]) * (high - part[i]) for i in moving)
            share = min(1, (current - left) / room)
            for i in moving:
                part[i] += (high - part[i]) * share
            if share < 1:
                break
            for i in moving:
                part[i] = high
        now = np.array(part) * target
        total += (now - at) * g
        at = now
    return total.reshape(s.x.shape).sum(axis=0)


@twin_of("smooth-grad-cam++", samples=3, noise=0.1, seed=4)
def smooth_grad_cam_plus_plus(s):
    rng, seen = np.random.default_rng(4), []
    deviation = 0.1 * (s.x.max() - s.x.min())
    for _ in range(3):
        seen.append(s.layer(s.x + deviation * rng.standard_normal(s.x.shape)))
    clean = s.layer(s.x)[0]
    M = np.zeros(s.coarse)
    for k in range(MAPS):
        places = list(np.ndindex(s.coarse))
        whole = sum(A[k][p] for A, _ in seen for p in places) / 3
        alpha = 0
        for p in places:
            g1, g2, g3 = (sum(g[k][p] ** power for _, g in seen) / 3 for power in (1, 2, 3))
            alpha += g2 / (2 * g2 + whole * g3) * max(g1, 0)
        M += alpha * clean[k]
    return M


@twin_of("shapley-cam")
def shapley_cam(s):
    """The Hessian by differences of the gradient along A."""
    step = 1e-5
    HA = (s.behind.gradient(s.A + step * s.A) - s.behind.gradient(s.A - step * s.A)) / (2 * step)
    return weighted([(s.g[k] - HA[k] / 2).mean() for k in range(MAPS)], s.A)


@twin_of("finer-cam")
def finer_cam(s):
    return np.reshape([PLAIN_TWINS["grad-cam"](s.A, s.g, p) for p in np.ndindex(s.coarse)], s.coarse)


@twin_of("guided-backprop")
def guided_backprop(s):
    return sum(s.network.gradient(s.x)[c] for c in range(CHANNELS))  # what the table does: tests/graph/test_tables.py


@twin_of("deconvnet")
def deconvnet(s):
    return sum(s.network.gradient(s.x)[c] for c in range(CHANNELS))


@twin_of("lrp", composite="epsilon")
def lrp(s):
    return sum(
        s.network.gradient(s.x)[c] for c in range(CHANNELS)
    )  # what the table does: tests/graph/test_relevance.py


@twin_of("attention-rollout")
def attention_rollout(s):
    """By paths: how much of a position arrives at the class token, going back through the layers."""
    return rolled_out(s, lambda at, i, j: ((i == j) + sum(P[i, j] for P in s.attention[at][0]) / 2) / 2)


@twin_of("grad-rollout")
def grad_rollout(s):
    def share(at, i, j):
        heads = zip(s.attention[at][0], s.attention_gradients[at][0], strict=True)
        return (i == j) + sum(max(P[i, j] * g[i, j], 0) for P, g in heads) / 2

    return rolled_out(s, share)


@twin_of("legrad")
def legrad(s):
    """The class token's row: what more attention to a position would add, heads and layers one by one."""
    layers, heads, tokens = len(s.attention_gradients), 2, s.attention.shape[-1]
    added = [0.0] * tokens
    for of_layer in s.attention_gradients:
        for of_head in of_layer[0]:
            for j in range(tokens):
                added[j] += max(of_head[0, j], 0) / (layers * heads)
    return np.reshape(added[2:], s.coarse)


def rolled_out(s, share):
    tokens = s.attention.shape[-1]
    arrived = [float(i == 0) for i in range(tokens)]
    for at in reversed(range(len(s.attention))):
        arrived = [sum(arrived[i] * share(at, i, j) for i in range(tokens)) for j in range(tokens)]
    return np.reshape(arrived[2:], s.coarse)


@twin_of("full-grad")
def full_grad(s):
    """The last of the setting's biases is one number everywhere, which says nothing; the one before has no place."""
    terms = [s.x * s.network.gradient(s.x), s.A * s.g]
    M = np.zeros(s.space)
    for term in terms:
        low, high = min(abs(v) for v in term.flat), max(abs(v) for v in term.flat)
        for channel in term:
            M += upsample((abs(channel) - low) / (high - low), s.space)
    return M


@twin_of("guided-grad-cam", base="layer-cam")
def guided_grad_cam(s):
    coarse = np.reshape([PLAIN_TWINS["layer-cam"](s.A, s.g, p) for p in np.ndindex(s.coarse)], s.coarse)
    return sum(s.guided[c] for c in range(CHANNELS)) * upsample(np.maximum(coarse, 0), s.space)


def test_every_method_that_runs_the_network_has_a_twin():
    assert set(METHODS) - set(PLAIN) - set(TWINS) == set()


@pytest.mark.parametrize("space", SPACES, ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", TWINS)
def test_the_map_is_the_papers(name, space):
    s = Setting(space)
    twin, options = TWINS[name]
    options = {**options, **({"references": references(s)} if "references" in options else {})}
    # differences and rectangles are no better than this; all else is exact
    rough = {"integrated-gradients": 1e-6, "shapley-cam": 1e-7, "rise": 1e-6, "d-rise": 1e-6}.get(name, 1e-10)
    expected = twin(s)
    np.testing.assert_allclose(s.map(name, **options), expected, rtol=rough, atol=rough * np.abs(expected).max())


# -- identities ------------------------------------------------------------------------------------------------------

NEUTRAL = [
    ("ss-cam", {"samples": 1, "noise": 0.0}, "score-cam"),
    ("is-cam", {"steps": 1}, "score-cam"),
    ("smooth-grad", {"samples": 1, "noise": 0.0}, "gradient"),
    ("smooth-grad", {"samples": 5, "noise": 0.0}, "gradient"),
]


@pytest.mark.parametrize(("name", "options", "base"), NEUTRAL, ids=str)
def test_an_option_at_its_neutral_value_gives_the_base_method(name, options, base):
    s = Setting((4, 5))
    np.testing.assert_allclose(s.map(name, **options), s.map(base), rtol=1e-12, atol=1e-12)


def test_without_noise_smooth_grad_cam_plus_plus_is_grad_cam_plus_plus():
    s = Setting((4, 5))
    A, g = s.layer(s.x)
    expected = saliency(A[None], g[None], "grad-cam++")[0]
    np.testing.assert_allclose(s.map("smooth-grad-cam++", samples=2, noise=0.0), expected, rtol=1e-10)


def test_without_noise_nothing_varies():
    assert np.abs(Setting((4, 5)).map("var-grad", noise=0.0)).max() < 1e-30


def test_integrated_gradients_are_complete_and_the_gap_shrinks_with_the_nodes():
    s = Setting((4, 5))
    wanted = s.network.score(s.x) - s.network.score(0 * s.x)
    gaps = [abs(s.map("integrated-gradients", steps=n).sum() - wanted) for n in (1, 3, 8, 20)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-10 < gaps[0]
    [note] = apply(METHODS["integrated-gradients"], **s.given("integrated-gradients"), steps=1).notes
    assert f"is {wanted:.5g}" in note
    assert "gap" in note


@pytest.mark.parametrize("name", ["blur-integrated-gradients", "guided-integrated-gradients"])
def test_a_path_is_complete_in_the_limit(name):
    s = Setting((4, 5))
    begin = blurred(s.x, 0.15 * 5) if name.startswith("blur") else 0 * s.x
    wanted = s.network.score(s.x) - s.network.score(begin)
    gaps = [abs(s.map(name, steps=n).sum() - wanted) for n in (5, 50, 500)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.01 * abs(wanted)


def test_guided_integrated_gradients_with_all_entries_at_once_go_straight():
    s, n = Setting((4, 5)), 7
    straight = sum(s.network.gradient(s.x * i / n) for i in range(n)) / n
    np.testing.assert_allclose(
        s.map("guided-integrated-gradients", steps=n, share=1.0, anchors=1.0), (s.x * straight).sum(axis=0), rtol=1e-9
    )


def test_expected_gradients_sum_to_the_difference_of_the_mean_score():
    s = Setting((4, 5))
    R = references(s)
    wanted = s.network.score(s.x) - np.mean([s.network.score(r) for r in R])
    found = s.map("expected-gradients", references=R, samples=4000).sum()
    assert found == pytest.approx(wanted, abs=0.05)


def test_shapley_cam_with_a_straight_head_is_grad_cam():
    s = Setting((4, 5))
    found = saliency(s.A[None], s.g[None], "shapley-cam", curvature=lambda direction: 0 * direction)
    np.testing.assert_array_equal(found, saliency(s.A[None], s.g[None], "grad-cam"))


def test_ablation_cams_closed_form_runs_nothing():
    s = Setting((4, 5))

    class Head:
        closed = 4.0, np.array([1.0, -2.0, 0.5])

        def __call__(self, variants, count):
            raise AssertionError("nothing is to be run")

    found = weights(s.A[None], method="ablation-cam", head=Head())
    np.testing.assert_allclose(found.reshape(-1), Head.closed[1] / 4)


def test_ablation_cam_near_a_score_of_zero_or_below_it_keeps_its_signs_and_stays_finite():
    s = Setting((4, 5))
    for score in (-3.0, 0.0, 1e-30):
        found = weights(s.A[None], method="ablation-cam", head=lambda v, n, y=score: iter([y, y - 1, y + 2, y]))
        assert np.isfinite(found).all()
        assert np.sign(found.reshape(-1)).tolist() == [1, -1, 0]


def test_a_constant_channel_is_no_mask():
    s = Setting((4, 5))
    s.A[1] = 0.7
    found = weights(s.A[None], method="score-cam", image=s.x[None], forward=s.network.scores).reshape(-1)
    assert found[1] == 0
    assert found.sum() == pytest.approx(1)


SEEDED = [name for name in TWINS if "seed" in METHODS[name].options]


@pytest.mark.parametrize("name", SEEDED)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(name):
    s = Setting((4, 5))
    options = {"references": references(s)} if "references" in METHODS[name].options else {}
    options |= {"masks": 20} if name == "rise" else {}
    first, again, other = (s.map(name, **options, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


ANYTIME = [name for name, entry in METHODS.items() if entry.anytime]


@pytest.mark.parametrize("name", ANYTIME)
def test_a_map_of_fewer_runs_is_finite(name):
    """Calls that end early: what came back is used, and nothing is divided by what did not come."""
    s = Setting((4, 5))
    given = s.given(name)
    for need in METHODS[name].calls:
        whole = given[need]
        given[need] = lambda variants, count, whole=whole: (
            r for r, _ in zip(whole(variants, count), range(2), strict=False)
        )
    options = {"references": references(s)} if "references" in METHODS[name].options else {}
    found = apply(METHODS[name], **given, **options).saliency
    assert np.isfinite(found).all()
    assert found.any()


@pytest.mark.parametrize("name", ["rise", "score-cam", "smooth-grad", "occlusion", "ss-cam"])
def test_variants_are_made_one_by_one(name):
    """A batch in front of the network holds three; no more than these and one are ever alive ahead of the scores."""
    s = Setting((4, 5))
    given, ahead = s.given(name), []
    [need] = METHODS[name].calls
    whole = given[need]

    def batched(variants, count):
        made = answered = 0
        source = iter(variants)
        while group := list(islice(source, 3)):
            made += len(group)
            ahead.append(made - answered)
            for result in whole(group, len(group)):
                answered += 1
                yield result

    given[need] = batched
    np.testing.assert_allclose(apply(METHODS[name], **given).saliency[0], s.map(name), rtol=1e-12)
    assert max(ahead) <= 3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("rise", {"masks": 0}, "option masks is 0, expected at least 1"),
        ("rise", {"keep": 1.0}, "keep is 1.0"),
        ("rise", {"mask": 3}, "no option 'mask'; did you mean 'masks'"),
        ("rise", {"masks": 2.5}, "option masks is '2.5', expected a whole number"),
        ("rise", {"masks": "many"}, "option masks is 'many', expected a whole number"),
        ("occlusion", {"baseline": "grey"}, "expected one of zero, mean, min, blur"),
        ("occlusion", {"window": 0}, "expected above 0"),
        ("smooth-grad", {"noise": -0.1}, "option noise is -0.1, expected at least 0"),
        ("smooth-grad", {"noise": float("nan")}, "option noise is nan"),
        ("expected-gradients", {}, "needs references"),
        ("expected-gradients", {"references": np.zeros((2, 2))}, "references have shape"),
        ("expected-gradients", {"references": "missing.npy"}, "cannot read 'missing.npy'"),
        ("guided-grad-cam", {"base": "score-cam"}, "expected a method of activations and gradients alone"),
        ("is-cam", {"steps": True}, "option steps is 'True', expected a whole number"),
    ],
)  # fmt: skip
def test_options_are_checked(name, options, words):
    with pytest.raises(InputError, match=words):
        Setting((4, 5)).map(name, **options)


def test_options_are_read_from_text_by_the_type_of_their_default():
    settle = METHODS["rise"].settle
    assert settle({"masks": "12", "keep": "0.25"}) == {"masks": 12, "keep": 0.25}
    assert settle({"keep": 1}) == {"keep": 1.0}


def test_a_method_that_runs_the_network_takes_one_sample():
    x = np.zeros((2, 1, 4, 4))
    with pytest.raises(InputError, match="takes one sample, got 2"):
        saliency(method="rise", image=x, forward=lambda v, n: iter([]))
