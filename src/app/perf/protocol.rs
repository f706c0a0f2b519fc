//! The iperf3 protocol: the states that both ends name in one byte, the cookie that ties data connections to a test,
//! and how messages are framed. Nothing here waits or knows a socket: bytes in, values out.

use crate::base::Prng;
use std::fmt;
use thiserror::Error;

/// Port of an iperf3 server.
pub const DEFAULT_PORT: u16 = 5201;
/// Bytes of a cookie on the wire: 36 characters and a NUL.
pub const COOKIE_BYTES: usize = 37;
/// The longest parameters that a server takes, in bytes.
pub const PARAMETERS_MAX: usize = 8 << 10;
/// The longest results that either end takes, in bytes: 128 streams both ways, and a server's whole text.
pub const RESULTS_MAX: usize = 4 << 20;
/// Most streams of a test in one direction.
pub const STREAMS_MAX: u32 = 128;
/// Bytes behind a [`State::ServerError`]: the server's error number and errno.
pub const SERVER_ERROR_BYTES: usize = 8;

/// What one end tells the other in a signed byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum State {
    /// Server: get ready.
    TestStart = 1,
    /// Server: data may flow.
    TestRunning = 2,
    /// Client: the test is over.
    TestEnd = 4,
    /// Server: send your parameters.
    ParameterExchange = 9,
    /// Server: open the data connections.
    CreateStreams = 10,
    /// Server: I end the test.
    ServerTerminate = 11,
    /// Client: I end the test.
    ClientTerminate = 12,
    /// Server: send your results, mine follow.
    ExchangeResults = 13,
    /// Server: show them.
    DisplayResults = 14,
    /// Client: good bye.
    Done = 16,
    /// Server: not now, or a wrong cookie.
    AccessDenied = -1,
    /// Server: I can't; two numbers follow that say why.
    ServerError = -2,
}

impl State {
    const ALL: [State; 12] = [
        State::TestStart,
        State::TestRunning,
        State::TestEnd,
        State::ParameterExchange,
        State::CreateStreams,
        State::ServerTerminate,
        State::ClientTerminate,
        State::ExchangeResults,
        State::DisplayResults,
        State::Done,
        State::AccessDenied,
        State::ServerError,
    ];

    /// The byte on the wire.
    pub fn to_byte(self) -> u8 {
        self as i8 as u8
    }

    /// The state that a byte means.
    ///
    /// # Errors
    /// The byte means nothing.
    pub fn from_byte(byte: u8) -> Result<Self, Violation> {
        State::ALL.into_iter().find(|state| state.to_byte() == byte).ok_or(Violation::UnknownState(byte))
    }
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A state that the protocol doesn't have.
    #[error("it sent the unknown state {0}: is that an iperf3 peer?")]
    UnknownState(u8),
    /// A state at the wrong time.
    #[error("it sent {0:?} out of turn")]
    UnexpectedState(State),
    /// A message longer than its kind may be.
    #[error("it announced a message of {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// Its length.
        bytes: u32,
        /// The limit.
        limit: usize,
    },
    /// A message that is not the JSON it should be.
    #[error("its message is malformed: {0}")]
    Malformed(String),
    /// What a client sends first is not a cookie.
    #[error("it sent no valid cookie")]
    Cookie,
}

/// Ties the connections of a test together: 36 characters that a client chose at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cookie([u8; COOKIE_BYTES - 1]);

