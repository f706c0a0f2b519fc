//! Data sequence mappings of one subflow as its receiver keeps them (RFC 8684 §3.3.1): which bytes of the subflow are
//! which bytes of the connection.

use crate::base::DataSeq;
use std::collections::VecDeque;

/// Mappings that a subflow keeps. A peer that maps every segment on its own has as many as segments in flight; full,
/// the newest is refused, and its data waits for a retransmission.
pub const MAPPINGS_MAX: usize = 8192;

/// `len` bytes from `offset` of the subflow's stream are the bytes from `data_seq` of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Offset in the subflow's stream: 0 is the first byte after the SYN.
    pub offset: u64,
    /// Where they belong.
    pub data_seq: DataSeq,
    /// How many.
    pub len: u32,
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
#[derive(Debug, Default)]
pub struct MappingTable {
    table: VecDeque<Mapping>,
}

impl MappingTable {
    /// Declares a mapping. The same one again (every segment of a long mapping repeats it) is nothing new.
    pub fn insert(&mut self, mapping: Mapping) -> Result<(), MappingError> {
        // Nearly always it belongs at the end, or repeats the last one.
        let place = match self.table.back() {
            None => 0,
            Some(last) if mapping.offset > last.offset => self.table.len(),
            Some(_) => self.table.partition_point(|other| other.offset < mapping.offset),
        };
        if let Some(same) = self.table.get(place)
            && same.offset == mapping.offset
        {
            return if *same == mapping { Ok(()) } else { Err(MappingError::Conflict) };
        }
        let reaches = |other: &Mapping| other.offset + u64::from(other.len);
        if place > 0 && reaches(&self.table[place - 1]) > mapping.offset {
            // Inside an earlier one: fine when it says the same thing.
            let outer = self.table[place - 1];
            let agrees = outer.data_seq + (mapping.offset - outer.offset) == mapping.data_seq;
            return if agrees && reaches(&outer) >= reaches(&mapping) {
                Ok(())
            } else {
                Err(MappingError::Conflict)
            };
        }
        if self.table.get(place).is_some_and(|next| next.offset < reaches(&mapping)) {
            return Err(MappingError::Conflict);
        }
        if self.table.len() >= MAPPINGS_MAX {
            return Err(MappingError::Full);
        }
        self.table.insert(place, mapping);
        Ok(())
    }

    /// Where the byte at `offset` belongs, and for how many bytes from there that holds. Mappings that end at or
    /// before `offset` are forgotten: bytes are asked for in order.
    pub fn resolve(&mut self, offset: u64) -> Option<(DataSeq, usize)> {
        while let Some(first) = self.table.front() {
            if first.offset + u64::from(first.len) > offset {
                break;
            }
            self.table.pop_front();
        }
        let first = self.table.front()?;
        let into = offset.checked_sub(first.offset)?;
        Some((first.data_seq + into, (u64::from(first.len) - into) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(offset: u64, data_seq: u64, len: u32) -> Mapping {
        Mapping { offset, data_seq: DataSeq::new(data_seq), len }
    }

    #[test]
    fn resolves_in_order_and_forgets_what_is_behind() {
        let mut table = MappingTable::default();
        table.insert(mapping(0, 1000, 100)).expect("first");
        table.insert(mapping(200, 5000, 50)).expect("gap before it");
        table.insert(mapping(100, 3000, 100)).expect("fills the gap");
        assert_eq!(table.resolve(0), Some((DataSeq::new(1000), 100)));
        assert_eq!(table.resolve(150), Some((DataSeq::new(3050), 50)));
        assert_eq!(table.resolve(200), Some((DataSeq::new(5000), 50)));
        assert_eq!(table.resolve(250), None);
    }

    #[test]
    fn a_repeated_mapping_is_nothing_new_and_a_changed_one_is_refused() {
        let mut table = MappingTable::default();
        table.insert(mapping(0, 1000, 100)).expect("first");
        assert_eq!(table.insert(mapping(0, 1000, 100)), Ok(()));
        assert_eq!(table.insert(mapping(10, 1010, 20)), Ok(()));
        assert_eq!(table.insert(mapping(0, 1001, 100)), Err(MappingError::Conflict));
        assert_eq!(table.insert(mapping(50, 1051, 20)), Err(MappingError::Conflict));
        assert_eq!(table.insert(mapping(50, 1050, 100)), Err(MappingError::Conflict));
    }

    #[test]
    fn a_full_table_refuses_the_newest() {
        let mut table = MappingTable::default();
        for n in 0..MAPPINGS_MAX as u64 {
            table.insert(mapping(n * 10, n * 10, 10)).expect("room");
        }
        assert_eq!(table.insert(mapping(1 << 40, 0, 10)), Err(MappingError::Full));
        assert!(table.resolve(15).is_some());
        assert_eq!(table.insert(mapping(1 << 40, 0, 10)), Ok(()));
    }
}
