//! The Linux persona: the settings that scripts expect of Linux, and what their `sysctl` lines make of them. The stack's
//! own defaults are free to differ.

use braid::base::time::Duration;
use braid::cc::CongestionAlgorithm;
use braid::mptcp::{ConnectOptions, Tuning};
use braid::tcp::{EcnMode, TcpConfig};
use std::collections::BTreeMap;

/// Linux's `tcp_rmem` maximum in the scripts: its window scale is 8.
const RECEIVE_BUFFER: u32 = 15 << 20;
/// Linux's `tcp_wmem` default in the scripts. Send buffers that grow would hide `write()`s that block.
const SEND_BUFFER: u32 = 256 << 10;
/// Settings that scripts make and that mean nothing here: what they ask for is how the stack behaves anyway, or it is
/// about a part of Linux that no packet shows.
const INDIFFERENT: &[&str] = &[
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_fack",
    "net.ipv4.tcp_tso_win_divisor",
    "net.ipv4.tcp_min_tso_segs",
    "net.ipv4.tcp_pacing_ss_ratio",
    "net.ipv4.tcp_pacing_ca_ratio",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_syn_linear_timeouts",
    "net.mptcp.enabled",
    "net.mptcp.scheduler",
];
/// What Linux's defaults are for those that are told apart by their value: only another one is a wish.
const DEFAULTS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_frto", "2"),
    ("net.ipv4.tcp_dsack", "1"),
    ("net.ipv4.tcp_reordering", "3"),
    ("net.ipv4.tcp_early_retrans", "4"),
    ("net.ipv4.tcp_recovery", "1"),
    ("net.ipv4.tcp_ecn_option", "2"),
    ("net.ipv4.tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"),
];

/// Bits of Linux's `tcp_fastopen` (Documentation/networking/ip-sysctl.rst).
const FAST_OPEN_CLIENT: u32 = 1;
const FAST_OPEN_SERVER: u32 = 2;
/// Listeners need no TCP_FASTOPEN.
const FAST_OPEN_EVERY_LISTENER: u32 = 0x400;
/// Data without a cookie, from clients and to servers: the stack has none of it.
const FAST_OPEN_WITHOUT_COOKIE: u32 = 0x4 | 0x200;

/// The host's settings.
#[derive(Debug)]
pub struct Persona {
    tcp: TcpConfig,
    send_buffer: u32,
    congestion: CongestionAlgorithm,
    fast_open: u32,
    /// By name with dots, for those who read them back.
    values: BTreeMap<String, String>,
}

impl Persona {
    /// As a Linux host is before a script changes anything.
    pub fn linux() -> Self {
        let tcp = TcpConfig {
            initial_rto: Duration::from_secs(1),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(120),
            syn_retries: 6,
            delayed_ack: Duration::from_millis(40),
            // Linux's loss probe for a lone segment waits for its shortest time-out on top of two round trips.
            peer_ack_delay: Duration::from_millis(200),
            restart_after_idle: true,
            // Without the queueing discipline that does it.
            pacing: None,
            ..TcpConfig::default()
        };
        Self {
            tcp,
            send_buffer: SEND_BUFFER,
            congestion: CongestionAlgorithm::Cubic,
            fast_open: FAST_OPEN_CLIENT,
            values: BTreeMap::new(),
        }
    }

    /// TCP's settings for the stack.
    pub fn tcp(&self) -> TcpConfig {
        self.tcp
    }

    /// What a new socket is like.
    pub fn options(&self, mptcp: bool) -> ConnectOptions {
        ConnectOptions {
            mptcp,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: self.send_buffer,
            congestion: self.congestion,
            tuning: Tuning { nodelay: false, ..Tuning::default() },
            ..ConnectOptions::default()
        }
    }

    /// Whether MSG_FASTOPEN and TCP_FASTOPEN_CONNECT may be used.
    pub fn opens_with_data(&self) -> bool {
        self.fast_open & FAST_OPEN_CLIENT != 0
    }

    /// Whether a listener whose TCP_FASTOPEN is `queue` takes data of SYNs.
    pub fn takes_syn_data(&self, queue: u32) -> bool {
        self.fast_open & FAST_OPEN_SERVER != 0
            && (queue > 0 || self.fast_open & FAST_OPEN_EVERY_LISTENER != 0)
    }

    /// The value of a setting, as `sysctl -n` shows it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A script sets `name` (with dots). False when that is a wish that is not granted.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let known = self.apply(name, value);
        self.values.insert(name.to_owned(), value.to_owned());
        known
    }

    fn apply(&mut self, name: &str, value: &str) -> bool {
        let number = || value.split_whitespace().next_back().and_then(|word| word.parse::<u64>().ok());
        match name {
            "net.ipv4.tcp_timestamps" => self.tcp.timestamps = value != "0",
            "net.ipv4.tcp_sack" => self.tcp.sack = value != "0",
            "net.ipv4.tcp_syn_retries" => self.tcp.syn_retries = number().unwrap_or(6) as u32,
            "net.ipv4.tcp_retries2" => self.tcp.retries = number().unwrap_or(15) as u32,
            "net.ipv4.tcp_wmem" => {
                // Minimum, default, maximum: a new socket has the default.
                let default = value.split_whitespace().nth(1).and_then(|word| word.parse().ok());
                self.send_buffer = default.unwrap_or(SEND_BUFFER);
            }
            "net.ipv4.tcp_congestion_control" => {
                let known = CongestionAlgorithm::ALL.iter().find(|(name, _)| *name == value);
                let Some((_, algorithm)) = known else { return false };
                self.congestion = *algorithm;
            }
            "net.ipv4.tcp_ecn" => {
                self.tcp.ecn = match value {
                    "0" => EcnMode::Off,
                    "1" => EcnMode::Request,
                    "2" => EcnMode::Accept,
                    _ => return false,
                };
            }
            "net.ipv4.tcp_fastopen" => {
                let bits = match value.strip_prefix("0x") {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => value.parse(),
                };
                let Ok(bits) = bits else { return false };
                self.fast_open = bits;
                return bits & FAST_OPEN_WITHOUT_COOKIE == 0;
            }
            "net.ipv4.tcp_slow_start_after_idle" => self.tcp.restart_after_idle = value != "0",
            name => {
                return INDIFFERENT.contains(&name)
                    || DEFAULTS.iter().any(|(default, usual)| *default == name && *usual == value);
            }
        }
        true
    }
}
