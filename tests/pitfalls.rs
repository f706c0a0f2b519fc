//! What implementers of RFC 8684 get wrong, row by row: each has tests that bear its number, beside the code that they are
//! about. Here is the list, and the check that none is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rows, in our own words.
const PITFALLS: [&str; 50] = [
    "MP_CAPABLE has the lengths of version 1, and no key on the SYN",
    "the keys are repeated on the first data until it is acknowledged",
    "keys, mapping and checksum of MP_CAPABLE are encoded side by side",
    "nothing is acknowledged as data before the peer's key is known",
    "unknown flags and versions mean TCP, but for a higher version on the SYN",
    "either side's flag A has checksums used in both directions",
    "flag C: the first address and port of the peer is not joined",
    "a SYN that is sent again without the option makes plain TCP of it",
    "a token is unique at its host",
    "token and first data sequence number are the right ends of the digest",
    "each HMAC is cut at its own end",
    "the three forms of MP_JOIN have their lengths",
    "the third ACK of a join has no address id",
    "no data before the third ACK of a join is acknowledged",
    "an unknown token or a wrong HMAC is reset with its reason",
    "a joined subflow that loses its options is reset alone",
    "the first subflow that loses them early falls back, if it is the only one there ever was",
    "a signal alone confirms a join, and not the first subflow",
    "ADD_ADDR is echoed without an HMAC, and repeated until then",
    "an address without a port has that of the subflow which told of it",
    "ADD_ADDR goes out on an ACK of its own",
    "timestamps give way where the options need their room",
    "an announced address counts once a subflow to it is established",
    "an id with another address: behind a NAT, or its removal was lost",
    "REMOVE_ADDR is a list",
    "the address of the first subflow is removed as id 0",
    "nothing is signalled on the path that dies",
    "a removal asks the path first, and unknown ids are ignored",
    "whatever was announced or joined from is withdrawn",
    "backup as we ask for it and as the peer does are two things",
    "a backup carries data only when nothing else can",
    "numbers of 32 bits wrap",
    "the checksum and MP_FAIL have 64 bits of the data sequence number",
    "bytes of two mappings are never taken together",
    "bytes that come twice count once",
    "a wrong checksum resets one of several subflows, and has the only one fall back",
    "an infinite mapping begins before what was received",
    "the two directions fall back apart, and joins do not come in between",
    "the window goes on after falling back",
    "a DATA_FIN is repeated until it is acknowledged, and takes one number",
    "a DATA_FIN is taken in each of its forms",
    "FIN and RST of a subflow are not the connection's",
    "a fast close names the peer's key, and is more than a RST",
    "one window for all subflows, counted from the DATA_ACK, that never moves back",
    "what times out is sent again elsewhere, and where it was",
    "reordering between subflows is no loss",
    "a port for joins refuses connections",
    "SYNs that are dropped for their option are sent again without it",
    "a connection without a subflow waits for a join",
    "no join before a DSS has come",
];

/// The names of all tests in the source at `path` and below.
fn tests_below(path: &Path, found: &mut BTreeSet<String>) {
    for entry in
        fs::read_dir(path).expect("a folder of this package").map(|entry| entry.expect("an entry").path())
    {
        if entry.is_dir() {
            tests_below(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&entry).expect("a source file");
            found.extend(tests_in(&source));
        }
    }
}

/// The names of the functions that `#[test]` stands in front of.
fn tests_in(source: &str) -> impl Iterator<Item = String> + '_ {
    source.split("#[test]").skip(1).filter_map(|behind| {
        let (_, name) = behind.split_once("fn ")?;
        Some(name.split('(').next()?.trim().to_owned())
    })
}

#[test]
fn every_row_has_a_test_that_bears_its_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    ["src", "tests"].iter().for_each(|folder| tests_below(&root.join(folder), &mut tests));
    let mut rows: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for name in tests.iter().filter_map(|name| name.strip_prefix("pitfall_")) {
        let (row, _) = name.split_once('_').expect("a number and then words");
        let row = row.parse().unwrap_or_else(|_| panic!("pitfall_{name} has no number"));
        rows.entry(row).or_default().push(name);
    }
    for (index, title) in PITFALLS.iter().enumerate() {
        let row = index + 1;
        let names = rows.remove(&row).unwrap_or_default();
        assert!(!names.is_empty(), "no test is called pitfall_{row:02}_…: {title}");
        println!("{row:2} {title}");
        names.iter().for_each(|name| println!("     pitfall_{name}"));
    }
    assert!(rows.is_empty(), "tests of rows that do not exist: {rows:?}");
}

#[test]
fn only_tests_are_found() {
    let source = "#[test]\nfn one() {}\nfn two() {}\n#[test]\n#[ignore]\npub(super) fn three_4() {}";
    assert_eq!(tests_in(source).collect::<Vec<_>>(), ["one", "three_4"]);
}
