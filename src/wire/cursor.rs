//! Reading and writing big-endian fields one after the other.

/// Takes fields off the front of a slice. Each read gives `None` when too little is left, so that no read can panic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the front.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `N` bytes.
    #[inline(always)]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next byte.
    #[inline(always)]
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// The next 16-bit number.
    #[inline(always)]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32-bit number.
    #[inline(always)]
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64-bit number.
    #[inline(always)]
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// Puts fields into a slice one after the other. Its callers measure what they write before they begin; running out
/// of room is our own bug and panics.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes into `bytes` from the front.
    pub(super) const fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How much room is left.
    pub(super) const fn room(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Appends `N` bytes.
    #[inline(always)]
    pub(super) fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += N;
    }

    /// Appends a byte.
    #[inline(always)]
    pub(super) fn u8(&mut self, value: u8) {
        self.array([value]);
    }

    /// Appends a 16-bit number.
    #[inline(always)]
    pub(super) fn u16(&mut self, value: u16) {
        self.array(value.to_be_bytes());
    }

    /// Appends a 32-bit number.
    #[inline(always)]
    pub(super) fn u32(&mut self, value: u32) {
        self.array(value.to_be_bytes());
    }

    /// Appends a 64-bit number.
    #[inline(always)]
    pub(super) fn u64(&mut self, value: u64) {
        self.array(value.to_be_bytes());
    }
}
