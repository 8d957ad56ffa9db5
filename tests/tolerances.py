"""The one table of tolerances: (dtype, kind) -> (rtol, atol)."""

import torch

TOLERANCES = {
    # the authors' numbers, as the project promises them
    (torch.float64, "official value"): (0.0, 1e-9),
    (torch.float64, "official gradient"): (0.0, 1e-8),
    # against the oracle, whose floats are Python's
    (torch.float64, "value"): (1e-12, 1e-12),
    (torch.float32, "value"): (2e-6, 2e-6),
    # percentages that torchmetrics accumulates in float32
    (torch.float64, "metric"): (1e-5, 1e-5),
    # against central differences
    (torch.float64, "gradient"): (1e-6, 1e-8),
    # the same formula in another order of operations
    (torch.float64, "reordered"): (1e-13, 1e-13),
    (torch.float32, "reordered"): (5e-6, 5e-6),
    # log-probabilities that were rounded to a half-width dtype, by their last digit
    (torch.bfloat16, "value"): (2**-8, 2**-8),
    (torch.float16, "value"): (2**-11, 2**-11),
    # an expectation in one pass against its terms one by one
    (torch.float64, "mixture"): (1e-12, 1e-12),
    # torch's cross-entropy in float64, of the same logits
    (torch.float64, "cross-entropy"): (1e-12, 1e-12),
    (torch.float32, "cross-entropy"): (2e-6, 2e-6),
    # gates open so wide that the masks are ones but for sigmoid(-50)
    (torch.float64, "limit"): (1e-12, 1e-12),
    # what rounding may add to the error of plain torch at that dtype
    (torch.float32, "precision"): (0.0, 1e-6),
    (torch.bfloat16, "precision"): (0.0, 1e-6),
    (torch.float16, "precision"): (0.0, 1e-6),
    # integrals, as the project promises them at their default tolerances
    (torch.float64, "exact"): (0.0, 1e-6),
    (torch.float32, "exact"): (0.0, 1e-4),
    # posterior log-odds, the quotient of two integrals
    (torch.float64, "exact odds"): (0.0, 2e-6),
    (torch.float32, "exact odds"): (0.0, 2e-4),
    # integrals at a tolerance of 1e-6 over 10,000 classes
    (torch.float32, "precision tight"): (0.0, 2e-5),
    (torch.float64, "precision tight"): (0.0, 2e-5),
    # integrals at a tighter tolerance
    (torch.float64, "exact tight"): (0.0, 1e-8),
    # probabilities in lines of JSON, which have six decimals
    (torch.float64, "line"): (0.0, 1e-6),
    # compiled kernels against eager ones
    (torch.float32, "compiled"): (1e-5, 1e-5),
    # gradients of half-width logits of a thousand nats, by the largest of them
    (torch.bfloat16, "large logits"): (2**-7, 1e-6),
    (torch.float16, "large logits"): (2**-7, 1e-6),
    # one step of SGD on whole and on accumulated batches, as the project promises it
    (torch.float64, "accumulated"): (0.0, 1e-9),
    # probabilities by onnxruntime against torch's, as the project promises them
    (torch.float32, "onnx"): (0.0, 1e-5),
    # linear maps under autocast against float32 ones, features and weights of order 1
    (torch.bfloat16, "autocast"): (2e-2, 5e-2),
    (torch.float16, "autocast"): (2e-3, 5e-3),
}


def assert_close(actual, expected, kind, *, dtype=None):
    """Equal within the table's tolerance for the dtype of `actual`."""
    rtol, atol = TOLERANCES[dtype or actual.dtype, kind]
    actual, expected = (
        torch.as_tensor(x, dtype=torch.float64, device="cpu") for x in (actual.detach(), expected)
    )
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def rounding(spread, dtype):
    """What rounding may add to the error of an integral over logits spread over so many nats."""
    return 1e-12 * (1.0 + spread) if dtype == torch.float64 else 3e-5
