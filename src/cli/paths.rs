//! What `braid client` and `braid server` are told about paths: endpoints, limits, policy, and the control socket.

use crate::pm::{Limits, Policy};
use crate::runtime::{CtlPath, EndpointConfig, PathConfig};
use clap::Args;
use std::path::PathBuf;

/// How to manage paths.
#[derive(Debug, Args)]
#[command(next_help_heading = "Paths")]
pub(super) struct PathArguments {
    /// Subflows of a connection beside its first one, at most (0 to 31), as in `ip mptcp limits set subflows N`.
    /// Default: 7; with ndiffports=N what it needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=Limits::SUBFLOWS_MAX as i64))]
    subflows: Option<u8>,
    /// Addresses of a peer that are joined, at most (0 to 32).
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(0..=Limits::ADD_ADDR_ACCEPTED_MAX as i64))]
    add_addr_accepted: u8,
    /// What addresses are for that no --endpoint speaks of. fullmesh: the client opens a subflow from each to each of the
    /// server's, which announces them. ndiffports=N: N subflows between the addresses of the first one, for routers that
    /// spread flows. one-per-nic: one subflow from each NIC. endpoints: nothing. Default: fullmesh, or endpoints if some are
    /// given.
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// Let the policy use IPv4 and IPv6 addresses of a NIC side by side.
    #[arg(long)]
    dual_stack: bool,
    /// An endpoint, in the words of `ip mptcp endpoint add`: ADDRESS[,port=PORT][,dev=NIC][,id=ID][,FLAG...], with the flags
    /// signal, subflow, backup, fullmesh, laminar (braid ctl --help explains them). Repeat it for several.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Vec<EndpointConfig>,
    /// Use this NIC only when nothing else works, and ask the peer to do the same. Repeat it for several.
    #[arg(long, value_name = "NIC")]
    backup: Vec<String>,
    /// Where `braid ctl` finds the process: a path, or none. Default: /run/braid/PID.sock.
    #[arg(long, value_name = "PATH")]
    ctl: Option<PathBuf>,
}

impl PathArguments {
    /// As the runtime takes it.
    pub(super) fn config(&self) -> PathConfig {
        let otherwise = if self.endpoint.is_empty() { Policy::default() } else { Policy::Endpoints };
        let policy = self.policy.unwrap_or(otherwise);
        let defaults = PathConfig::default();
        let needed = match policy {
            Policy::Ndiffports(count) => usize::from(count.saturating_sub(1)),
            Policy::Fullmesh | Policy::OnePerNic | Policy::Endpoints => 0,
        };
        PathConfig {
            policy,
            dual_stack: self.dual_stack,
            subflows: self.subflows.map_or(defaults.subflows.max(needed), usize::from),
            add_addr_accepted: usize::from(self.add_addr_accepted),
            endpoints: self.endpoint.clone(),
            backup: self.backup.clone(),
        }
    }

    /// Where the control socket is to be.
    pub(super) fn ctl(&self) -> CtlPath {
        match &self.ctl {
            None => CtlPath::Default,
            Some(path) if path.as_os_str() == "none" => CtlPath::None,
            Some(path) => CtlPath::At(path.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        paths: PathArguments,
    }

    fn parse(line: &str) -> Result<PathArguments, String> {
        let words = ["braid"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.paths).map_err(|error| error.to_string())
    }

    fn config(line: &str) -> PathConfig {
        parse(line).expect(line).config()
    }

    #[test]
    fn endpoints_alone_are_all_that_is_used_unless_a_policy_is_named() {
        assert_eq!(config(""), PathConfig::default());
        let given = config("--endpoint 10.0.0.1,subflow --endpoint 10.0.1.1,signal,port=5001");
        assert_eq!((given.policy, given.endpoints.len()), (Policy::Endpoints, 2));
        assert_eq!(config("--endpoint 10.0.0.1,backup --policy fullmesh").policy, Policy::Fullmesh);
        let all = config("--policy one-per-nic --backup p2 --backup p3 --dual-stack --subflows 0");
        assert_eq!(
            (all.policy, all.backup, all.dual_stack),
            (Policy::OnePerNic, vec!["p2".into(), "p3".into()], true)
        );
        assert_eq!(all.subflows, 0);
    }

    #[test]
    fn ndiffports_has_room_for_its_subflows() {
        assert_eq!(config("--policy ndiffports=4").subflows, 7);
        assert_eq!(config("--policy ndiffports=12").subflows, 11);
        assert_eq!(config("--policy ndiffports=12 --subflows 3").subflows, 3);
    }

    #[test]
    fn the_socket_is_a_path_or_none() {
        let ctl = |line| parse(line).expect(line).ctl();
        assert_eq!(ctl(""), CtlPath::Default);
        assert_eq!(ctl("--ctl none"), CtlPath::None);
        assert_eq!(ctl("--ctl ./none"), CtlPath::At("./none".into()));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() {
        for (line, told) in [
            ("--policy turbulent", "one-per-nic"),
            ("--policy ndiffports=99", "ndiffports=N"),
            ("--endpoint p1", "no IPv4 or IPv6 address"),
            ("--endpoint 10.0.0.1,signal,fullmesh", "exclude each other"),
            ("--subflows 32", "0..=31"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
