//! Seeds that found something once. Each runs at every commit. What a seed does changes with the
//! simulator and the product, so that one of these need not lead to the same place again; what it
//! found stands beside it.

/// A seed, and what it found.
pub const KEPT: &[(u64, &str)] = &[
    (
        1,
        "I10: a verdict that came while a node promoted itself was never applied",
    ),
    (
        27,
        "I5: a directory was at the target twice, and the parked one was filled",
    ),
    (
        62,
        "V8: an intent that was given up became an epoch after all",
    ),
    (
        182,
        "I10: a follower kept marks warm that it had no use for",
    ),
    (
        219,
        "I10: marks without an identity were refused in every pass",
    ),
    (
        321,
        "I6: a file left a deep directory, and what had been cut off was not marked",
    ),
    (
        376,
        "I6: a file had come into a deep directory, and a power cut put it back where it was",
    ),
    (
        1374,
        "I5: the target's deep mark did not follow its file to another directory",
    ),
    (
        1914,
        "I5: what was new in a directory was placed in its parked twin",
    ),
    (1980, "I5: links were placed in a parked twin"),
    (
        2057,
        "I4: a node whose record could not be written answered alone on its way down",
    ),
    (
        2264,
        "I10: no checkpoint took the follower's marks, for the server had none",
    ),
    (
        2890,
        "I10: a directory that was refused was refused in every later pass",
    ),
    (
        4643,
        "I6: a failed flush left pages that only the page cache had",
    ),
    (
        8131,
        "I12: a stop was never answered when the peer had gone on meanwhile",
    ),
    (
        9986,
        "the oracle took a change that nobody shipped for newer than the source's",
    ),
    (
        4_627_295_699_541_307_985,
        "the simulated file system did not sync a file that was removed meanwhile",
    ),
    (
        5_447_345_207_471_709_787,
        "I5: a marked directory was at another key, for a resync had made it anew",
    ),
    (
        9_027_991_013_937_954_913,
        "I10: as 2890, with everything marked",
    ),
    (11_112_189_280_593_461_517, "I6: as 4643"),
    (15_722_805_080_421_198_309, "I5: as 1374"),
    (
        4812,
        "I6: a resync was interrupted after it had moved a file out of a deep directory",
    ),
    (
        6200,
        "the oracle took a node for stale that its peer had called so while they were apart",
    ),
    (
        21344,
        "the oracle asked for what one node's power cut and the other's full disk had lost",
    ),
    (
        27302,
        "I3: a node that was stopped while the roles changed sides opened its gate on waking",
    ),
    (
        300_068,
        "I5: what was renamed between the two nodes' marks was taken for gone",
    ),
    (
        302_720,
        "I10: the witness held a branch that its operator had given up",
    ),
    (
        158_662_888_030_051_647,
        "I6: a flush that failed was forgotten, and a checkpoint dropped marks",
    ),
    (
        3_581_219_145_147_249_396,
        "I5: a file with several names was marked by one that the source lacked",
    ),
    (
        3_581_219_145_147_250_612,
        "I6: everything was marked, but not durably, when a file left a deep directory",
    ),
];
