//! Data sequence mappings of one subflow as its receiver keeps them (RFC 8684 §3.3.1): which bytes of the subflow are
//! which bytes of the connection.

use crate::base::DataSeq;
use crate::wire::mptcp::dss_checksum;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Mappings that a subflow keeps. A peer that maps every segment on its own has as many as segments in flight; full,
/// the newest is refused, and its data waits for a retransmission.
pub const MAPPINGS_MAX: usize = 8192;

/// `len` bytes from `offset` of the subflow's stream are the bytes from `data_seq` of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Offset in the subflow's stream: 0 is the first byte after the SYN.
    pub offset: u64,
    /// Where they belong.
    pub data_seq: DataSeq,
    /// How many.
    pub len: u32,
    /// The checksum over them, until it was found right.
    pub checksum: Option<u16>,
    /// A DATA_FIN follows them, which the option's length counts and the checksum covers.
    pub data_fin: bool,
}

impl Mapping {
    /// The offset behind its last byte.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }

    /// Whether its checksum, if it has one, is right for data with this sum.
    pub fn is_intact(&self, payload_sum: u16) -> bool {
        let subflow_seq = (self.offset as u32).wrapping_add(1);
        let len = (self.len + u32::from(self.data_fin)) as u16;
        self.checksum
            .is_none_or(|checksum| checksum == dss_checksum(self.data_seq, subflow_seq, len, payload_sum))
    }

    /// Whether both say the same of the bytes that both cover.
    fn agrees(&self, other: &Mapping) -> bool {
        let distance = other.offset.wrapping_sub(self.offset) as i64;
        other.data_seq.distance(self.data_seq) == distance
    }
}

/// Why a mapping was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingError {
    /// It contradicts one that was declared before. RFC 8684 §3.3.1: a mapping is fixed.
    Conflict,
    /// The table is full.
    Full,
}

/// The mappings that cover bytes not yet passed on, in order of offset, without overlap.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct MappingTable {
    table: VecDeque<Mapping>,
}

impl MappingTable {
    /// Declares a mapping. The same one again (every segment of a long mapping repeats it, and so do the parts of a
    /// segment that was split on the way) is nothing new, and one that overlaps others adds what they do not say, as
    /// where segments were merged for a retransmission.
    pub fn insert(&mut self, mapping: Mapping) -> Result<(), MappingError> {
        if self.table.back().is_none_or(|last| last.end() <= mapping.offset) {
            return self.place(self.table.len(), mapping);
        }
        // Nearly always it repeats the last one.
        let place = match self.table.back() {
            Some(last) if last.offset <= mapping.offset => self.table.len() - 1,
            _ => self.table.partition_point(|other| other.end() <= mapping.offset),
        };
        match mapping.checksum {
            None => self.insert_parts(place, mapping),
            Some(_) => self.insert_whole(place, mapping),
        }
    }

    /// Adds what is not known yet of a mapping; `place` is that of the first one that ends behind its beginning.
    fn insert_parts(&mut self, mut place: usize, mut mapping: Mapping) -> Result<(), MappingError> {
        while mapping.len > 0 {
            let part = match self.table.get(place) {
                Some(known) if known.offset <= mapping.offset => {
                    if !known.agrees(&mapping) {
                        return Err(MappingError::Conflict);
                    }
                    known.end() - mapping.offset
                }
                other => {
                    let room = other.map_or(u64::MAX, |next| next.offset - mapping.offset);
                    let len = u64::from(mapping.len).min(room) as u32;
                    self.place(place, Mapping { len, ..mapping })?;
                    u64::from(len)
                }
            };
            mapping.offset += part;
            mapping.data_seq += part;
            mapping.len = u64::from(mapping.len).saturating_sub(part) as u32;
            place += 1;
        }
        Ok(())
    }

    /// A checksum is over all of a mapping, and no use for a part: one takes the place of shorter ones that it covers,
    /// of which nothing was passed on for want of their last bytes.
    fn insert_whole(&mut self, place: usize, mapping: Mapping) -> Result<(), MappingError> {
        let known = self.table.range(place..).take_while(|other| other.offset < mapping.end());
        if known.clone().any(|other| !other.agrees(&mapping)) {
            return Err(MappingError::Conflict);
        }
        if known.clone().any(|other| other.offset <= mapping.offset && other.end() >= mapping.end()) {
            return Ok(());
        }
        let replaceable = |other: &Mapping| {
            mapping.offset <= other.offset && other.end() <= mapping.end() && other.checksum.is_some()
        };
        let count = known.clone().count();
        if !known.clone().all(replaceable) {
            return Err(MappingError::Conflict);
        }
        self.table.drain(place..place + count);
        self.place(place, mapping)
    }

    /// Whether nothing is said of the byte at `offset`, and of those behind it.
    pub fn ends_by(&self, offset: u64) -> bool {
        self.table.back().is_none_or(|last| last.end() <= offset)
    }

