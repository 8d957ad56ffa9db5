"""Random numbers of their own, where the tensors of a test are."""

import torch


def generator(seed):
    """A generator with this seed on the default device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)
