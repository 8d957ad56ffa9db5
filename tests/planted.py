"""Faults planted by what they do: a wrong function in the place of the right one.

`python tests/planted.py "sign of the KL"` plants that fault and runs the test it turns red.
"""

import json
import os
import pkgutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dropmax._noise import counted_keys

TESTS = Path(__file__).parent


def without_the_empty_mask(right, logits, gates, **options):
    none = F.logsigmoid(-gates).sum(-1, keepdim=True) + logits.log_softmax(-1)
    return (right(logits, gates, **options).exp() - none.exp()).log()


def mean_of_logs(right, logits, gates, *, noise, **_options):
    return torch.stack([right(logits, gates, num_samples=1, noise=u) for u in noise]).mean(0)


def target_not_corrected(right, logits, target, *, log_proposal, **options):
    logits = logits + F.one_hot(target, logits.shape[-1]) * log_proposal
    return right(logits, target, log_proposal=log_proposal, **options)


def over_one_bin(right, log_probs, target):
    metrics = right(log_probs, target)
    confidence = 100.0 * log_probs.exp().amax(-1).mean().item()
    return metrics._replace(ece=abs(confidence - (100.0 - metrics.error)))


def of_more_probable(_right, log_probs, **_options):
    probs = log_probs.exp()
    more = probs[:, None, :] > probs[:, :, None]
    return (probs[:, None, :] * more).sum(-1)


def up_to_the_first_fault(right, *lines):
    for record in right(*lines):
        yield record
        if not isinstance(record, list):
            return


def in_place(right, file, data):
    file.write_bytes(data)
    right(file, data)


def after_what_was_cut_off(_right, file, line):
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def seeded_at_the_start_alone(right, module):
    with torch.random.fork_rng(devices=(), enabled=module.current_epoch > 0):
        right(module)


