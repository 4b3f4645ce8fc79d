"""Contract checks: what a backward must keep besides giving the right numbers.

Each is a function of a subject and a context, and gives one result, or one for each tensor that it finds
wrong. A check that does not apply to a subject says why, and one that could not decide is undecided; neither
is a pass.
"""

from __future__ import annotations

from collections.abc import Mapping

from nn_from_scratch.verify.contracts.baseline import ContractCheck
from nn_from_scratch.verify.contracts.batch import batch_consistency, other_shapes
from nn_from_scratch.verify.contracts.cotangent import linear_cotangent, missing_cotangent
from nn_from_scratch.verify.contracts.determinism import determinism
from nn_from_scratch.verify.contracts.form import gradient_form, other_device, reference_value
from nn_from_scratch.verify.contracts.layouts import cotangent_layouts, input_layouts
from nn_from_scratch.verify.contracts.memory import no_aliasing, records_freed, unmodified
from nn_from_scratch.verify.contracts.passes import (
    accumulation,
    backward_twice,
    tensor_used_twice,
    two_forwards,
)
from nn_from_scratch.verify.contracts.precision import low_precision
from nn_from_scratch.verify.contracts.recording import copies, frozen_slots, without_recording
from nn_from_scratch.verify.contracts.special import hidden_infinities, special_values

__all__ = ["CONTRACTS", "ContractCheck"]

# In the order in which they run: the value first, then what a single backward must keep, then several of
# them.
CONTRACTS: Mapping[str, ContractCheck] = {
    "reference_value": reference_value,
    "determinism": determinism,
    "gradient_form": gradient_form,
    "unmodified": unmodified,
    "linear_cotangent": linear_cotangent,
    "missing_cotangent": missing_cotangent,
    "cotangent_layouts": cotangent_layouts,
    "input_layouts": input_layouts,
    "no_aliasing": no_aliasing,
    "two_forwards": two_forwards,
    "backward_twice": backward_twice,
    "accumulation": accumulation,
    "tensor_used_twice": tensor_used_twice,
    "frozen_slots": frozen_slots,
    "without_recording": without_recording,
    "records_freed": records_freed,
    "copies": copies,
    "batch_consistency": batch_consistency,
    "other_shapes": other_shapes,
    "special_values": special_values,
    "hidden_infinities": hidden_infinities,
    "low_precision": low_precision,
    "other_device": other_device,
}
