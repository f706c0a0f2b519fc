//! Arguments in the manner of `ip`: words, of which some announce the next one.

use std::net::IpAddr;
use std::str::FromStr;

/// The words that are left.
pub(super) struct Words<'a> {
    words: &'a [String],
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [String]) -> Self {
        Self { words }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Takes the next word if it is this one.
    pub(super) fn skip(&mut self, word: &str) -> bool {
        let is = self.words.first().is_some_and(|first| first == word);
        if is {
            self.words = &self.words[1..];
        }
        is
    }

    fn value<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next().ok_or_else(|| format!("{what} is missing"))?;
        word.parse().map_err(|_| format!("'{word}' is not {what}"))
    }

    pub(super) fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        self.value(what)
    }

    pub(super) fn name(&mut self, what: &str) -> Result<String, String> {
        self.value(what)
    }

    pub(super) fn address(&mut self, what: &str) -> Result<IpAddr, String> {
        self.value::<IpAddr>(what).map(|addr| addr.to_canonical())
    }

    pub(super) fn maybe_address(&mut self) -> Result<Option<IpAddr>, String> {
        if self.is_empty() { Ok(None) } else { self.address("an address").map(Some) }
    }

    /// `token TOKEN`, or only the token.
    pub(super) fn token(&mut self) -> Result<String, String> {
        self.skip("token");
        self.value("a token (braid ctl connections tells them)")
    }

    /// `id ID`, or only the id, of a subflow.
    pub(super) fn subflow(&mut self) -> Result<u32, String> {
        self.skip("id");
        self.value("the id of a subflow (braid ctl connections tells them)")
    }

    pub(super) fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.words).to_vec()
    }

    /// There should be nothing more.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.next().map_or(Ok(()), |word| Err(format!("'{word}' is one word too many")))
    }
}
