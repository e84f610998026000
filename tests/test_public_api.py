"""The public names are few, sorted, and all there."""

import engine


def test_public_names_are_sorted_and_few() -> None:
    assert engine.__all__ == sorted(engine.__all__)
    assert len(engine.__all__) <= 15
    for name in engine.__all__:
        assert hasattr(engine, name)