impl Cookie {
    /// A cookie from a source of random numbers.
    pub fn random(random: &mut Prng) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        Self(std::array::from_fn(|_| ALPHABET[(random.next_u64() >> 59) as usize]))
    }

    /// The bytes on the wire.
    pub fn to_bytes(self) -> [u8; COOKIE_BYTES] {
        let mut bytes = [0; COOKIE_BYTES];
        bytes[..COOKIE_BYTES - 1].copy_from_slice(&self.0);
        bytes
    }

    /// The cookie in these bytes. Other programs choose their characters more freely, so any visible ones do.
    ///
    /// # Errors
    /// They are no cookie.
    pub fn from_bytes(bytes: [u8; COOKIE_BYTES]) -> Result<Self, Violation> {
        let [characters @ .., nul] = bytes;
        if nul != 0 || !characters.iter().all(u8::is_ascii_graphic) {
            return Err(Violation::Cookie);
        }
        Ok(Self(characters))
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Visible ASCII, as `from_bytes` made sure.
        self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A JSON message on the wire: its length, big-endian, and its text.
pub fn frame_json(value: &serde_json::Value) -> Vec<u8> {
    let text = value.to_string();
    let length = u32::try_from(text.len()).expect("our own messages are far below 4 GiB");
    let mut bytes = Vec::with_capacity(4 + text.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The length of a message whose first four bytes these are.
///
/// # Errors
/// It is longer than `limit`.
pub fn frame_length(header: [u8; 4], limit: usize) -> Result<usize, Violation> {
    let bytes = u32::from_be_bytes(header);
    let length = bytes as usize;
    if length > limit { Err(Violation::TooLong { bytes, limit }) } else { Ok(length) }
}

/// The JSON object of a message. Peers disagree on a NUL at its end.
///
/// # Errors
/// It is not a JSON object.
pub fn parse_object(text: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>, Violation> {
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    match serde_json::from_slice(text) {
        Ok(serde_json::Value::Object(object)) => Ok(object),
        Ok(_) => Err(Violation::Malformed("not a JSON object".to_owned())),
        Err(error) => Err(Violation::Malformed(error.to_string())),
    }
}

/// Why a server refuses a test: the numbers that iperf3's clients know words for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerError {
    /// iperf3's own number of the error.
    pub code: i32,
    /// The system's, or 0.
    pub errno: i32,
}

impl ServerError {
    /// Its bytes behind [`State::ServerError`].
    pub fn to_bytes(self) -> [u8; SERVER_ERROR_BYTES] {
        let mut bytes = [0; SERVER_ERROR_BYTES];
        bytes[..4].copy_from_slice(&self.code.to_be_bytes());
        bytes[4..].copy_from_slice(&self.errno.to_be_bytes());
        bytes
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; SERVER_ERROR_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { code: i32::from_be_bytes([a, b, c, d]), errno: i32::from_be_bytes([e, f, g, h]) }
    }

    /// In words, where we know the number.
    pub fn describe(self) -> String {
        let words = match self.code {
            5 => "the duration is out of its range",
            6 => "too many streams",
            7 => "the block length is out of its range",
            8 => "the socket buffer size is out of its range",
            10 => "the MSS is out of its range",
            12 => "the omitted time is out of its range",
            13 => "an option is not implemented there",
            14 => "it cannot use its file",
            18 => "it has no SCTP",
            22 | 23 => "it wants authentication, which this client lacks",
            114 => "it could not read the parameters",
            131 => "it has not got that protocol",
            134 => "it has not got that congestion control algorithm",
            142 => "the test could not be started in time",
            _ => "see iperf3's list of errors",
        };
        let errno = match self.errno {
            0 => String::new(),
            errno => format!(": {}", std::io::Error::from_raw_os_error(errno)),
        };
        format!("{words} (error {}{errno})", self.code)
    }
}

/// The wire's name of the `index`-th stream of a test: 1, 3, 4, 5, …; iperf3 leaves out 2.
pub fn stream_id(index: usize) -> u32 {
    if index == 0 { 1 } else { index as u32 + 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn states_survive_the_wire() {
        for state in State::ALL {
            assert_eq!(State::from_byte(state.to_byte()), Ok(state));
        }
        assert_eq!(State::AccessDenied.to_byte(), 0xff);
        assert_eq!(State::from_byte(3), Err(Violation::UnknownState(3)));
    }

    #[test]
    fn stream_ids_skip_two() {
        assert_eq!([0, 1, 2, 3].map(stream_id), [1, 3, 4, 5]);
    }

    #[test]
    fn a_cookie_is_visible_and_ends_in_nul() {
        let cookie = Cookie::random(&mut Prng::new(7));
        assert_eq!(Cookie::from_bytes(cookie.to_bytes()), Ok(cookie));
        assert_eq!(cookie.to_string().len(), COOKIE_BYTES - 1);
        let mut bytes = cookie.to_bytes();
        bytes[36] = b'a';
        assert_eq!(Cookie::from_bytes(bytes), Err(Violation::Cookie));
        bytes = cookie.to_bytes();
        bytes[3] = b'\n';
        assert_eq!(Cookie::from_bytes(bytes), Err(Violation::Cookie));
    }

    #[test]
    fn an_oversized_message_is_refused_by_its_length() {
        assert_eq!(frame_length([0, 0, 0x20, 0], PARAMETERS_MAX), Ok(8192));
        assert!(frame_length([0, 0, 0x20, 1], PARAMETERS_MAX).is_err());
        assert!(frame_length([0xff; 4], RESULTS_MAX).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), byte: u8) {
            let _ = parse_object(&bytes);
            let _ = State::from_byte(byte);
            if let Some(head) = bytes.first_chunk::<COOKIE_BYTES>() {
                let _ = Cookie::from_bytes(*head);
            }
            if let Some(head) = bytes.first_chunk::<SERVER_ERROR_BYTES>() {
                let error = ServerError::from_bytes(*head);
                prop_assert_eq!(ServerError::from_bytes(error.to_bytes()), error);
                let _ = error.describe();
            }
        }
    }
}
