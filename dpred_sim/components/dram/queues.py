"""Queues before the `banked` level: what a transaction queue and one queue a bank make of requests.

Requests come through one port, in order. Reads enter a transaction queue, writes a write buffer, of
`queue` bursts each; who finds his queue full waits at the port, and everybody behind him. From the
queues, chunks (at most `bank_queue` bursts of a bank, see shapes.py) move to their banks as soon as there is
room, also past others. Writes stay until their buffer is full (or a few more than a quarter of it are held
and the banks idle); then all of them move before any further read, so that a batch may break into a run
of reads. A few writes are left to wait until the channel has stood idle as long as a read would lose to them.

Nothing of this takes events: a chunk is handed to the model ahead of time, with the clock at which it moves,
as soon as its place in the order is known and no more than `window_bytes` are under way.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from dpred_sim.components.dram.banked import BankedModel
from dpred_sim.components.dram.controller import QUEUE, Request
from dpred_sim.components.dram.shapes import STEP, Piece, Run
from dpred_sim.errors import InputError

_NEVER = 1 << 62


class _Chunk:
    """A piece of a request on its way to its banks."""

    __slots__ = ("bursts", "clock", "entered", "piece", "request", "row")

    def __init__(self, request: Request, piece: Piece, row: int, clock: int) -> None:
        self.request = request
        self.piece = piece
        self.row = row
        self.bursts = piece.bursts
        self.clock = clock
        """Arrival; then acceptance; then when it moves to its banks."""
        self.entered = clock
        """When all of it has come through the port."""


class _Queue:
    """Chunks of one direction between port and banks.

    `leaving` holds those that were handed over ahead of time and are still here: from when to when they
    move, how many.
    """

    __slots__ = ("bursts", "chunks", "last", "leaving", "leaving_bursts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.chunks: list[_Chunk] = []
        self.bursts = 0
        self.leaving: list[tuple[int, int, int]] = []
        self.leaving_bursts = 0
        self.last = 0
        """From when on the last of all so far moves."""

    def accept(self, chunk: _Chunk, clock: int) -> int:
        """Let a chunk in from a clock on, as soon as there is room; returns when all of it is in.

        Fewer bursts than fit may wait here: when they will leave is not known.
        """
        self.purge(clock)
        leaving = self.leaving
        end = clock + chunk.bursts
        while leaving and self.bursts + self.leaving_bursts >= self.size:
            clock, left, bursts = heappop(leaving)
            self.leaving_bursts -= bursts
            end = max(left, clock + chunk.bursts)
        chunk.clock = clock
        chunk.entered = end
        self.chunks.append(chunk)
        self.bursts += chunk.bursts
        return end

    def leave(self, chunk: _Chunk, clock: int, end: int) -> None:
        """A chunk moves on from a clock on, all of it by `end`."""
        self.chunks.remove(chunk)
        self.bursts -= chunk.bursts
        chunk.clock = clock
        self.leaves(chunk.bursts, clock, end)

    def leaves(self, bursts: int, clock: int, end: int) -> None:
        """Bursts that move on from a clock on, all of them by `end`."""
        heappush(self.leaving, (clock, end, bursts))
        self.leaving_bursts += bursts
        if clock > self.last:
            self.last = clock

    def room_from(self, clock: int) -> int:
        """The first time from a clock on at which a burst may enter, with no chunk waiting here."""
        leaving, bursts = self.leaving, self.leaving_bursts
        while leaving and leaving[0][0] <= clock:
            bursts -= heappop(leaving)[2]
        self.leaving_bursts = bursts
        if bursts < self.size:
            return clock
        for leaves, _, count in sorted(leaving):
            clock = leaves
            bursts -= count
            if bursts < self.size:
                break
        return clock

    def purge(self, clock: int) -> None:
        """Forget what has left by a clock."""
        leaving = self.leaving
        while leaving and leaving[0][0] <= clock:
            self.leaving_bursts -= heappop(leaving)[2]


class QueueController:
    """Queues before one channel at the `banked` level; see controller.Controller. Times inside are clocks."""

    def __init__(
        self,
        model: BankedModel,
        *,
        queue: int = QUEUE,
        window_bytes: int | None = None,
        write_high_bytes: int | None = None,
        write_low_bytes: int | None = None,
    ) -> None:
        burst, standard, timing = model.burst_bytes, model.standard, model.standard.timing
        banks = standard.banks * standard.ranks
        self.model = model
        self.queue = queue
        self.window_bytes = (queue + STEP * banks) * burst if window_bytes is None else window_bytes
        self.write_high_bytes = queue * burst if write_high_bytes is None else write_high_bytes
        self.write_low_bytes = 0 if write_low_bytes is None else write_low_bytes
        if self.window_bytes < 1:
            raise InputError("the window must hold something", field="window", found=self.window_bytes)
        if not 0 <= self.write_low_bytes <= self.write_high_bytes:
            raise InputError("the low watermark is above the high one", field="write_low")
        self._low = self.write_low_bytes // burst
        self._patience = timing.CWL + timing.nBL + timing.tWTR_L + timing.tRP + timing.tRCDRD
        self._port: deque[tuple[Request, int, tuple[Run, ...], int]] = deque()
        """Requests with row offset, runs and clock of arrival."""
        self._port_writes = 0
        self._reading = True
        """All requests are reads that stand at the port, and so was the last."""
        self._head: deque[_Chunk] = deque()
        """Chunks of the request at the head of the port."""
        self._reads = _Queue(queue)
        self._writes = _Queue(max(1, self.write_high_bytes // burst))
        self._accept_at = 0
        self._draining = 0
        """Bursts that the present batch of writes is still to move."""
        self._floor = 0
        """Nothing moves before: reads wait for a batch, a batch for its start."""
        self._writing = False
        """Direction of the data bus."""
        self._pending: list[_Chunk] = []
        """With their banks, in order, but against the direction of the bus or behind such."""
        self._pending_bursts = [0] * banks
        self._room_at = [0] * banks
        """When the queue of each bank takes another burst."""
        self._alike: tuple[int, ...] = ()
        self._alike_at = 0
        """Banks whose queues take another burst at the same time, and that time, which is not entered."""
        self._held = [[0] * STEP for _ in range(banks)]
        """When each of its last bursts is issued."""
        self._pace = 0
        self._latency = (timing.CL + timing.nBL, timing.CWL + timing.nBL)
        self._last_issue = 0
        self._now_ps = -1
        self._clock = 0
        """The present, and its clock."""
        self._now = 0
        self._active = 0
        """When the last request came."""
        self.waiting = 0
        """Requests not yet handed over as a whole."""
        self._under_way: list[tuple[int, int, int]] = []
        self._under_way_bytes = 0
        self._ending = 0
        """Under way with a completion to come, which is when `advance` is called again."""
        self._slot = timing.tCCD_S
        self.wake_ps: int | None = None
        """When writes that are held are looked at again."""
        self._done: list[Request] = []

    def submit(self, now_ps: int, request: Request) -> None:
        """Queue a request."""
        model = self.model
        if now_ps != self._now_ps:
            self._now_ps, self._clock = now_ps, model.clock(now_ps)
        clock = self._clock
        row, runs = model.take(request.address, request.size_bytes, request.write)
        self.waiting += 1
        if clock > self._active:
            self._active = clock
        self._port.append((request, row, runs, clock))
        if request.write:
            self._port_writes += 1
            self._reading = False

    def _cut(self, request: Request, row: int, runs: tuple[Run, ...], clock: int) -> None:
        """Cut what is left of the request at the head of the port into chunks."""
        pieces = [piece for run in runs for piece in run.chunks]
        request.chunks = len(pieces)
        self._head.extend(_Chunk(request, piece, row + piece.row, clock) for piece in pieces)

    def _at_once(self, request: Request, run: Run, row: int, clock: int) -> bool:
        """Hand over a whole run of reads, if nothing in the queues could come between its chunks.

        Then the chunks would follow each other without a gap: each enters while the one before it is
        on its way, as the port takes a burst a clock and the data bus no more.
        """
        piece, reads, model = run.whole, self._reads, self.model
        banks, bursts = piece.banks, piece.bursts
        if clock < self._accept_at:
            clock = self._accept_at
        if reads.leaving_bursts >= reads.size:
            clock = reads.room_from(clock)
        moves = self._now if self._now > self._floor else self._floor
        if moves < clock:
            moves = clock
        if banks is self._alike:
            first_room = self._alike_at
        else:
            if self._alike:
                self._enter_alike()
            room_at = self._room_at
            first_room = room_at[banks[0]]
            for bank in banks:
                if room_at[bank] > moves:
                    moves = room_at[bank]
        if first_room > moves:
            moves = first_room
        if reads.last > moves:
            return False
        row += piece.row
        if (
            run.parted
            and piece.interleaved
            and (banks is not model.open_banks or row != model.open_row)
            and model.drift_apart(piece, row, False)
        ):
            return False
        end = model.place(piece, row, moves, False)
        issue = model.issue
        if request.accepted_ps < 0:
            request.accepted_ps = model.to_ps(clock)
        self._accept_at = clock + bursts
        if run.parted:
            # the last chunk moves when the one before it is issued
            slot, chunk, last = self._slot, run.first, run.last
            issue += (bursts - last) * slot
            if moves < issue - chunk * slot:
                moves = issue - chunk * slot
            reads.leaves(last, moves, moves + (chunk - 1) * slot)
        else:
            pace = self._pace if moves == first_room else bursts
            reads.leaves(bursts, moves, moves + pace)
        self._note(request, piece, issue, end)
        return True

    def _enter_alike(self) -> None:
        """Enter when the queues of banks that are alike take another burst."""
        for bank in self._alike:
            self._room_at[bank] = self._alike_at
        self._alike = ()

    def advance(self, now_ps: int) -> list[Request]:
        """Hand over what fits in the window; returns the requests handed over whole, with `end_ps`."""
        under_way = self._under_way
        while under_way and under_way[0][0] <= now_ps:
            _, size, last = heappop(under_way)
            self._under_way_bytes -= size
            self._ending -= last
        self.wake_ps = None
        if not self.waiting or (self._ending and self._under_way_bytes >= self.window_bytes):
            return []
        port = self._port
        if now_ps != self._now_ps:
            self._now_ps, self._clock = now_ps, self.model.clock(now_ps)
        self._now = self.model.present = self._clock
        while self._under_way_bytes < self.window_bytes or not self._ending:
            if port and self._reading:
                request, row, runs, clock = port.popleft()
                request.chunks = len(runs)
                for index, run in enumerate(runs):
                    if not self._at_once(request, run, row, clock):
                        self._cut(request, row, runs[index:], clock)
                        break
                else:
                    if port:
                        continue
                    break
            moved = self._step()
            self._reading = self._only_reads()
            if not moved:
                break
        done, self._done = self._done, []
        return done

    def _step(self) -> bool:
        """Let one chunk move, or the data bus turn; returns whether there was anything to do."""
        reads, writes = self._reads, self._writes
        if self._port or self._head:
            self._accept()
        if writes.bursts and not self._draining and self._batch():
            start = max(self._floor, writes.chunks[-1].entered)
            while self._move(reads, start):
                pass
            self._draining = writes.bursts - min(self._low, writes.bursts - 1)
            self._floor = start
        queue = writes if self._draining else reads
        if queue.chunks and self._move(queue):
            return True
        if not self._pending:
            return False
        self._turn()
        return True

    def _only_reads(self) -> bool:
        return not (
            self._port_writes
            or self._writing
            or self._head
            or self._reads.chunks
            or self._writes.chunks
            or self._pending
        )

    def _accept(self) -> None:
        """Let chunks through the port while their queues have room."""
        head = self._head
        while head or self._port:
            write = (head[0].request if head else self._port[0][0]).write
            queue = self._writes if write else self._reads
            if queue.bursts >= queue.size:
                return
            if not head:
                request, row, runs, clock = self._port.popleft()
                self._port_writes -= request.write
                self._cut(request, row, runs, clock)
            chunk = head[0]
            self._accept_at = queue.accept(chunk, max(chunk.clock, self._accept_at))
            if chunk.request.accepted_ps < 0:
                chunk.request.accepted_ps = self.model.to_ps(chunk.clock)
            head.popleft()

    def _batch(self) -> bool:
        """Whether the writes held are to be moved; notes when to look again."""
        writes = self._writes
        if writes.bursts >= writes.size:
            return True
        if self._reads.chunks or self._port or self._head or self._pending:
            return False
        if writes.bursts > self.queue // 4:
            at = self._last_issue
        else:
            at = max(self._last_issue, self._active) + self._patience
        if at <= self._now:
            return True
        self.wake_ps = self.model.to_ps(at)
        return False

    def _move(self, queue: _Queue, until: int = _NEVER) -> bool:
        """Let that chunk of a queue move to its banks that can do so first.

        Returns whether one can before `until`.
        """
        self._enter_alike()
        room_at, pending_bursts = self._room_at, self._pending_bursts
        best: _Chunk | None = None
        first = until
        earliest = max(self._floor, self._now)
        behind = False
        for chunk in queue.chunks:
            moves = chunk.clock if chunk.clock > earliest else earliest
            waits = False
            for share in chunk.piece.shares:
                bank = share.bank
                if room_at[bank] > moves:
                    moves = room_at[bank]
                if pending_bursts[bank]:
                    waits = True
                    if pending_bursts[bank] >= STEP:
                        moves = _NEVER
            if moves < first:
                first, best, behind = moves, chunk, waits
        if best is None:
            return False
        # bank by bank at the pace at which bursts before leave them, else one a clock
        pace = self._pace if first == room_at[best.piece.shares[0].bank] else best.bursts
        queue.leave(best, first, first + pace)
        if self._draining:
            self._draining -= best.bursts
            if self._draining <= 0:
                self._draining = 0
                self._floor = first + pace
        if behind or best.request.write is not self._writing:
            self._pending.append(best)
            for share in best.piece.shares:
                pending_bursts[share.bank] += share.bursts
        else:
            self._hand_over(best)
        return True

    def _turn(self) -> None:
        """Turn the data bus, for those that wait for that."""
        self._writing = not self._writing
        kept: list[_Chunk] = []
        blocked: set[int] = set()
        for chunk in self._pending:
            banks = [share.bank for share in chunk.piece.shares]
            if chunk.request.write is not self._writing or not blocked.isdisjoint(banks):
                blocked.update(banks)
                kept.append(chunk)
                continue
            for share in chunk.piece.shares:
                self._pending_bursts[share.bank] -= share.bursts
            self._hand_over(chunk)
        self._pending = kept

    def _hand_over(self, chunk: _Chunk) -> None:
        """Give a chunk to the model."""
        model, request = self.model, chunk.request
        end = model.place(chunk.piece, chunk.row, chunk.clock, request.write)
        self._pace = end - self._latency[request.write] - model.issue
        self._note(request, chunk.piece, model.issue, end)

    def _note(self, request: Request, piece: Piece, issue: int, end: int) -> None:
        """Enter what was given to the model: when its last chunk is issued, when its data ends."""
        if issue > self._last_issue:
            self._last_issue = issue
        model, bursts = self.model, piece.bursts
        if piece.fills:
            if piece.banks is not self._alike:
                self._enter_alike()
                self._alike = piece.banks
            self._alike_at = issue
        else:
            self._enter_alike()
            room_at = self._room_at
            for bank, _, count, _, _ in piece.shares:
                held = self._held[bank]
                if held[0] < room_at[bank]:
                    held = [room_at[bank]] * STEP
                held = self._held[bank] = [*held[count:], *([issue] * min(STEP, count))]
                room_at[bank] = held[0]
        end_ps = model.to_ps(end)
        size = bursts * model.burst_bytes
        if end_ps > request.end_ps:
            request.end_ps = end_ps
        request.chunks -= 1
        self._under_way_bytes += size
        if request.chunks:
            heappush(self._under_way, (end_ps, size, False))
        else:
            heappush(self._under_way, (request.end_ps, size, True))
            self.waiting -= 1
            self._ending += 1
            self._done.append(request)