    fn place(&mut self, place: usize, mapping: Mapping) -> Result<(), MappingError> {
        if self.table.len() >= MAPPINGS_MAX {
            return Err(MappingError::Full);
        }
        self.table.insert(place, mapping);
        Ok(())
    }

    /// The mapping that covers the byte at `offset`. Mappings that end at or before it are forgotten: bytes are asked for
    /// in order.
    pub fn at(&mut self, offset: u64) -> Option<&mut Mapping> {
        while self.table.front()?.end() <= offset {
            self.table.pop_front();
        }
        self.table.front_mut().filter(|first| first.offset <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(offset: u64, data_seq: u64, len: u32) -> Mapping {
        Mapping { offset, data_seq: DataSeq::new(data_seq), len, checksum: None, data_fin: false }
    }

    /// Where the byte at `offset` belongs, and for how many bytes that holds.
    fn resolve(table: &mut MappingTable, offset: u64) -> Option<(u64, u64)> {
        let mapping = table.at(offset)?;
        Some(((mapping.data_seq + (offset - mapping.offset)).raw(), mapping.end() - offset))
    }

    #[test]
    fn resolves_in_order_and_forgets_what_is_behind() {
        let mut table = MappingTable::default();
        table.insert(mapping(0, 1000, 100)).expect("first");
        table.insert(mapping(200, 5000, 50)).expect("gap before it");
        table.insert(mapping(100, 3000, 100)).expect("fills the gap");
        assert_eq!(resolve(&mut table, 0), Some((1000, 100)));
        assert_eq!(resolve(&mut table, 150), Some((3050, 50)));
        assert_eq!(resolve(&mut table, 200), Some((5000, 50)));
        assert_eq!(resolve(&mut table, 250), None);
    }

    #[test]
    fn a_repeated_mapping_is_nothing_new_and_a_changed_one_is_refused() {
        let mut table = MappingTable::default();
        table.insert(mapping(0, 1000, 100)).expect("first");
        assert_eq!(table.insert(mapping(0, 1000, 100)), Ok(()));
        assert_eq!(table.insert(mapping(10, 1010, 20)), Ok(()));
        assert_eq!(table.insert(mapping(0, 1001, 100)), Err(MappingError::Conflict));
        assert_eq!(table.insert(mapping(50, 1051, 20)), Err(MappingError::Conflict));
        assert_eq!(table.insert(mapping(50, 1051, 100)), Err(MappingError::Conflict));
    }

    #[test]
    fn a_mapping_that_overlaps_others_adds_what_they_do_not_say() {
        let mut table = MappingTable::default();
        table.insert(mapping(0, 1000, 100)).expect("first");
        assert_eq!(table.insert(mapping(50, 1050, 100)), Ok(()), "from the middle of one");
        table.insert(mapping(200, 1200, 50)).expect("behind a gap");
        assert_eq!(table.insert(mapping(0, 1000, 300)), Ok(()), "over three and their gap");
        for offset in [0, 99, 100, 149, 150, 199, 200, 249, 250, 299] {
            assert_eq!(resolve(&mut table, offset).map(|(data_seq, _)| data_seq), Some(1000 + offset));
        }
        assert_eq!(resolve(&mut table, 300), None);
        table.insert(mapping(400, 5000, 10)).expect("elsewhere");
        assert_eq!(table.insert(mapping(350, 1350, 100)), Err(MappingError::Conflict));
    }

    #[test]
    fn a_longer_mapping_with_a_checksum_takes_the_place_of_shorter_ones() {
        let summed = |offset, data_seq, len| Mapping { checksum: Some(7), ..mapping(offset, data_seq, len) };
        let mut table = MappingTable::default();
        table.insert(summed(0, 1000, 100)).expect("first");
        table.insert(summed(100, 1100, 100)).expect("second");
        assert_eq!(table.insert(summed(0, 1000, 150)), Err(MappingError::Conflict), "a half of the second");
        assert_eq!(table.insert(summed(0, 1000, 200)), Ok(()));
        assert_eq!(resolve(&mut table, 0), Some((1000, 200)));
        assert_eq!(
            table.insert(summed(50, 1050, 200)),
            Err(MappingError::Conflict),
            "a part has no checksum"
        );
    }

    #[test]
    fn a_full_table_refuses_the_newest() {
        let mut table = MappingTable::default();
        for n in 0..MAPPINGS_MAX as u64 {
            table.insert(mapping(n * 10, n * 10, 10)).expect("room");
        }
        assert_eq!(table.insert(mapping(1 << 40, 0, 10)), Err(MappingError::Full));
        assert!(table.at(15).is_some());
        assert_eq!(table.insert(mapping(1 << 40, 0, 10)), Ok(()));
    }

    #[test]
    fn a_checksum_covers_the_data_fin() {
        let checksum = Some(dss_checksum(DataSeq::new(7), 11, 5, 0x1234));
        let mut mapping = Mapping { checksum, data_fin: true, ..mapping(10, 7, 4) };
        assert!(mapping.is_intact(0x1234) && !mapping.is_intact(0x1235));
        mapping.data_fin = false;
        assert!(!mapping.is_intact(0x1234));
    }
}
