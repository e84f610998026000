"""Two hosts that are told the same: Python's, which says what is right, and the one in WASM."""

from dataclasses import asdict

from host_world import NAMING, World

from engine import wire


class Twins:
    """One partition twice; whatever one of them says differently is found at once."""

    def __init__(self, application):
        self.worlds = [World(NAMING[name], application) for name in ("python", "wasm")]

    @property
    def python(self):
        return self.worlds[0]

    def decide(self, *values, key=None):
        """Decide a batch, unconfirmed; all that comes of it is equal."""
        _, decided = (world.decide(*values, key=key) for world in self.worlds)
        self._compare()
        return decided

    def _compare(self):
        ours, theirs = (world.flights[-1] for world in self.worlds)
        for name in ("outcomes", "workspaces", "ids", "command_times", "rows", "done"):
            assert shown(name, ours) == shown(name, theirs)
        assert asdict(ours.state) == asdict(theirs.state)
        assert nonzero(ours.digests) == nonzero(theirs.digests)
        assert told(ours) == told(theirs)

    def confirm(self):
        """Confirm the oldest batch."""
        for world in self.worlds:
            world.confirm()
        self.same_rows()

    def discard(self):
        for world in self.worlds:
            world.discard()
        self.forget()

    def restart(self):
        for world in self.worlds:
            world.restart()
        self.forget()

    def forget(self):
        """What was not confirmed is decided again by nobody: the log never had it."""
        for world in self.worlds:
            world.flights = []

    def settle(self):
        while self.python.flights:
            self.confirm()

    def same_rows(self):
        assert self.worlds[0].rows() == self.worlds[1].rows()
        ours, theirs = (nonzero(world.ledger.digests) for world in self.worlds)
        assert ours == theirs

    def replayed(self, sizes=(1, 3, 50)):
        """Fold the log anew on both; the rows are those that deciding has left."""
        self.settle()
        log, after = self.python.log, self.python.rows()
        for world in self.worlds:
            fresh = World(world.make_host, world.application)
            at, turn = 0, 0
            while at < len(log):
                size = sizes[turn % len(sizes)]
                fresh.fold(log[at : at + size])
                at, turn = at + size, turn + 1
            assert fresh.rows() == after
            assert nonzero(fresh.ledger.digests) == nonzero(world.ledger.digests)
            fresh.host.close()

    def fast(self):
        """Return how many commands the fast lane has decided since the last restart."""
        return self.worlds[1].host.statistics()["fast"]

    def close(self):
        for world in self.worlds:
            world.host.close()


def nonzero(digests):
    """Return digests as they are modulo 2**64: hosts cut a batch into different passes."""
    return {table: wire.signed64(digest) for table, digest in digests.items() if digest}


def told(decided):
    """Return refusals and what senders asked for, in the order of their commands."""
    return [asdict(reply) for reply in decided.replies]


def batches(values, sizes):
    """Cut commands into batches."""
    at, found = 0, []
    for size in sizes:
        found.append(values[at : at + size])
        at += size
    found.append(values[at:])
    return [batch for batch in found if batch]


def shown(name, decided):
    """Return a part of what was decided, outcomes readable where they differ."""
    part = getattr(decided, name)
    return [wire.decode_outcome(value) for value in part] if name == "outcomes" else part
