"""Any history of writes, views, flushes and crashes, against plain dictionaries."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.store.memory import MemoryStore

KEYS = st.binary(min_size=1, max_size=2)
ROWS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=3)), max_size=8)


class StoreMachine(RuleBasedStateMachine):
    """`states` holds what the store was after each write since the last flush."""

    def __init__(self):
        super().__init__()
        self.store = MemoryStore()
        self.states = [{}]
        self.views = []

    @rule(rows=ROWS)
    def write(self, rows):
        state = dict(self.states[-1])
        for key, value in rows:
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        self.store.write(rows)
        self.states.append(state)

    @rule()
    def open_view(self):
        self.views.append((self.store.view(), dict(self.states[-1])))

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def close_view(self, data):
        view, _ = self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))
        view.close()

    @rule(start=KEYS, end=KEYS, reverse=st.booleans())
    def scan_views(self, start, end, reverse):
        for view, state in self.views:
            expected = sorted(row for row in state.items() if start <= row[0] < end)
            found = list(view.scan(start, end, reverse=reverse))
            assert found == (expected[::-1] if reverse else expected)

    @rule(key=KEYS)
    def get(self, key):
        assert self.store.get(key) == self.states[-1].get(key)
        for view, state in self.views:
            assert view.get(key) == state.get(key)

    @rule()
    def flush(self):
        self.store.flush()
        del self.states[:-1]

    @rule(data=st.data())
    def crash(self, data):
        assert self.store.unflushed == len(self.states) - 1
        surviving = data.draw(st.integers(0, self.store.unflushed))
        self.store = self.store.crash(surviving)
        self.states = [self.states[surviving]]
        self.views = []

    @invariant()
    def equals_the_model(self):
        view = self.store.view()
        assert dict(view.scan(b"", b"\xff\xff\xff")) == self.states[-1]
        view.close()


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemoryStore = StoreMachine.TestCase
