//! Congestion control: how large a subflow's window may be. The algorithm never sees a segment; loss detection, in
//! `tcp/`, never knows which algorithm runs.

/// The congestion control algorithm of a connection's subflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CongestionAlgorithm {
    /// NewReno (RFC 5681, RFC 6582).
    #[default]
    Reno,
}

impl CongestionAlgorithm {
    /// All, with their names on the command line.
    pub const ALL: &[(&'static str, CongestionAlgorithm)] = &[("reno", CongestionAlgorithm::Reno)];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            CongestionAlgorithm::Reno => "reno",
        }
    }
}
