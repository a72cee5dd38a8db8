"""What two failures have in common decides whether they are one kind."""

import pytest

from eo_tasks.fingerprint import LONGEST_TEMPLATE, Fingerprint, fingerprint

ONE_KIND = {
    "cells and years": [
        "SourceError: Cell 463, 2021: job j-7 failed: credits exhausted",
        "SourceError: Cell 1041, 2023: job j-7 failed: credits exhausted",
    ],
    "pairs of years": [
        "RasterError: Cell 463, 2021–2022: the two years lie on different pixel grids",
        "RasterError: Cell 9, 2022–2023: the two years lie on different pixel grids",
    ],
    "a year and a pair of years": [
        "StorageError: Cell 463, 2021: no room",
        "StorageError: Cell 9, 2022–2023: no room",
    ],
    "cells named twice": [
        "CheckpointError: Cell 463, 2021–2022: Cell 463, 2021: no such folder",
        "CheckpointError: Cell 464, 2021–2022: no such folder",
    ],
    "cells by their labels": [
        "GridError: Cell SI_000463, 2021: outside",
        "GridError: Cell SI_000007, 2022: outside",
    ],
    "numbers": [
        "SourceError: waited 1800 s for 12 scenes, 3.5 credits",
        "SourceError: waited 900 s for 7 scenes, 14.25 credits",
    ],
    "times": [
        "SourceError: refused at 12:01:59",
        "SourceError: refused at 23:00:00",
    ],
    "urls": [
        "SourceUnavailableError: https://a.example/jobs/1?x=2 does not answer",
        "SourceUnavailableError: http://b.example:8080/collections does not answer",
    ],
    "quoted text": [
        "SourceError: the service says 'no such band: B99', \"B99\", «B99»",
        "SourceError: the service says 'quota', \"try later\", «—»",
    ],
    "paths": [
        "StorageError: cannot write /data/images/2021/sentinel2_grid_463_2021_08.tiff: no room",
        "StorageError: cannot write /mnt/store/eo/: no room",
    ],
    "hashes": [
        "CheckpointError: weights are deadbeef0123456789abcdef, not as published",
        "CheckpointError: weights are 0a1b2c3d4e5f60718293a4b5, not as published",
    ],
    "ids of requests": [
        "SourceError: request 6f9619ff-8b86-d011-b42d-00cf4fc964ff was refused",
        "SourceError: request 123e4567-e89b-12d3-a456-426614174000 was refused",
    ],
    "ids of jobs": [
        "SourceError: job j-2401018d2f274bfa9a3c failed",
        "SourceError: job j-9f1e0d2c3b4a59687766 failed",
    ],
    "blanks and line ends": [
        "SourceError: out of\n   memory",
        "SourceError: out of memory",
    ],
}


@pytest.mark.parametrize("what", ONE_KIND)
def test_failures_that_differ_only_in_what_varies_are_one_kind(what):
    first, second = (fingerprint(error) for error in ONE_KIND[what])
    assert first == second
    assert first.id == second.id


@pytest.mark.parametrize(
    "other",
    [
        "StorageError: job j-7 failed: credits exhausted",
        "SourceError: job j-7 was canceled: credits exhausted",
        "SourceError: job j-7 failed: credits exhausted today",
    ],
)
def test_class_and_wording_make_another_kind(other):
    known = fingerprint("SourceError: Cell 463, 2021: job j-7 failed: credits exhausted")
    assert fingerprint(other) != known
    assert fingerprint(other).id != known.id


@pytest.mark.parametrize(
    ("error", "template"),
    [
        ("SourceError: Cell 463, 2021: job j-77 failed: credits exhausted", "job j-# failed: credits exhausted"),
        ("SourceUnavailableError: https://a.example/x: 503 Busy", "<url> # Busy"),
        ("StorageError: /data/images/2021 is full", "<path> is full"),
        ("SourceError: no band 'B99' in the collection", "no band <text> in the collection"),
        ("ZeroDivisionError: division by zero", "division by zero"),
        ("SystemError", ""),
    ],
)
def test_a_template_says_what_happened_without_what_varies(error, template):
    found = fingerprint(error)
    assert (found.error_class, found.template) == (error.partition(":")[0], template)


def test_words_that_look_like_hexadecimal_stay_as_they_are():
    assert fingerprint("SourceError: defaced facade") == Fingerprint("SourceError", "defaced facade")


def test_a_share_or_a_lonely_slash_is_no_path():
    assert fingerprint("SourceError: and/or 1/2").template == "and/or #/#"


def test_a_template_is_cut_so_that_endless_messages_are_one_kind():
    start = "SourceError: " + "x" * LONGEST_TEMPLATE
    assert len(fingerprint(start + "yyy").template) == LONGEST_TEMPLATE
    assert fingerprint(start + "yyy") == fingerprint(start + "zzz and more")


def test_the_id_of_a_kind_is_the_same_in_every_process_and_version():
    error = "SourceError: Cell 463, 2021: job j-7 failed: credits exhausted"
    assert fingerprint(error).id == "47919dca"  # printf 'SourceError: job j-# failed: credits exhausted' | sha256sum
