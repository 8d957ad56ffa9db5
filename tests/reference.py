"""A slow oracle in Python floats: loops over classes, enumeration of all 2^K masks.

It imports nothing from dropmax. One instance at a time: lists of K floats and a target index.
"""

import itertools
import math


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def xlogy(x, log_y):
    """x times log y, and 0 where x is 0."""
    return 0.0 if x == 0.0 else x * log_y


def weighted_softmax(logits, weights):
    """Probabilities proportional to weight times exponential."""
    shift = max(logits)
    masses = [w * math.exp(o - shift) for o, w in zip(logits, weights, strict=True)]
    return [mass / math.fsum(masses) for mass in masses]


def weighted_nll(logits, weights, target):
    """-log of the probability of the target among weighted exponentials."""
    shift = max(logits)
    total = math.fsum(w * math.exp(o - shift) for o, w in zip(logits, weights, strict=True))
    return math.log(total) + shift - logits[target] - math.log(weights[target])


def softmax_loss(logits, target, label_smoothing=0.0):
    ones = [1.0] * len(logits)
    losses = [weighted_nll(logits, ones, k) for k in range(len(logits))]
    uniform = math.fsum(losses) / len(losses)
    return (1.0 - label_smoothing) * losses[target] + label_smoothing * uniform


def sparsemax(logits):
    """Projection onto the simplex by bisection of the threshold."""
    low, high = max(logits) - 1.0, max(logits)
    for _ in range(200):
        middle = 0.5 * (low + high)
        if math.fsum(max(0.0, o - middle) for o in logits) > 1.0:
            low = middle
        else:
            high = middle
    return [max(0.0, o - 0.5 * (low + high)) for o in logits]


def sparsemax_loss(logits, target):
    """As the Fenchel-Young loss: max over p of <p, o> - |p|^2 / 2, plus 1/2, minus o_t."""
    probs = sparsemax(logits)
    value = math.fsum(p * o - 0.5 * p * p for p, o in zip(probs, logits, strict=True))
    return value + 0.5 - logits[target]


def sampled_softmax_loss(logits, target, noise, num_negatives, log_proposal):
    """The rivals with the largest Gumbel keys, drawn one after another."""
    rivals = [k for k in range(len(logits)) if k != target]
    keys = {k: log_proposal[k] - math.log(-math.log(noise[k])) for k in rivals}
    drawn = sorted(rivals, key=keys.__getitem__, reverse=True)[:num_negatives]
    corrected = {k: logits[k] - log_proposal[k] for k in [target, *drawn]}
    shift = max(corrected.values())
    total = math.fsum(math.exp(o - shift) for o in corrected.values())
    return math.log(total) + shift - corrected[target]


def class_dropout_loss(logits, target, noise, retain_prob):
    weights = [float(u > 1.0 - retain_prob or k == target) for k, u in enumerate(noise)]
    return weighted_nll(logits, weights, target)


def attention_loss(logits, retain_logits, target, floor):
    weights = [sigmoid(r) + floor for r in retain_logits]
    return weighted_nll(logits, weights, target)


def sigsoftmax_loss(logits, target):
    return weighted_nll(logits, [sigmoid(o) for o in logits], target)


def as_softmax_loss(logits, target, delta):
    probs = weighted_softmax(logits, [1.0] * len(logits))
    kept = [o for o, p in zip(logits, probs, strict=True) if not probs[target] - p >= delta]
    return log_sum(kept) - logits[target]


def one_vs_rest_loss(logits, target):
    return math.fsum(-log_sigmoid(o if k == target else -o) for k, o in enumerate(logits))


def bernoulli_kl(posterior_logits, prior_logits):
    kept = log_sigmoid(posterior_logits) - log_sigmoid(prior_logits)
    dropped = log_sigmoid(-posterior_logits) - log_sigmoid(-prior_logits)
    return xlogy(sigmoid(posterior_logits), kept) + xlogy(sigmoid(-posterior_logits), dropped)


def bernoulli_neg_entropy(logits):
    return xlogy(sigmoid(logits), log_sigmoid(logits)) + xlogy(
        sigmoid(-logits), log_sigmoid(-logits)
    )


def masked_nll(logits, posterior_logits, target, noise, temperature, floor, kind="relaxed"):
    """nll under one mask, the target retained."""
    weights = []
    for k, (g, u) in enumerate(zip(posterior_logits, noise, strict=True)):
        noisy = (g + math.log(u) - math.log1p(-u)) / temperature
        mask = {
            "relaxed": sigmoid(noisy),
            "straight_through": 1.0 if noisy > 0 else 0.0,
            "mean": sigmoid(g),
        }[kind]
        weights.append((1.0 if k == target else mask) + floor)
    return weighted_nll(logits, weights, target)


