//! The architecture, checked: a module imports only from those before it, nothing above the sans-IO line knows of the
//! operating system, time enters at one place, and unsafe code stays where it was let in.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, each allowed to import from those before it.
const ORDER: [&str; 16] = [
    "base", "wire", "cc", "tcp", "mptcp", "stack", "pm", // the sans-IO line
    "port", "worker", "xdp", "sim", "runtime", "observe", "app", "lab", "cli",
];
/// How many of them are above the sans-IO line.
const ABOVE_THE_LINE: usize = 7;
/// Modules that never meet, though their order would allow it.
const STRANGERS: [(&str, &str); 1] = [("xdp", "sim")];
/// The crate's roots, which know everything.
const ROOTS: [&str; 2] = ["lib.rs", "main.rs"];

/// Where unsafe code may be.
const UNSAFE_ALLOWED: [&str; 4] = ["xdp/", "base/pool.rs", "wire/checksum.rs", "wire/checksum/tests.rs"];
/// Where it may be below tests/ and bench/: to leave the network namespace, and between packetdrill, a C program, and its
/// shim, built as an example. There pointers are made slices and numbers, and nothing else is done.
const UNSAFE_ALLOWED_OUTSIDE: [&str; 6] = [
    "tests/xdp.rs",
    "tests/memlock.rs",
    "bench/raw.rs",
    "tests/packetdrill/table.rs",
    "tests/packetdrill/preload.rs",
    "tests/packetdrill/main.rs",
];
/// Where time comes from.
const CLOCK: &str = "runtime/clock.rs";
/// What reads a clock.
const CLOCKS: [&str; 4] = ["Instant::now", "SystemTime::now", "UNIX_EPOCH", "clock_gettime"];
/// What the core must not know: threads, sockets, files, time, chance, and the crates that give them.
const OUTSIDE_WORLD: [&str; 16] = [
    "std::thread",
    "std::process",
    "std::fs",
    "std::env",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "rustix",
    "libc",
    "getrandom",
    "libbpf_rs",
    "xsk_rs",
    "netlink_",
];

/// Everything in `source`, the file at `path` below src/, that breaks a rule.
fn violations(path: &str, source: &str) -> Vec<String> {
    let code = without_comments_and_strings(source);
    let mut found = Vec::new();
    if !ROOTS.contains(&path) {
        found.extend(import_violations(path, &code));
    }
    if path == "lib.rs" && !places(&code).is_sorted() {
        found.push(format!("{path}: modules out of order; it is {ORDER:?}"));
    }
    if path != CLOCK {
        let clocks = CLOCKS.iter().filter(|name| code.contains(*name));
        found.extend(clocks.map(|name| format!("{path}: {name}; only {CLOCK} reads a clock")));
    }
    if !UNSAFE_ALLOWED.iter().any(|place| path.starts_with(place))
        && words(&code).any(|word| word == "unsafe")
    {
        found.push(format!("{path}: unsafe code; it belongs into {UNSAFE_ALLOWED:?}"));
    }
    found
}

fn import_violations(path: &str, code: &str) -> Vec<String> {
    let module = path.split(['/', '.']).next().expect("split gives at least one part");
    let Some(place) = ORDER.iter().position(|name| *name == module) else {
        return vec![format!("{path}: the module {module} is not in the list of DESIGN §3 and of this test")];
    };
    let mut found = Vec::new();
    for import in imports(path, code) {
        let other = ORDER.iter().position(|name| *name == import);
        let stranger = STRANGERS.iter().any(|pair| *pair == (module, &import) || *pair == (&import, module));
        // A lower-case name that is no module is a macro or a function of lib.rs; there are none.
        if other.is_none_or(|other| other > place) || stranger {
            found.push(format!("{path}: {module} must not import from {import}"));
        }
    }
    if place < ABOVE_THE_LINE && !is_test_file(path) {
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code);
        let world = OUTSIDE_WORLD.iter().filter(|name| code.contains(*name));
        found.extend(world.map(|name| format!("{path}: {name} above the sans-IO line")));
    }
    found
}

