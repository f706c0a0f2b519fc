//! What of the lab needs no privilege: names, rates, addresses. tests/lab.rs makes real ones.

use super::*;

#[test]
fn hosts_are_read_and_written_alike() {
    for host in [Host::A, Host::B, Host::Middle(1), Host::Middle(MAX_PATHS)] {
        assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
    }
    for bad in ["", "c", "m", "m0", "m9", "A", "a1", "m1x"] {
        assert!(bad.parse::<Host>().is_err(), "{bad}");
    }
}

#[test]
fn rates_are_read_as_tc_reads_them() {
    assert_eq!("500mbit".parse::<Rate>().unwrap(), Rate::from_mbit(500));
    assert_eq!("1Gbit".parse::<Rate>().unwrap().bits_per_second(), 1_000_000_000);
    for bad in ["", "500", "mbit", "0mbit", "1kbit", "-1mbit", "1.5gbit", "99999999999999999999gbit"] {
        assert!(bad.parse::<Rate>().is_err(), "{bad}");
    }
}

#[test]
fn names_are_safe_parts_of_a_namespace_name() {
    for good in ["x", "demo-17", "a0"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    let long = "x".repeat(MAX_NAME + 1);
    for bad in ["", "-x", "x-", "../x", "x y", "X", "x/y", "é", &long] {
        assert!(matches!(check_name(bad), Err(LabError::BadName(_))), "{bad}");
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let good = LabOptions::default();
    assert!(check_options(&good).is_ok());
    for bad in [
        LabOptions { paths: 0, ..good },
        LabOptions { paths: MAX_PATHS + 1, ..good },
        LabOptions { mtu: MIN_MTU - 1, ..good },
        LabOptions { mtu: MAX_MTU + 1, ..good },
        LabOptions { queues: 0, ..good },
        LabOptions { queues: MAX_QUEUES + 1, ..good },
    ] {
        assert!(matches!(check_options(&bad), Err(LabError::OutOfRange { .. })), "{bad:?}");
    }
}

#[test]
fn a_lab_claims_only_its_own_namespaces() {
    assert_eq!(host_of("x-a", "x"), Some(Host::A));
    assert_eq!(host_of("x-m2", "x"), Some(Host::Middle(2)));
    assert_eq!(host_of("x-y-a", "x"), None, "that is lab x-y's");
    assert_eq!(host_of("xa", "x"), None);
    assert_eq!(host_of("x-c", "x"), None);
}

#[test]
fn addresses_name_path_and_end() {
    assert_eq!(ipv4(Host::A, 2).unwrap().to_string(), "10.71.2.1");
    assert_eq!(ipv6(Host::B, 1).unwrap().to_string(), "fd71:1::2");
    assert_eq!(ipv4(Host::Middle(1), 1), None);
}

#[test]
fn a_missing_tool_names_its_package() {
    let error = require_tool("no-such-tool-of-braid", "some-package").unwrap_err().to_string();
    assert!(error.contains("apt-get install some-package"), "{error}");
}

#[test]
fn what_a_living_process_has_is_not_left_behind() {
    let own = std::process::id();
    assert!(!is_left_behind(&format!("demo-{own}"), "demo-"));
    assert!(is_left_behind(&format!("demo-{}", i32::MAX), "demo-"), "there are fewer process ids than that");
    for name in ["demo-", "demo-x", "demo-0", "demo--1", "other-1"] {
        assert!(!is_left_behind(name, "demo-"), "{name}");
    }
}
