//! The option of TCP Fast Open (RFC 7413 §4.1.1).

use serde::{Deserialize, Serialize};

/// The shortest cookie, in bytes.
pub const COOKIE_MIN: usize = 4;
/// The longest.
pub const COOKIE_MAX: usize = 16;
/// Kind and length.
const HEADER_LEN: usize = 2;

/// A cookie: 4 to 16 bytes, an even number of them. Only the server that made it knows what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastOpenCookie {
    len: u8,
    bytes: [u8; COOKIE_MAX],
}

impl FastOpenCookie {
    /// A cookie of these bytes. `None` for a length that no cookie has (RFC 7413 §4.1.1).
    pub fn new(cookie: &[u8]) -> Option<Self> {
        let possible = (COOKIE_MIN..=COOKIE_MAX).contains(&cookie.len()) && cookie.len().is_multiple_of(2);
        let mut bytes = [0; COOKIE_MAX];
        bytes.get_mut(..cookie.len()).filter(|_| possible)?.copy_from_slice(cookie);
        Some(Self { len: cookie.len() as u8, bytes })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What the option says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FastOpen {
    /// No cookie: the client asks for one.
    Request,
    /// The server's cookie, from it to the client or back.
    Cookie(FastOpenCookie),
}

impl FastOpen {
    /// From the option's body. `None`: RFC 7413 §4.1.1, to be ignored.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        if body.is_empty() {
            Some(FastOpen::Request)
        } else {
            FastOpenCookie::new(body).map(FastOpen::Cookie)
        }
    }

    /// The cookie's bytes.
    pub(super) fn body(&self) -> &[u8] {
        match self {
            FastOpen::Request => &[],
            FastOpen::Cookie(cookie) => cookie.bytes(),
        }
    }

    /// Bytes in a header, with the padding behind it.
    pub fn wire_len(&self) -> usize {
        (HEADER_LEN + self.body().len()).next_multiple_of(4)
    }

    /// The option's length field.
    pub(super) fn length_field(&self) -> u8 {
        (HEADER_LEN + self.body().len()) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_4_to_16_bytes_and_an_even_number_of_them() {
        let all = [7; 40];
        for len in 0..all.len() {
            let cookie = FastOpenCookie::new(&all[..len]);
            assert_eq!(cookie.is_some(), matches!(len, 4 | 6 | 8 | 10 | 12 | 14 | 16), "{len}");
            assert!(cookie.is_none_or(|cookie| cookie.bytes() == &all[..len]));
        }
    }
}