def dropmax_objective(
    logits,
    retain_logits,
    correction_logits,
    target,
    noise,
    *,
    temperature=0.1,
    floor=1e-20,
    aux_prior="label",
    masks="relaxed",
    plugin_share=0.0,
    plugin_focus=0.0,
    prior_copy=None,
):
    """(nll, kl, neg_entropy, aux) under noise of S samples, a list of S lists of K uniforms.

    `prior_copy` is the retain_logits that the posterior sees: held fixed, central differences in
    retain_logits give the gradient through everything but the posterior.
    """
    num_classes = len(logits)
    rivals = [k for k in range(num_classes) if k != target]
    prior_copy = retain_logits if prior_copy is None else prior_copy
    if correction_logits is None:
        posterior = retain_logits
        kl = -log_sigmoid(retain_logits[target])
        aux = 0.0
    else:
        posterior = [r + c for r, c in zip(prior_copy, correction_logits, strict=True)]
        kl = -log_sigmoid(retain_logits[target]) + math.fsum(
            bernoulli_kl(posterior[k], retain_logits[k]) for k in rivals
        )
        offset = 0.0
        if not isinstance(aux_prior, str):
            offset = -math.log(aux_prior / (1.0 - aux_prior))
        elif aux_prior == "base_rate" and num_classes > 1:
            offset = math.log(num_classes - 1)
        aux = -log_sigmoid(correction_logits[target] - offset) - math.fsum(
            log_sigmoid(offset - correction_logits[k]) for k in rivals
        )
    samples = [masked_nll(logits, posterior, target, u, temperature, floor, masks) for u in noise]
    nll = math.fsum(samples) / len(samples)
    p = plugin(logits, retain_logits, floor)[target]
    share = plugin_share * (1.0 - p) ** plugin_focus
    nll, kl, aux = ((1.0 - share) * term for term in (nll, kl, aux))
    nll -= share * math.log(p)
    neg_entropy = (1.0 - share) * math.fsum(bernoulli_neg_entropy(r) for r in retain_logits)
    return nll, kl, neg_entropy, aux


def label_objective(logits, retain_logits, target, floor):
    """(nll, kl, neg_entropy): the posterior is certain, the target retained and no rival."""
    kl = neg_entropy = 0.0
    for k, r in enumerate(retain_logits):
        kl -= log_sigmoid(r if k == target else -r)
        neg_entropy += bernoulli_neg_entropy(r)
    return attention_loss(logits, retain_logits, target, floor), kl, neg_entropy


def plugin(logits, retain_logits, floor):
    """Probabilities with the retain probability in place of the mask."""
    return weighted_softmax(logits, [sigmoid(r) + floor for r in retain_logits])


def masks(retain_logits):
    """All 2^K masks with their prior probabilities."""
    for mask in itertools.product((0, 1), repeat=len(retain_logits)):
        log_prob = math.fsum(
            log_sigmoid(r if z else -r) for z, r in zip(mask, retain_logits, strict=True)
        )
        yield mask, math.exp(log_prob)


def predictive(logits, retain_logits):
    """Means and variances over all hard masks of each class's probability."""
    num_classes = len(logits)
    mean, square = [0.0] * num_classes, [0.0] * num_classes
    for mask, prob in masks(retain_logits):
        weights = mask if any(mask) else (1,) * num_classes
        for k, p in enumerate(weighted_softmax(logits, weights)):
            mean[k] += prob * p
            square[k] += prob * p * p
    return mean, [s - m * m for s, m in zip(square, mean, strict=True)]


def log_sum(logs):
    """log of a sum of exponentials, -inf of nothing."""
    shift = max(logs, default=-math.inf)
    if shift == -math.inf:
        return -math.inf
    return shift + math.log(math.fsum(math.exp(x - shift) for x in logs))


def enumerate_masks(logits, retain_logits, target):
    """Everything exact by going through all 2^K hard masks, in logarithms.

    (log p of each class, log-odds of each z_k given the target, the same given z_target = 1,
    E log A, E_z H(y | z)).
    """
    num_classes = len(logits)
    classes = range(num_classes)
    joint, log_normalizer, entropy = [[] for _ in classes], [], []
    odds = [([], []) for _ in classes]
    odds_kept = [([], []) for _ in classes]
    for mask in itertools.product((0, 1), repeat=num_classes):
        log_prob = math.fsum(
            log_sigmoid(r if z else -r) for z, r in zip(mask, retain_logits, strict=True)
        )
        retained = [k for k in classes if mask[k]] or list(classes)
        log_total = log_sum([logits[k] for k in retained])
        log_normalizer.append(math.exp(log_prob) * log_total)
        terms = [math.exp(logits[k] - log_total) * (log_total - logits[k]) for k in retained]
        entropy.append(math.exp(log_prob) * math.fsum(terms))
        for k in retained:
            joint[k].append(log_prob + logits[k] - log_total)
        if target in retained:
            log_joint = log_prob + logits[target] - log_total
            for k in classes:
                odds[k][mask[k]].append(log_joint)
                if mask[target]:
                    odds_kept[k][mask[k]].append(log_joint)
    log_probs = [log_sum(logs) for logs in joint]
    return (
        log_probs,
        [log_sum(kept) - log_sum(dropped) for dropped, kept in odds],
        [log_sum(kept) - log_sum(dropped) for dropped, kept in odds_kept],
        math.fsum(log_normalizer),
        math.fsum(entropy),
    )


def hard_elbo(logits, retain_logits, posterior_logits, target):
    """E_q log p(target | z) - KL(q || p) over all masks of the rivals; q keeps the target."""
    rivals = [k for k in range(len(logits)) if k != target]
    value = log_sigmoid(retain_logits[target])
    for mask in itertools.product((0, 1), repeat=len(rivals)):
        signs = [1 if z else -1 for z in mask]
        log_q = math.fsum(
            log_sigmoid(s * posterior_logits[k]) for s, k in zip(signs, rivals, strict=True)
        )
        log_p = math.fsum(
            log_sigmoid(s * retain_logits[k]) for s, k in zip(signs, rivals, strict=True)
        )
        retained = [target] + [k for k, z in zip(rivals, mask, strict=True) if z]
        log_likelihood = logits[target] - log_sum([logits[k] for k in retained])
        value += xlogy(math.exp(log_q), log_likelihood + log_p - log_q)
    return value


def analytic_correction(logits, retain_logits, target):
    corrections = []
    for k in range(len(logits)):
        others = [j for j in range(len(logits)) if j not in (k, target)]
        log_rest = log_sum(
            [logits[target]] + [logits[j] + log_sigmoid(retain_logits[j]) for j in others]
        )
        corrections.append(0.0 if k == target else log_sigmoid(log_rest - logits[k]))
    return corrections
