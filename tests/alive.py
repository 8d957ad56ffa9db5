"""How much memory the tensors of a computation hold at a time."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class Alive(TorchDispatchMode):
    """Records how many numbers are held at most by tensors that are made and still alive."""

    def __init__(self):
        super().__init__()
        self.most, self.held = 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.held[storage.data_ptr()] = StorageWeakRef(storage), storage.size() // 4
        self.held = {key: held for key, held in self.held.items() if not held[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.held.values()))
        return made
