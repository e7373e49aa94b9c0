"""Stacks of experts in a PEFT file (`target_parameters`) -> one factor pair for each expert.

    A (E r, in)  -> (E, r, in)      expert e has rows e r .. e r + r
    B (out, E r) -> (out, r, E)     expert e has every E-th column, beginning with e
    parameters of one module are wrapped one around the other: the last one stands at M.lora_A,
    the one before at M.base_layer.lora_A, ...

Which parameter a wrapper is, and E, are not in the tensors: both come from the configuration. Which side is
the input depends on the base model's class and on the version of peft (0.19.1 changed it); where two
parameters of one expert are adapted, their widths tell. Source: peft 0.21.2, tuners/lora/layer.py, ParamWrapper
and tuners/tuners_utils.py, _inject_parameters; the versions 0.17 to 0.19.1 compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorascope.core.lora import Scale
from lorascope.core.low_rank import LowRank
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.factors import as_float, check_rank, fold
from lorascope.io.peft.config import PeftConfig
from lorascope.io.peft.pair import check_factor

__all__ = ["Stack", "StackRead", "count_experts", "find_stacks", "nesting_order", "read_stack"]

MAX_EXPERTS = 4096
#: PEFT's version from which on A is on the side of the inputs, where the base's class says so.
STRAIGHT_SINCE = (0, 19, 1)

# The order in which classes of experts register their parameters: the first is the innermost wrapper.
REGISTERED = ("gate_up_proj", "w13", "gate_proj", "w1", "up_proj", "w3", "down_proj", "w2")

Slots = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Stack:
    """The wrappers around one module, outermost first, and the parameters they may be."""

    module: str
    spelled: tuple[str, ...]  # the wrappers' modules as the file spells them
    wrappers: tuple[Slots, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class StackRead:
    """Layers and scales of one stack, by name, and what was not certain."""

    layers: Mapping[str, LowRank]
    scales: Mapping[str, Scale]
    kinds: Mapping[str, str]
    ambiguities: tuple[str, ...]


def find_stacks(modules: Mapping[str, Slots], config: PeftConfig) -> tuple[list[Stack], list[str]]:
    """The stacks among the modules (names as the file spells them), and the spelled names they cover."""
    nested: dict[str, dict[int, str]] = {}
    for spelled in modules:
        module = spelled
        while module.endswith(".base_layer"):
            module = module.removesuffix(".base_layer")
        depth = (len(spelled) - len(module)) // len(".base_layer")
        nested.setdefault(module, {})[depth] = spelled
    stacks, covered = [], []
    for module, depths in nested.items():
        parameters = _parameters_of(module, config)
        if max(depths) == 0 and (not parameters or _is_plain(module, modules[depths[0]], config)):
            continue
        names = [depths[depth] for depth in sorted(depths)]
        wrappers = tuple(modules[name] for name in names)
        stacks.append(Stack(module, tuple(names), wrappers, parameters))
        covered.extend(names)
    return stacks, covered


def count_experts(stacks: Sequence[Stack], config: PeftConfig) -> int:
    """At least how many layers the stacks will make, known from shapes alone."""
    total = 0
    for stack in stacks:
        ranks = [config.rank_of(f"{stack.module}.{name}") or 1 for name in stack.parameters]
        factors = [slots["lora_A"] for slots in stack.wrappers if "lora_A" in slots]
        rows = sum(factor.shape[0] for factor in factors if factor.ndim)
        total += rows // max(ranks, default=rows + 1)
    return total


def nesting_order(parameters: Sequence[str]) -> list[str]:
    """Parameters of one module, innermost wrapper first."""
    known = {name: place for place, name in enumerate(REGISTERED)}
    return sorted(parameters, key=lambda name: known.get(name, len(known)))


def read_stack(stack: Stack, config: PeftConfig, where: str) -> StackRead | None:
    """The pairs of a stack's experts, named MODULE.PARAMETER.EXPERT; None if the file cannot tell.

    Raises:
        FormatError: shapes do not fit the rank that the configuration gives.
        HostileFileError: more experts or a higher rank than the caps.
    """
    if len(stack.parameters) != len(stack.wrappers):
        return None
    factors = [_factors(stack.module, slots, where) for slots in stack.wrappers]
    order, crossed, doubts = _arrange(stack, factors, config)
    layers: dict[str, LowRank] = {}
    scales: dict[str, Scale] = {}
    kinds: dict[str, str] = {}
    for parameter, (a, b) in zip(order, factors, strict=True):
        path = f"{stack.module}.{parameter}"
        rank = config.rank_of(path)
        if rank is None:
            return None
        scale = config.scale_of(path, rank)
        pairs = _unpack(path, a, b, rank, scale.factor, crossed=crossed, where=where)
        single = stack.module if parameter == "weight" else path
        names = [f"{path}.{expert}" for expert in range(len(pairs))] if len(pairs) > 1 else [single]
        layers.update(zip(names, pairs, strict=True))
        scales.update((name, scale) for name in names)
        kinds.update((name, "expert" if len(pairs) > 1 else "parameter") for name in names)
    # one parameter alone is a matrix like any other: its orientation is never in doubt
    return StackRead(layers, scales, kinds, doubts if "expert" in kinds.values() else ())


def _parameters_of(module: str, config: PeftConfig) -> tuple[str, ...]:
    """The parameters of the module that target_parameters names; peft matches whole trailing paths."""
    found = []
    for target in config.names("target_parameters"):
        owner, _, parameter = target.rpartition(".")
        if not owner or module == owner or module.endswith(f".{owner}"):
            found.append(parameter)
    return tuple(dict.fromkeys(found))


def _is_plain(module: str, slots: Slots, config: PeftConfig) -> bool:
    """A bare parameter name fits any module: one of the configured rank is an ordinary layer."""
    bare = any("." not in target for target in config.names("target_parameters"))
    a = slots.get("lora_A")
    return a is None or a.ndim != 2 or (bare and a.shape[0] == config.rank_of(module))


def _factors(module: str, slots: Slots, where: str) -> tuple[Tensor, Tensor]:
    if set(slots) != {"lora_A", "lora_B"}:
        raise FormatError(
            f"Reading the experts {module!r} of {where!r}: found {sorted(slots)}, expected lora_A and lora_B."
        )
    for slot, tensor in slots.items():
        check_factor(f"{module}.{slot}", tensor, where)
    a, b = (as_float(slots[slot], f"{module}.{slot}", where) for slot in ("lora_A", "lora_B"))
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise FormatError(
            f"Reading the experts {module!r} of {where!r}: A is {list(a.shape)} and B is {list(b.shape)}, "
            "expected (experts * r, in) and (out, experts * r)."
        )
    return a, b


def _arrange(
    stack: Stack, factors: Sequence[tuple[Tensor, Tensor]], config: PeftConfig
) -> tuple[list[str], bool, tuple[str, ...]]:
    """Parameters outermost first, whether A is on the side of the outputs, and what stays in doubt."""
    usual = nesting_order(stack.parameters)[::-1]
    version = config.version
    crossed = version is not None and version < STRAIGHT_SINCE
    widths = [(a.shape[1], b.shape[0]) for a, b in factors]
    orders = (usual, usual[::-1]) if len(usual) == 2 else (usual,)
    fits = [
        (order, cross)
        for order in orders
        for cross in (False, True)
        if _chain(order, [pair[::-1] if cross else pair for pair in widths])
    ]
    if len(fits) == 1:
        return *fits[0], ()
    doubts = [
        f"experts: the file does not tell which side of {stack.module!r} is the input; "
        f"{'the outputs are' if crossed else 'the inputs are'} taken to be A's, as peft "
        f"{'before' if crossed else 'since'} 0.19.1 does for most models"
    ]
    if len(usual) > 1 and any(name not in REGISTERED for name in usual):
        doubts.append(
            f"experts: the order of the wrappers of {stack.module!r} is taken to be {usual}"
        )
    return usual, crossed, tuple(doubts)


def _chain(parameters: Sequence[str], widths: Sequence[tuple[int, int]]) -> bool:
    """Whether (in, out) of an expert's fused first and last matrices fit: in = out', out = 2 in'."""
    sizes = dict(zip(parameters, widths, strict=True))
    if set(sizes) != {"gate_up_proj", "down_proj"}:
        return False
    (inputs, hidden_twice), (hidden, outputs) = sizes["gate_up_proj"], sizes["down_proj"]
    return inputs == outputs and hidden_twice == 2 * hidden


def _unpack(
    path: str, a: Tensor, b: Tensor, rank: int, factor: float, *, crossed: bool, where: str
) -> list[LowRank]:
    rows = a.shape[0]
    if rows % rank:
        raise FormatError(
            f"Reading the experts {path!r} of {where!r}: A has {rows} rows, expected a multiple of the rank "
            f"{rank} that adapter_config.json gives. Try: the configuration saved with this file."
        )
    experts = rows // rank
    check_rank(path, rank, where)
    if experts > MAX_EXPERTS:
        raise HostileFileError(
            f"Reading {path!r} of {where!r}: it holds {experts} experts, expected at most {MAX_EXPERTS}."
        )
    a_stack = a.reshape(experts, rank, -1).mT  # (E, in, r)
    b_stack = b.reshape(-1, rank, experts).permute(2, 0, 1)  # (E, out, r)
    u_stack, v_stack = (a_stack, b_stack) if crossed and experts > 1 else (b_stack, a_stack)
    u_stack = fold(u_stack, factor).contiguous()
    v_stack = v_stack.to(u_stack.dtype)
    return [LowRank(u, v.to(u.dtype)) for u, v in zip(u_stack, v_stack, strict=True)]
