"""Which policies are worth asking together, and which are better asked alone.

One pass of a stack costs about as much as asking six policies one after another, however many it answers for; a policy
that is asked about many series is quicker by its own graph (``python -m benchmarks.policy_stack``).
"""

from collections import defaultdict
from collections.abc import Iterable

from rl.policies.exported import ExportedPolicy
from rl.policies.protocol import JointPolicies, Policy

LEAST_POLICIES = 8
MOST_SERIES = 256


def make_stacks(policies: Iterable[Policy]) -> tuple[JointPolicies, ...]:
    """A stack of each architecture that enough of these policies share; the others are asked alone."""
    alike: defaultdict[object, dict[int, ExportedPolicy]] = defaultdict(dict)
    for policy in policies:
        if isinstance(policy, ExportedPolicy) and policy.architecture is not None:
            alike[policy.architecture][id(policy)] = policy
    enough = [list(members.values()) for members in alike.values() if len(members) >= LEAST_POLICIES]
    if not enough:
        return ()
    from rl.policies.stacked import PolicyStack  # here: torch, which a shop of few categories does without

    return tuple(PolicyStack(members) for members in enough)