# name: (the place of a function, what stands there with the right one as its first argument, the
# test that turns red)
FAULTS = {
    "sign of the KL": (
        "dropmax.functional.dropmax.mask_kl",
        lambda right, *given: -right(*given),
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[kl]",
    ),
    "KL of p from q": (
        "dropmax.bernoulli.kl",
        lambda right, posterior, prior: right(prior, posterior),
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[kl]",
    ),
    "stop-gradient dropped": (
        "dropmax.functional.dropmax.corrected_logits",
        lambda right, prior, correction: right(prior, correction) + prior - prior.detach(),
        "test_functional_dropmax.py"
        "::test_the_prior_gets_no_gradient_from_the_nll_but_where_it_is_the_posterior",
    ),
    "target not kept": (
        "dropmax.axis.LocalAxis.one_hot",
        lambda right, *given: torch.zeros_like(right(*given)),
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[nll]",
    ),
    "floor dropped": (
        "dropmax.functional.masking.floored_logits",
        lambda right, logits, log_mask, _floor: right(logits, log_mask, 0.0),
        "test_functional_dropmax.py::test_floor_is_the_weight_of_a_dropped_class",
    ),
    "a share of the plug-in that grows where it is sure": (
        "dropmax.functional.dropmax.plugin_shares",
        lambda right, plugin, options: options.plugin_share - right(plugin, options),
        "test_functional_dropmax.py::test_masks_and_the_share_of_the_plugin_equal_the_oracle",
    ),
    "hard masks without a gradient": (
        "dropmax.functional.dropmax._hard",
        lambda right, *given: right(*given).detach(),
        "test_functional_dropmax.py"
        "::test_straight_through_masks_are_hard_and_learn_as_the_relaxed_ones_that_stay",
    ),
    "base rate of K instead of K - 1": (
        "dropmax.functional.ObjectiveOptions.aux_odds",
        lambda right, *given: (right(*given)[0], 0.0),
        "test_functional_dropmax.py::test_aux_prior_base_rate_is_neutral_at_the_base_rate",
    ),
    "sigmoid, then log": (
        "dropmax.functional.masking.gated_logits",
        lambda right, logits, gates, floor: right(logits, gates.sigmoid().logit(), floor),
        "test_contract.py::test_losses_and_gradients_are_finite_and_float32",
    ),
    "logs averaged instead of probabilities": (
        "dropmax.predictive.approximate.monte_carlo",
        mean_of_logs,
        "test_predictive.py::test_monte_carlo_of_given_noise_is_the_mean_over_its_masks",
    ),
    "all-zero mask left out of the exact predictive": (
        "dropmax.predictive.marginal.exact",
        without_the_empty_mask,
        "test_exact.py::test_open_gates_are_softmax_and_closed_ones_are_softmax",
    ),
    "nodes twice as far apart": (
        "dropmax.predictive.bound.cuts",
        lambda right, given: right(given)._replace(step=2.0 * right(given).step),
        "test_exact.py::test_equals_enumeration_of_all_masks_and_stays_within_the_bound[float64-3]",
    ),
    "all-zero mask in the posterior of a target that is kept": (
        "dropmax.predictive.posterior.mask_posterior",
        lambda right, *given, **options: right(*given, **options | {"target_kept": False}),
        "test_exact.py::test_equals_enumeration_of_all_masks_and_stays_within_the_bound[float64-3]",
    ),
    "fused gradient of the first chunk alone": (
        "dropmax.fused.passes.Map.add_gradients",
        lambda right, mapping, rows, *given: rows.start or right(mapping, rows, *given),
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "the mask's gradient in one pass without that of the KL": (
        "dropmax.functional.one_pass.pulled",
        lambda right, factors, kept, *given: right(
            factors, kept._replace(g_smaller=torch.zeros_like(kept.mask)), *given
        ),
        "test_one_pass.py::test_equals_the_authors_values_and_gradients[total]",
    ),
    "an all-reduce of sums dropped": (
        "dropmax.parallel.ShardedAxis._summed",
        lambda _right, _axis, x: x.clone(),
        "test_parallel.py::test_twenty_steps_of_adam[dropmax-3]",
    ),
    "an all-reduce of the features' gradient dropped": (
        "dropmax.parallel.ShardedAxis.spread",
        lambda _right, _axis, *tensors: tensors,
        "test_parallel.py::test_values_and_gradients_are_those_of_one_process"
        "[('dropmax', 7, ())-3]",
    ),
    "the maximum of a process's own classes": (
        "dropmax.parallel.ShardedAxis.amax",
        lambda _right, _axis, x: torch.cat([x.detach(), x.new_zeros(*x.shape[:-1], 1)], -1).amax(
            -1
        ),
        "test_parallel.py::test_twenty_steps_of_adam[dropmax-3]",
    ),
    "noise by the place in a process": (
        "dropmax.parallel.uniforms",
        lambda right, keys, count, dtype, _first: right(keys, count, dtype),
        "test_parallel.py::test_masks_do_not_depend_on_the_number_of_processes[3]",
    ),
    "a seed of its own for each process": (
        "dropmax.parallel._common_seed",
        lambda _right, _group, _device: torch.distributed.get_rank(),
        "test_parallel.py::test_masks_do_not_depend_on_the_number_of_processes[3]",
    ),
    "the best of a process's own classes": (
        "dropmax.parallel.ShardedAxis.of_each",
        lambda _right, _axis, *tensors: [tensor.unsqueeze(-2) for tensor in tensors],
        "test_parallel.py::test_values_and_gradients_are_those_of_one_process"
        "[('dropmax', 7, ())-3]",
    ),
    "other noise where a forward pass is repeated": (
        "dropmax.parallel._Stream.keys",
        lambda _right, stream, shape: counted_keys(shape, stream.seed, stream.count.add_(1)),
        "test_parallel.py::test_activation_checkpointing_draws_the_same_again[3]",
    ),
    "parts by a process's own classes": (
        "dropmax.parallel.ShardedAxis.most_classes",
        lambda _right, _axis, own_count: max(1, own_count),
        "test_parallel.py::test_two_all_reduces_forward_and_one_backward[dropmax-3]",
    ),
    "FSDP not told of the fused loss": (
        "torch.distributed.fsdp.register_fsdp_forward_method",
        lambda _right, module, name: setattr(module, name, getattr(module, name)),
        "test_parallel.py::test_instances_over_a_second_dimension"
        "[dropmax-fsdp of the head-fused_loss]",
    ),
    "noise by one key alone": (
        "dropmax._noise.steps_of",
        lambda right, keys, *given: right(keys * keys.new_tensor([1, 0]), *given),
        "test_fused.py"
        "::test_rows_whose_first_keys_are_neighbours_are_not_permutations_of_each_other",
    ),
    "weight not applied": (
        "dropmax.functional.ObjectiveOptions.weighted",
        lambda right, options, raw: right(replace(options, entropy_weight=1.0), raw),
        "test_heads.py::test_weights_multiply_the_terms",
    ),
    "the map of the correction done to predict": (
        "dropmax.heads.base.without_correction",
        lambda _right, _head: nullcontext(),
        "test_heads.py::test_prediction_never_does_the_map_of_the_correction",
    ),
    "target not corrected by log Q": (
        "dropmax.functional.baselines.sampled_softmax_loss",
        target_not_corrected,
        "test_functional_baselines.py::test_sampled_softmax_loss[8-True-0.5]",
    ),
    "sparsemax without a threshold gradient": (
        "dropmax.functional.baselines._threshold",
        lambda right, *given: right(*given).detach(),
        "test_functional_baselines.py::test_gradient_of_the_sparsemax_loss_is_the_residual",
    ),
    "sigsoftmax without its sigmoid in prediction": (
        "dropmax.heads.SigSoftmaxHead._plugin_logits",
        lambda _right, _head, scores: scores.logits,
        "test_functional_baselines.py::test_what_heads_with_a_sigmoid_predict[sigsoftmax]",
    ),
    "as_softmax over the less probable classes": (
        "dropmax.functional.baselines._log_sum_above",
        lambda right, least, probs, *given: right(-least, -probs, *given),
        "test_functional_baselines.py"
        "::test_losses_of_the_logits_alone[as_softmax-7-probabilities-False-False]",
    ),
    "one_vs_rest that predicts by softmax": (
        "dropmax.heads.OneVsRestHead._plugin_logits",
        lambda _right, _head, scores: scores.logits,
        "test_functional_baselines.py::test_what_heads_with_a_sigmoid_predict[one_vs_rest]",
    ),
    "rivals that the label retains": (
        "dropmax.functional.dropmax.binary_nll",
        lambda _right, logits, label: label.split(-F.logsigmoid(logits), -F.logsigmoid(logits)),
        "test_smaller.py::test_its_kl_is_that_of_the_posterior_that_is_the_label",
    ),
    "a tied gate that does not see the score": (
        "dropmax.heads.DropMaxTiedHead._gate",
        lambda right, head, logits: right(head, torch.zeros_like(logits)),
        "test_smaller.py::test_a_tied_gate_is_a_line_in_the_score",
    ),
    "ignored instances in the mean": (
        "dropmax.functional.targets.Instances.reduced_terms",
        lambda right, instances, term, reduction: right(
            instances._replace(divisor=torch.tensor(float(len(term)))), term, reduction
        ),
        "test_cross_entropy.py::test_ignored_instances_are_as_if_they_were_not_there[dropmax-mean]",
    ),
    "sample weights left out": (
        "dropmax.functional.targets.Instances.reduced_terms",
        lambda right, instances, *given: right(instances._replace(sample_weight=None), *given),
        "test_cross_entropy.py::test_an_instance_of_weight_n_counts_as_n_instances"
        "[dropmax-False-sum]",
    ),
    "calibration error over one bin": (
        "dropmax.metrics.evaluate",
        over_one_bin,
        "test_metrics.py::test_equals_the_oracle[0.5-2]",
    ),
    "a temperature that is kept where the NLL rises": (
        "dropmax.calibration._falls",
        lambda right, before, after: right(after, before),
        "test_calibration.py::test_a_network_that_is_ten_times_too_sure_is_cooled",
    ),
    "a conformal score without its random part": (
        "dropmax.analysis.conformal.class_scores",
        of_more_probable,
        "test_conformal.py::test_sets_are_those_of_a_slow_sum",
    ),
    "a suspicion that trusts the gate": (
        "dropmax.analysis.suspicion.label_suspicion",
        lambda right, *given: right(*given)._replace(gate=-right(*given).gate),
        "test_conformal.py::test_suspicion_has_three_sources",
    ),
    "differences paired by place": (
        "dropmax.compare.summary._difference",
        lambda right, metric, *heads: right(
            metric, *(dict(enumerate(lines.values())) for lines in heads)
        ),
        "test_report.py::test_differences_are_paired_by_seed_and_not_by_place",
    ),
    "broken rows kept": (
        "dropmax.data.tables.sound",
        lambda right, count, *given: right(count, *given) and list(range(count)),
        "test_tables.py::test_broken_rows_are_named_and_the_rest_go_on",
    ),
    "equal texts on two sides": (
        "dropmax.data.splits.apart",
        lambda right, whole, *given, **options: right(
            replace(whole, together=False), *given, **options
        ),
        "test_splits.py::test_texts_that_differ_in_case_width_or_spaces_are_equal",
    ),
    "a digest of no rows": (
        "dropmax.data.load._digest",
        lambda right, _, *given: right({}, *given),
        "test_digest.py::test_data_that_changed_are_those_of_no_run",
    ),
    "all files hidden": (
        "dropmax.data.folders._is_hidden",
        lambda right, file: not right(file),
        "test_folders.py::test_words_of_splits_are_names_of_classes_beside_others",
    ),
    "a center that is mirrored": (
        "dropmax.data.pixels.centered",
        lambda right, picture, size: right(picture.flip(-1), size),
        "test_pixels.py::test_every_picture_becomes_a_square_of_its_center",
    ),
    "a quote that swallows the rows after it": (
        "dropmax.data.delimited._records",
        up_to_the_first_fault,
        "test_tables.py::test_bytes_that_are_no_text_and_quotes_that_do_not_end_cost_their_own_row",
    ),
    "an image turned the other way": (
        "dropmax.data.corruption._rotated",
        lambda right, images, angles: right(images, -angles),
        "test_corruption.py::test_a_quarter_turn_is_that_of_the_pixels",
    ),
    "a file written in its place": (
        "dropmax._files.write_whole",
        in_place,
        "test_files.py::test_what_cannot_be_written_leaves_what_was_there",
    ),
    "a line that goes on where one was cut off": (
        "dropmax.compare.lines.append_line",
        after_what_was_cut_off,
        "test_files.py::test_a_new_line_takes_the_place_of_one_that_was_cut_off",
    ),
    "a seed of the first epoch alone": (
        "dropmax.training.module.RunModule.on_train_epoch_start",
        seeded_at_the_start_alone,
        "test_training.py::test_a_run_stopped_after_any_epoch_goes_on_bit_for_bit[paper]",
    ),
}

CONTROL = {
    "no fault": (
        "dropmax.functional.dropmax.mask_kl",
        lambda right, *given: right(*given),
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[kl]",
    )
}
"""The right function in its own place, which leaves the test green."""


class Planted:
    """A plugin of pytest that plants a fault once conftest.py and the test are imported."""

    def __init__(self, place, wrong):
        self.place, self.wrong = place, wrong

    def pytest_collection_finish(self):
        self.plant()

    def plant(self):
        right = pkgutil.resolve_name(self.place)
        owner = pkgutil.resolve_name(self.place.rpartition(".")[0])

        def planted(*arguments, **options):
            return self.wrong(right, *arguments, **options)

        for holder in (owner, *sys.modules.values()):  # what is imported by name is there, too
            for name, value in list(vars(holder).items()):
                if value is right:
                    setattr(holder, name, planted)


def plant_what_is_planted():
    """For a process that a test starts: the fault of the process in which the test runs."""
    if "PLANTED" in os.environ:
        place, wrong, _ = (FAULTS | CONTROL)[os.environ["PLANTED"]]
        Planted(place, wrong).plant()


if __name__ == "__main__":
    os.environ["PLANTED"] = sys.argv[1]
    place, wrong, test = (FAULTS | CONTROL)[sys.argv[1]]
    options = ["--assert=plain", "-x", "-q", "-p", "no:cacheprovider"]
    sys.exit(pytest.main([*options, str(TESTS / test)], [Planted(place, wrong)]))
