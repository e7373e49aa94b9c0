"""A device that is not there: the engines run on 'meta', and whatever a GPU would refuse is raised.

'meta' computes shapes alone: a step that asks for a value (a mask as an index, `item`, `nonzero`) fails,
which on a GPU would wait for it. Its kernels do not all look at devices, so `Elsewhere` does: tensors
of an operation lie on one device, but for single numbers and copies.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ELSEWHERE = torch.device("meta")
COPIES = ("_to_copy", "copy_")


class Elsewhere(TorchDispatchMode):
    """Raises where tensors of two devices meet; what comes back to the CPU has no values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {x.device.type for x in tensors if x.ndim}
        if name == "_to_copy" and devices == {"meta"} and "cpu" in str(kwargs.get("device")):
            kind = kwargs.get("dtype") or args[0].dtype
            return torch.zeros(args[0].shape, dtype=kind, device="cpu")
        if name == "copy_" and [x.device.type for x in tensors] == ["cpu", "meta"]:
            return args[0]
        if len(devices) > 1 and name not in COPIES:
            raise RuntimeError(f"{name}: tensors of {sorted(devices)} in one operation")
        return func(*args, **kwargs)
