"""No-op: a raw ASGI app that reads the body and answers `{}`, on Serve beside the gateway and under plain uvicorn."""

import logging
from typing import Any

from cluster.config import Settings

ROUTE = "/raw-no-op"


class RawNoOp:
    """Does nothing, with as little around it as Serve allows."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            for what in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{what}.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


def deploy_no_op(settings: Settings) -> None:
    """Deploy it beside the gateway, with the gateway's settings."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    deployment = serve.deployment(
        serve.ingress(RawNoOp())(),
        name="raw-no-op",
        num_replicas=settings.placement.gateway_replicas,
        max_ongoing_requests=settings.bounds.ongoing_requests_max,
        max_queued_requests=settings.bounds.queued_requests_max,
        ray_actor_options={"num_cpus": settings.placement.gateway_cpus},
    )
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    serve.run(deployment.bind(), name="raw-no-op", route_prefix=ROUTE, logging_config=quiet)