/// Where the modules that `code` declares stand in the list; 0 for those that aren't in it.
fn places(code: &str) -> Vec<usize> {
    let names =
        code.match_indices("pub mod ").map(|(at, text)| first_names(&code[at + text.len()..]).remove(0));
    names.map(|name| ORDER.iter().position(|known| *known == name).map_or(0, |place| place + 1)).collect()
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The crate's modules that `code` names: after `crate::`, and after as many `super::` as lead out of the module.
fn imports(path: &str, code: &str) -> Vec<String> {
    let nested = path.split('/').count() - usize::from(path.ends_with("/mod.rs"));
    let climb = "super::".repeat(nested);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !ends_a_word(&code[..at]) {
            found.extend(first_names(&code[at + "crate::".len()..]));
        }
    }
    for (at, _) in code.match_indices(&climb) {
        let name = first_names(&code[at + climb.len()..]);
        found.extend(name.into_iter().filter(|name| ORDER.contains(&name.as_str())));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The first name of each path in `a::b`, or in `{a::b, c}`.
fn first_names(code: &str) -> Vec<String> {
    let name = |text: &str| words(text).next().unwrap_or_default().to_owned();
    let Some(group) = code.strip_prefix('{') else { return vec![name(code)] };
    let (mut depth, mut names, mut start) = (0_usize, Vec::new(), 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn ends_a_word(text: &str) -> bool {
    text.ends_with(is_of_word)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter| !is_of_word(letter)).filter(|word| !word.is_empty())
}

/// What is left of `source` without line comments, block comments, and what stands in strings.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(letter) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(after) =
            after_raw_string(rest).filter(|_| !ends_a_word(code.strip_suffix('b').unwrap_or(&code)))
        {
            rest = after;
            code.push_str("\"\"");
        } else if letter == '"' {
            rest = after_string(&rest[1..]);
            code.push_str("\"\"");
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            // A quotation mark as a character.
            rest = rest.split_once("\"'").map_or("", |(_, after)| after);
        } else {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    code
}

/// What follows a string whose opening quotation mark was taken.
fn after_string(text: &str) -> &str {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '"' if !escaped => return &text[at + 1..],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    ""
}

/// What follows the raw string that `text` begins with, if it begins with one.
fn after_raw_string(text: &str) -> Option<&str> {
    let marks = text.strip_prefix('r')?;
    let inside = marks.trim_start_matches('#');
    let close = format!("\"{}", &marks[..marks.len() - inside.len()]);
    Some(inside.strip_prefix('"')?.split_once(&close).map_or("", |(_, after)| after))
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_code_keeps_to_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 20, "only {} files below {}", files.len(), root.display());
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        found.extend(violations(path, &fs::read_to_string(&file).unwrap()));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn tests_and_benches_have_no_unsafe_code_but_the_shim_of_packetdrill() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["tests", "bench"].iter().for_each(|folder| rust_files(&root.join(folder), &mut files));
    assert!(files.len() > 10, "only {} files", files.len());
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        let code = without_comments_and_strings(&fs::read_to_string(&file).unwrap());
        let allowed = UNSAFE_ALLOWED_OUTSIDE.contains(&path);
        assert!(allowed || words(&code).all(|word| word != "unsafe"), "{path}: unsafe code");
    }
}

#[test]
fn wrong_lines_are_caught() {
    for (path, line) in [
        ("wire/tcp.rs", "use crate::stack::message::Command;"),
        ("tcp/recv.rs", "use crate::{base::SeqNum, mptcp::Path};"),
        ("tcp/recv.rs", "fn f() { crate::worker::turn() }"),
        ("tcp/recv.rs", "use super::super::worker::Worker;"),
        ("cc.rs", "use super::tcp::Tcb;"),
        ("stack/mod.rs", "use crate::port::Port;"),
        ("sim/net.rs", "use crate::xdp::Xdp;"),
        ("xdp/umem.rs", "use crate::sim::Pipe;"),
        ("xdp/umem.rs", "use crate::runtime::Clock;"),
        ("app/perf/mod.rs", "use crate::cli::main;"),
        ("base/time.rs", "let now = std::time::Instant::now();"),
        ("app/perf/mod.rs", "let now = Instant::now();"),
        ("mptcp/connection.rs", "use std::net::{TcpStream, SocketAddr};"),
        ("mptcp/connection.rs", "getrandom::fill(&mut key);"),
        ("mptcp/connection.rs", "let x = unsafe { *p };"),
        ("runtime/mod.rs", "unsafe fn f() {}"),
        ("lib.rs", "pub mod wire;\n\npub mod base;"),
        ("lib.rs", "pub mod wire;\n\npub mod newcomer;"),
        ("newcomer/mod.rs", "//! A module nobody heard of."),
    ] {
        assert!(!violations(path, line).is_empty(), "{path}: {line}");
    }
}

#[test]
fn right_lines_pass() {
    for (path, line) in [
        (
            "tcp/recv.rs",
            "use crate::base::{Instant, SeqNum};\nuse crate::wire::{tcp::{Flags, View}, Packet};",
        ),
        ("tcp/recv.rs", "use crate::tcp::send::Send;\nuse super::mod_state;"),
        ("tcp/recv.rs", "/// See [`crate::stack`] and [`crate::worker`]; not unsafe.\n// use crate::xdp;"),
        (
            "tcp/recv.rs",
            "let text = \"use crate::xdp::Xdp; unsafe\";\nlet quote = '\"';\nlet next = crate::base::ZERO;",
        ),
        ("base/pool.rs", "let x = unsafe { *p };"),
        ("xdp/umem.rs", "unsafe impl Send for X {}\nuse crate::port::Port;"),
        ("runtime/clock.rs", "std::time::Instant::now()"),
        ("runtime/launch.rs", "use super::{config::Config, error};\nuse std::thread;\nuse crate::xdp::Xdp;"),
        ("tcp/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use std::thread;\n}"),
        ("lib.rs", "//! See [`wire`].\n\npub mod base;\n\npub mod xdp;\n\npub mod sim;"),
        ("tcp/mod.rs", "let json = r#\"{\"crate::xdp\": \"unsafe\"\"}\"#; let bytes = br#\"\"crate::sim\"#;"),
        ("cli/lab.rs", "use crate::lab::Lab;"),
        ("wire/mod.rs", "use netcrate::xdp;"),
    ] {
        assert_eq!(violations(path, line), Vec::<String>::new(), "{path}: {line}");
    }
}
