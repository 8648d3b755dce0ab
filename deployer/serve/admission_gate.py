"""ASGI layer that holds work (POST of clients) to an `Admission`.

A request counts from the last byte of its body to the last byte of its answer; where there is no place it is
refused at its head, before its body is read.
"""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from deployer.serve.admission import Admission
from deployer.serve.api_errors import ApiError, ApiFault
from deployer.serve.api_keys import is_served_work
from deployer.serve.arrivals import Arrivals
from deployer.serve.request_record import record_in


class AdmissionGate:
    """Takes a place for each request, and gives it back."""

    def __init__(self, app: ASGIApp, *, admission: Admission, arrivals: Arrivals) -> None:
        self.app = app
        self.admission = admission
        self.arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not is_served_work(scope["path"]):
            await self.app(scope, receive, send)
            return
        record = record_in(scope)
        qos = record.qos = self.admission.classes.name_of(record.qos)
        refusal = self.admission.refusal(qos)
        if refusal is not None:
            await self._refuse(refusal, scope, receive, send)
            return
        try:
            receive = await self.arrivals.whole(scope, receive)
        except ApiError as error:
            record.error = error.fault.code
            await error.fault.response(record.path, request_id=record.id)(scope, receive, send)
            return
        entered_s = self.admission.try_enter(qos)
        if isinstance(entered_s, ApiFault):
            await self._refuse(entered_s, scope, receive, send)
            return
        await self._admitted(scope, receive, send, qos, entered_s=entered_s)

    async def _refuse(self, refusal: ApiFault, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_in(scope)
        record.error = refusal.code
        if self.admission.latency is not None:
            self.admission.latency.was_full()
        await refusal.response(record.path, request_id=record.id)(scope, receive, send)

    async def _admitted(
        self, scope: Scope, receive: Receive, send: Send, qos: str | None, *, entered_s: float
    ) -> None:
        record = record_in(scope)
        request = asyncio.current_task()
        assert request is not None, "ASGI applications run in a task"
        self.admission.requests.add(request)
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            fault = self.admission.dropped()
            if fault is None or record.status != 0:
                raise
            request.uncancel()
            record.error = fault.code
            await fault.response(record.path, request_id=record.id)(scope, receive, send)
        finally:
            self.admission.requests.discard(request)
            self.admission.leave(entered_s, qos)
            if self.admission.latency is not None:
                self.admission.latency.ended(
                    entered_s=entered_s, ttft_s=record.ttft_s, token_s=record.token_s
                )
