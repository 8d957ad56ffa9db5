"""Tests that can fail: each planted fault turns a named test red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TERMS = "functional/terms.py"

# name: (file, what stands there, what the fault puts in its place, the test that turns red)
FAULTS = {
    "sign of the KL": (
        TERMS,
        "    return label.split(-F.logsigmoid(retain_logits)",
        "    return -label.split(-F.logsigmoid(retain_logits)",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[kl]",
    ),
    "KL of p from q": (
        TERMS,
        "bernoulli.kl(posterior_logits, retain_logits)",
        "bernoulli.kl(retain_logits, posterior_logits)",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[kl]",
    ),
    "masks from p, not q": (
        "functional/dropmax.py",
        "        logits,\n        posterior_logits,\n        label,\n        masks=masks",
        "        logits,\n        retain_logits,\n        label,\n        masks=masks",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[nll]",
    ),
    "target not kept": (
        TERMS,
        "log_mask = log_mask.masked_fill(axis.one_hot(label.target, logits), 0.0)",
        "pass",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[nll]",
    ),
    "stop-gradient dropped": (
        TERMS,
        "retain_logits.detach() + correction_logits.to",
        "retain_logits + correction_logits.to",
        "test_functional_dropmax.py"
        "::test_the_prior_gets_no_gradient_from_the_nll_but_where_it_is_the_posterior",
    ),
    "stop-gradient where the posterior is the prior": (
        TERMS,
        "        return retain_logits\n",
        "        return retain_logits.detach()\n",
        "test_functional_dropmax.py"
        "::test_the_prior_gets_no_gradient_from_the_nll_but_where_it_is_the_posterior",
    ),
    "floor dropped": (
        "functional/masking.py",
        "    return logits + (log_mask.clamp(min=log_floor) - F.logsigmoid(gap))",
        "    return logits + log_mask",
        "test_functional_dropmax.py::test_floor_is_the_weight_of_a_dropped_class",
    ),
    "a share with the wrong sign": (
        TERMS,
        "    return share * unsure**focus",
        "    return share * -(-unsure) ** focus",
        "test_functional_dropmax.py::test_masks_and_the_share_of_the_plugin_equal_the_oracle",
    ),
    "a share of the nll alone": (
        "functional/dropmax.py",
        "        rest = Label(label.masses(logits) * kept, axis=label.axis)",
        "        rest = label",
        "test_functional_dropmax.py::test_masks_and_the_share_of_the_plugin_equal_the_oracle",
    ),
    "hard masks without a gradient": (
        TERMS,
        "    return log_mask + (log_hard - log_mask).detach()",
        "    return log_hard",
        "test_functional_dropmax.py"
        "::test_straight_through_masks_are_hard_and_learn_as_the_relaxed_ones_that_stay",
    ),
    "an unpaired ratio": (
        "report/summary.py",
        "statistics.mean(of_head) / level",
        "statistics.mean(one['test'][metric] for one in runs.values()) / level",
        "test_report.py::test_differences_are_paired_by_seed_and_not_by_place",
    ),
    "base rate omitted": (
        TERMS,
        "correction_logits = correction_logits + math.log(aux_prior) - math.log1p(-aux_prior)",
        "pass",
        "test_functional_dropmax.py::test_aux_prior_base_rate_is_neutral_at_the_base_rate",
    ),
    "base rate of K instead of K - 1": (
        TERMS,
        "math.log(aux_prior) - math.log1p(-aux_prior)",
        "math.log(aux_prior)",
        "test_functional_dropmax.py::test_aux_prior_base_rate_is_neutral_at_the_base_rate",
    ),
    "a suspicion that trusts the gate": (
        "analysis/suspicion.py",
        "-LOCAL.pick(retain_logits, target)",
        "LOCAL.pick(retain_logits, target)",
        "test_conformal.py::test_suspicion_has_three_sources",
    ),
    "a conformal score without its random part": (
        "analysis/conformal.py",
        "above + uniforms * ordered",
        "above",
        "test_conformal.py::test_sets_cover_whatever_the_model",
    ),
    "a temperature that is kept where the NLL rises": (
        "calibration.py",
        "fall = before - after",
        "fall = after - before",
        "test_calibration.py::test_a_thousand_held_out_sets_are_not_harmed",
    ),
    "a temperature that follows its gradient upwards": (
        "calibration.py",
        "(expected - of_target).mean(0) + weight",
        "(of_target - expected).mean(0) + weight",
        "test_calibration.py::test_a_thousand_held_out_sets_are_not_harmed",
    ),
    "sign of the entropy": (
        TERMS,
        "label.axis.sum(bernoulli.neg_entropy(retain_logits))",
        "-label.axis.sum(bernoulli.neg_entropy(retain_logits))",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[neg_entropy]",
    ),
    "entropy of the posterior": (
        "functional/dropmax.py",
        "        prior_neg_entropy(retain_logits, rest),",
        "        prior_neg_entropy(posterior_logits, rest),",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[neg_entropy]",
    ),
    "aux at the rivals alone": (
        TERMS,
        "label.split(-F.logsigmoid(correction_logits), ",
        "label.split(-F.logsigmoid(-correction_logits), ",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[aux]",
    ),
    "samples summed": (
        TERMS,
        ".mean(0)",
        ".sum(0)",
        "test_functional_dropmax.py::test_samples_are_averaged_and_not_summed",
    ),
    "temperature multiplied": (
        "bernoulli.py",
        "_logistic(noise, mask_logits)) / temperature",
        "_logistic(noise, mask_logits)) * temperature",
        "test_bernoulli.py::test_relaxed_masks_follow_their_law",
    ),
    "sign of the noise": (
        "bernoulli.py",
        "    return torch.logit(noise.to(like.dtype))",
        "    return -torch.logit(noise.to(like.dtype))",
        "test_functional_dropmax.py::test_equals_the_authors_values_and_gradients[nll]",
    ),
    "normal noise": (
        "bernoulli.py",
        "    return torch.logit(noise.to(like.dtype))",
        "    return torch.erfinv(2 * noise.to(like.dtype) - 1)",
        "test_bernoulli.py::test_hard_masks_follow_their_law",
    ),
    "noise at 0": (
        "bernoulli.py",
        "    return drawn.clamp(_OFF_ZERO, 1.0 - 2.0 * _OFF_ZERO)",
        "    return drawn",
        "test_bernoulli.py::test_drawn_noise_is_float32_and_off_both_ends",
    ),
    "noise in the default dtype": (
        "bernoulli.py",
        "dtype=torch.float32, device=logits.device",
        "dtype=logits.dtype, device=logits.device",
        "test_bernoulli.py::test_drawn_noise_is_float32_and_off_both_ends",
    ),
    "noise of a fixed batch": (
        "bernoulli.py",
        "{} if generator is None else {",
        "{",
        "test_transforms.py"
        "::test_drawn_noise_compiles_once_for_every_batch_size[dropmax-aot_eager]",
    ),
    "loss in half precision": (
        "_precision.py",
        "x.float() if x.element_size() < 4 else x",
        "x",
        "test_contract.py::test_losses_and_gradients_are_finite_and_float32",
    ),
    "sigmoid, then log": (
        "functional/masking.py",
        "F.logsigmoid(retain_logits)",
        "F.sigmoid(retain_logits).log()",
        "test_contract.py::test_losses_and_gradients_are_finite_and_float32",
    ),
    "all-zero mask left at -inf": (
        "predictive/approximate.py",
        "retained = mask | dropped_all.unsqueeze(-1)",
        "retained = mask",
        "test_predictive.py::test_all_classes_dropped_is_softmax",
    ),
    "logs averaged instead of probabilities": (
        "predictive/approximate.py",
        "log_sum = torch.logaddexp(log_sum, log_probs)",
        "log_sum = log_probs if sample == 0 else log_sum + (log_probs - log_sum) / (sample + 1)",
        "test_predictive.py::test_monte_carlo_of_given_noise_is_the_mean_over_its_masks",
    ),
    "samples held in memory": (
        "predictive/approximate.py",
        "        log_sum = torch.logaddexp(log_sum, log_probs)",
        "        log_sum = torch.logaddexp(log_sum, log_probs); held = locals().get('held', []); "
        "held.append(log_probs)",
        "test_predictive.py::test_memory_of_monte_carlo_does_not_grow_with_the_samples",
    ),
    "all-zero mask left out of the exact predictive": (
        "predictive/marginal.py",
        "torch.logaddexp(log_sum + _like(step.log(), log_sum), _like(log_none, log_sum))",
        "(log_sum + _like(step.log(), log_sum))",
        "test_exact.py::test_open_gates_are_softmax_and_closed_ones_are_softmax",
    ),
    "factors that underflow": (
        "predictive/quadrature.py",
        "torch.maximum(log_not_rho, log_silent).add_(tail)",
        "(log_not_rho.exp() + log_silent.exp()).log()",
        "test_exact.py::test_a_likely_rival_that_is_almost_never_dropped[dtype1]",
    ),
    "rounding that adds up over classes": (
        "predictive/quadrature.py",
        "near = change > -0.5",
        "near = change > 1.0",
        "test_exact.py::test_rounding_does_not_add_up_over_many_classes_with_one_gate[0.3]",
    ),
    "a bad instance spoils the count of nodes": (
        "predictive/quadrature.py",
        "width.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).max()",
        "width.max().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)",
        "test_exact.py::test_a_bad_instance_leaves_the_others_alone[nan]",
    ),
    "range cut at the largest class": (
        "predictive/quadrature.py",
        "width = left + right - lowest",
        "width = left + right + 0.0 * lowest",
        "test_exact.py::test_equals_enumeration_of_all_masks_and_stays_within_the_bound[3-dtype0]",
    ),
    "bound without the cuts": (
        "predictive/quadrature.py",
        "trapezoid_error(step) + left_cut_error(step, left) + right",
        "trapezoid_error(step)",
        "test_exact.py::test_equals_enumeration_of_all_masks_and_stays_within_the_bound[3-dtype0]",
    ),
    "rivals left out of the exact gradient": (
        "predictive/marginal.py",
        "pull = share * (1.0 - kept) + axis.sum(share).unsqueeze(-1) * kept",
        "pull = share * (1.0 - kept)",
        "test_exact.py::test_gradients_are_exact[6-1.0]",
    ),
    "nodes held in memory": (
        "predictive/marginal.py",
        "            found = _log_integrand(",
        "            held = [*locals().get('held', []), block]\n"
        "            found = _log_integrand(",
        "test_exact.py::test_memory_does_not_grow_with_the_nodes_forward_and_backward",
    ),
    "all-zero mask left out of the posterior": (
        "predictive/posterior.py",
        "kept - torch.logaddexp(dropped, none)",
        "kept - dropped",
        "test_exact.py::test_equals_enumeration_of_all_masks_and_stays_within_the_bound[3-dtype0]",
    ),
    "all-zero mask counted twice in E log A": (
        "predictive/posterior.py",
        "(block.log_survival.exp() - none)",
        "block.log_survival.exp()",
        "test_exact.py::test_the_expected_log_normalizer_at_a_tighter_tolerance[3]",
    ),
    "rival counted in its own correction": (
        "functional/correction.py",
        "log_total + torch.log1p(-share.exp())",
        "log_total.expand_as(share)",
        "test_exact.py::test_the_analytic_correction[7]",
    ),
    "bound without the KL": (
        "analysis/inference.py",
        "- log_normalizer - kl",
        "- log_normalizer",
        "test_analysis.py::test_the_gap_equals_enumeration[4]",
    ),
    "expected entropy without the normalizer": (
        "analysis/inference.py",
        "expected = log_normalizer - ",
        "expected = -",
        "test_analysis.py::test_uncertainty_equals_enumeration[4]",
    ),
    "gate dropped without asking": (
        "conversion/swap.py",
        "return same and (bias is None",
        "return True or (same and bias is None",
        "test_conversion.py"
        "::test_a_converted_model_predicts_what_it_did_learns_and_goes_back[resnet-attention]",
    ),
    "weights copied and not shared": (
        "conversion/swap.py",
        "new.weight, new.bias = old.weight, old.bias",
        "new.weight, new.bias = nn.Parameter(old.weight.detach().clone()), old.bias",
        "test_conversion.py"
        "::test_the_parameters_are_the_same_and_so_are_device_dtype_hooks_and_flags",
    ),
    "mean of each accumulated batch": (
        "integrations/transformers/model.py",
        'reduction = "mean" if num_items_in_batch is None else "sum"',
        'reduction, num_items_in_batch = "mean", None',
        "test_transformers.py::test_accumulated_batches_are_one_batch[tokens]",
    ),
    "class probabilities counted as rows": (
        "integrations/transformers/model.py",
        "entries = labels.shape[-1] if labels.is_floating_point() else 1",
        "entries = 1",
        "test_transformers.py::test_accumulated_batches_are_one_batch[soft]",
    ),
    "saved as the host": (
        "integrations/transformers/configuration.py",
        'model_type = "dropmax"',
        'model_type = "bert"',
        "test_transformers.py::test_a_plain_auto_class_refuses_it"
        "[AutoModelForSequenceClassification]",
    ),
    "converted weights made anew": (
        "integrations/transformers/model.py",
        "with no_init_weights():",
        "with torch.no_grad():",
        "test_transformers.py"
        "::test_a_converted_model_predicts_what_it_did_and_goes_back[bert-dropmax]",
    ),
    "head that PEFT does not train": (
        "conversion/criterion.py",
        "used[0] if used else module.original_module",
        "module.original_module",
        "test_transformers.py::test_peft_trains_a_copy_of_the_head_and_brings_it_back[bert]",
    ),
    "batch of a fixed size in a file": (
        "export/trace.py",
        "tuple({0: batch} for _ in rows)",
        "tuple({} for _ in rows)",
        "test_export.py::test_a_file_computes_what_the_head_does_at_any_batch_size[softmax]",
    ),
    "exported while training": (
        "export/onnx.py",
        "    model.eval()\n",
        "    pass\n",
        "test_export.py::test_a_file_computes_what_the_head_does_at_any_batch_size[softmax]",
    ),
    "log of a sigmoid in a file": (
        "export/operators.py",
        "        torch.ops.aten.log_sigmoid.default: log_sigmoid,\n",
        "",
        "test_export.py::test_a_file_computes_what_the_head_does_at_any_batch_size[dropmax]",
    ),
    "exponentials added in a file": (
        "export/operators.py",
        "        torch.ops.aten.logaddexp.default: logaddexp,\n",
        "",
        "test_export.py::test_a_file_computes_what_the_head_does_at_any_batch_size[exact]",
    ),
    "not a number taken for close": (
        "export/onnx.py",
        "not all(difference <= atol for",
        "any(difference > atol for",
        "test_export.py::test_no_file_is_left_where_it_would_be_wrong[not a number]",
    ),
    "target among the negatives": (
        "functional/baselines.py",
        "keys.masked_fill(is_target, -math.inf)",
        "keys",
        "test_functional_rivals.py::test_sampled_softmax_draws_from_its_proposal",
    ),
    "target not corrected by log Q": (
        "functional/baselines.py",
        "logits = logits - log_proposal",
        "logits = torch.where(is_target, logits, logits - log_proposal)",
        "test_functional_rivals.py::test_sampled_softmax_loss",
    ),
    "target dropped by class dropout": (
        "functional/baselines.py",
        " | axis.one_hot(label.target, logits)",
        "",
        "test_functional_rivals.py::test_class_dropout_loss",
    ),
    "sparsemax without a threshold gradient": (
        "functional/baselines.py",
        "    return (total - 1.0) / ",
        "    return (total.detach() - 1.0) / ",
        "test_functional_rivals.py::test_gradient_of_the_sparsemax_loss_is_the_residual",
    ),
    "decay of the gate": (
        "heads/maps.py",
        'name.startswith(("gate", *BRANCHES))',
        'name.startswith(("gate", BRANCHES[0]))',
        "test_contract.py::test_decay_spares_the_gate_alone",
    ),
    "mean over a fixed batch": (
        "functional/instances.py",
        "cls(target, ignored, sample_weight, counts.sum())",
        "cls(target, ignored, sample_weight, torch.tensor(float(len(counts))))",
        "test_contract.py::test_reductions_agree",
    ),
    "ignored instances in the mean": (
        "functional/instances.py",
        "            counts = counts.masked_fill(ignored, 0.0)",
        "            pass",
        "test_cross_entropy.py::test_ignored_instances_are_as_if_they_were_not_there[dropmax-mean]",
    ),
    "ignored instances in the sum": (
        "functional/instances.py",
        "            term = term.masked_fill(self.ignored, 0.0)",
        "            pass",
        "test_cross_entropy.py::test_ignored_instances_are_as_if_they_were_not_there[dropmax-sum]",
    ),
    "mean over nothing": (
        "functional/instances.py",
        "torch.where(self.divisor > 0.0, self.divisor, 1.0)",
        "self.divisor",
        "test_cross_entropy.py"
        "::test_where_all_are_ignored_the_loss_is_zero_with_zero_gradient[dropmax-0.0]",
    ),
    "smoothing of all terms": (
        "functional/label.py",
        "        rest = self.axis.sum(self.target).unsqueeze(-1) - self.target",
        "        share = self.smoothing / self.target.shape[-1]\n"
        "        self = self._replace(target=(1.0 - self.smoothing) * self.target + share)\n"
        "        rest = self.axis.sum(self.target).unsqueeze(-1) - self.target",
        "test_cross_entropy.py"
        "::test_probabilities_are_the_mixture_of_the_hard_losses[dropmax-False-0.3-1]",
    ),
    "smoothing that spreads to masked classes": (
        "functional/label.py",
        "spread = nll_of_class.masked_fill(nll_of_class.isinf(), 0.0)",
        "spread = nll_of_class",
        "test_cross_entropy.py::test_a_masked_class_is_safe_and_no_rival[dropmax-smoothing]",
    ),
    "target's own mask counted twice": (
        "functional/terms.py",
        "dropped = logits + F.logsigmoid(-mask_logits)",
        "dropped = logits",
        "test_cross_entropy.py::test_one_hot_rows_are_indices[dropmax-none-0.0]",
    ),
    "divergence of all rivals in the mixture": (
        "functional/label.py",
        "self.target * of_target + rest * of_rival",
        "self.target * of_target + of_rival",
        "test_cross_entropy.py"
        "::test_probabilities_are_the_mixture_of_the_hard_losses[dropmax-False-0.0-1]",
    ),
    "class weights left out of the smoothing": (
        "functional/label.py",
        "            spread = spread * self.weight",
        "            pass",
        "test_cross_entropy.py"
        "::test_is_torchs_cross_entropy_where_the_gates_are_open[softmax-float64]",
    ),
    "negatives without the next class": (
        "functional/baselines.py",
        "joining = torch.where(drawn, next_logit, logits)",
        "joining = logits",
        "test_cross_entropy.py"
        "::test_probabilities_are_the_mixture_of_the_hard_losses[sampled_softmax-False-0.0-1]",
    ),
    "fused gradient of the mask without its floor": (
        "fused/elementwise.py",
        "return mask / (mask + floor)",
        "return 1.0",
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "fused entropy of the wrong sign": (
        "fused/elementwise.py",
        "to_prior = entropy_weight * spread * retain_logits",
        "to_prior = -entropy_weight * spread * retain_logits",
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "fused class weights left out of the gradient": (
        "fused/chunks.py",
        "chunk.factor if weight is None else chunk.factor * weight",
        "chunk.factor",
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "last chunk of the fused loss left out": (
        "fused/passes.py",
        "range(0, max(len(features), 1), size)",
        "range(0, max(len(features) - 1, 1), size)",
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "fused logistic noise of another scale": (
        "fused/elementwise.py",
        "mask_logits + logistics(keys, num_classes, dtype)",
        "mask_logits + logistics(keys, num_classes, dtype) / 4.0",
        "test_fused.py::test_noise_of_keys_is_the_uniforms_of_these_keys",
    ),
    "the same noise at every step": (
        "fused/linear.py",
        "features.device, generator)",
        "features.device, torch.Generator().manual_seed(0))",
        "test_fused.py::test_noise_of_keys_is_the_uniforms_of_these_keys",
    ),
    "fused uniforms of a part of (0, 1)": (
        "fused/chunks.py",
        "noise = uniforms(chunk.keys, logits.shape[-1], logits.dtype)",
        "noise = uniforms(chunk.keys, logits.shape[-1], logits.dtype) / 2.0",
        "test_fused.py::test_noise_of_keys_is_the_uniforms_of_these_keys",
    ),
    "autocast lowers float64": (
        "fused/passes.py",
        " and dtype != torch.float64",
        "",
        "test_fused.py::test_autocast_leaves_float64_alone",
    ),
    "scores kept by the fused loss": (
        "fused/passes.py",
        "            terms.append(found)\n",
        "            terms.append(found)\n"
        "            tensors = (*tensors, *(score.clone() for score in scores))\n",
        "test_fused.py::test_nothing_of_the_size_of_scores_outlives_its_chunk",
    ),
    "fused gradient of the last chunk alone": (
        "fused/maps.py",
        "keep=rows.start > 0",
        "keep=False",
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "fused gradient of low rank left out": (
        "fused/passes.py",
        "else (gate_features.to(dtype), to_gate_features)",
        "else (gate_features.to(dtype), None)",
        "test_fused.py::test_values_and_gradients_are_those_of_the_composition",
    ),
    "the map of the correction done to predict": (
        "heads/maps.py",
        "left_out = not torch.compiler.is_compiling() and _predicting.get()",
        "left_out = False",
        "test_heads.py::test_prediction_never_does_the_map_of_the_correction",
    ),
    "noise by one key alone": (
        "fused/noise.py",
        "_hash(_hash(place ^ keys[..., :1]) ^ keys[..., 1:])",
        "_hash(place ^ keys[..., :1])",
        "test_fused.py"
        "::test_rows_whose_first_keys_are_neighbours_are_not_permutations_of_each_other",
    ),
    "uniforms that float32 rounds to 1": (
        "fused/noise.py",
        "STEPS = 2**23",
        "STEPS = 2**24",
        "test_fused.py::test_the_extreme_steps_are_strictly_between_0_and_1",
    ),
    "broken rows kept": (
        "data/tables.py",
        "return [n for n in range(count) if n not in broken]",
        "return list(range(count))",
        "test_tables.py::test_broken_rows_are_named_and_the_rest_go_on",
    ),
    "a quote that swallows the rows after it": (
        "data/delimited.py",
        "start += read + 1",
        "start = len(lines)",
        "test_tables.py::test_bytes_that_are_no_text_and_quotes_that_do_not_end_cost_their_own_row",
    ),
    "weight not applied": (
        "heads/dropmax.py",
        "self.entropy_weight * raw.neg_entropy",
        "raw.neg_entropy",
        "test_heads.py::test_weights_multiply_the_terms",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_fault_replaces_stands_once(name):
    file, right, _, _ = FAULTS[name]
    assert (ROOT / "src" / "dropmax" / file).read_text().count(right) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_turns_its_test_red(name, tmp_path):
    file, right, wrong, test = FAULTS[name]
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=lambda *_: {"results"})
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    source = tmp_path / "src" / "dropmax" / file
    text = source.read_text()
    source.write_text(text.replace(right, wrong))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{test}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout[-3000:] + result.stderr[-3000:]
    assert "1 failed" in result.stdout
