"""Ray Serve's choice of a replica, by `affinity.py`: the home of a request's key, while it has room.

Ray asks the ranks in turn and takes the first replica that runs fewer than `max_ongoing_requests`: a picture
that everybody asks about spreads over others instead of queueing at its home. Imported by Ray by name.
"""

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from deployer.ray_serve.affinity import ranked
from deployer.ray_serve.messages import Asked


class AffinityRouter(RequestRouter):  # type: ignore[misc]  # Ray need not be installed
    """Ranks replicas for a request; those that have failed it come last."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas in groups, the best first; within a group the idlest is taken."""
        asked = pending_request.args[0] if pending_request is not None and pending_request.args else None
        if not isinstance(asked, Asked):
            return [candidate_replicas]
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        fresh = [name for name in by_name if name not in asked.avoid]
        tired = [name for name in by_name if name in asked.avoid]
        if asked.key is None:
            groups = [fresh, tired]
        else:
            groups = [[name] for name in (*ranked(asked.key, fresh), *ranked(asked.key, tired))]
        return [[by_name[name] for name in group] for group in groups if group]
