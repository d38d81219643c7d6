"""Heartbeats of a fast loop: some are said, most are left."""

import time

from cvntrade_assets.assets.pulse import Pulse


def test_a_pulse_says_at_most_one_message_in_so_many_seconds(monkeypatch):
    clock, said = iter([0.0, 9.9, 10.0, 10.1, 19.9, 20.0, 45.0, 45.1]), []
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    pulse = Pulse(said.append, 10.0)
    for moment in ("9.9", "10.0", "10.1", "19.9", "20.0", "45.0", "45.1"):
        pulse(moment)
    assert said == ["10.0", "20.0", "45.0"]
