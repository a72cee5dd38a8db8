"""A real openEO backend and STAC API over synthetic scenes, for tests."""
