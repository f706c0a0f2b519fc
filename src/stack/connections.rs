//! The connections of a worker, by name. Most connections of a server rest most of the time, and what one needs to move
//! data, a few kilobytes, is of no use then: one that rests is kept written down, in a few hundred bytes, with nothing
//! lost. It is read back when somebody asks for it: a packet, its application, a timer.

use crate::base::Instant;
use crate::mptcp::{Connection, Tally};
use crate::stack::ConnectionId;
use crate::stack::slot::Slot;
use crate::stack::stream::StreamShared;
use crate::tcp::TcpCounters;
use slotmap::SlotMap;
use std::ops::{AddAssign, Deref, SubAssign};
use std::sync::Arc;

/// Where a connection is.
#[derive(Debug)]
enum Place {
    Awake(Box<Slot>),
    Asleep(Box<Sleeper>),
}

/// One that rests.
#[derive(Debug)]
struct Sleeper {
    /// All but the stream and the timer.
    written: Box<[u8]>,
    stream: Option<Arc<StreamShared>>,
    timer: Option<Instant>,
    /// When it has something to do, which may be later than its entry in the timers.
    due: Option<Instant>,
}

impl Sleeper {
    fn read(&self) -> Slot {
        let mut slot: Slot =
            postcard::from_bytes(&self.written).expect("what was written down is what is read");
        slot.stream.clone_from(&self.stream);
        slot.timer = self.timer;
        slot
    }
}

/// What a connection has counted, as far as it goes into its worker's sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// MPTCP's share.
    pub tally: Tally,
    /// TCP's, of subflows that there are.
    pub tcp: TcpCounters,
}

impl Counted {
    /// What this connection has counted.
    pub fn of(connection: &Connection) -> Self {
        let mut counted = Self { tally: connection.tally(), ..Self::default() };
        connection.figures().for_each(|figures| counted.tcp += figures.tcp.counters);
        counted
    }
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        let Self { tally, tcp } = other;
        self.tally += tally;
        self.tcp += tcp;
    }
}

impl SubAssign for Counted {
    /// Takes out what was added.
    fn sub_assign(&mut self, other: Self) {
        let Self { tally, tcp } = other;
        self.tally -= tally;
        self.tcp -= tcp;
    }
}

/// A connection to look at: as it is, or a copy of one that rests.
#[derive(Debug)]
pub enum View<'a> {
    /// It is awake.
    Awake(&'a Connection),
    /// It rests, and goes on resting.
    Copy(Box<Connection>),
}

impl Deref for View<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        match self {
            View::Awake(connection) => connection,
            View::Copy(connection) => connection,
        }
    }
}

impl Place {
    fn view(&self) -> View<'_> {
        match self {
            Place::Awake(slot) => View::Awake(&slot.connection),
            Place::Asleep(sleeper) => View::Copy(Box::new(sleeper.read().connection)),
        }
    }
}

/// All connections.
#[derive(Debug)]
pub struct Connections {
    places: SlotMap<ConnectionId, Place>,
    asleep: usize,
    /// What those that are asleep have counted, together: nobody has to read them to know.
    counted_asleep: Counted,
}

impl Default for Connections {
    fn default() -> Self {
        Self { places: SlotMap::with_key(), asleep: 0, counted_asleep: Counted::default() }
    }
}

impl Connections {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// How many of them rest.
    pub fn asleep(&self) -> usize {
        self.asleep
    }

    /// The names of all.
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.places.keys().collect()
    }

    /// The names of those that are awake, and of those whose application has rung.
    pub fn awake_or_rung(&self) -> Vec<ConnectionId> {
        let wanted = |place: &Place| match place {
            Place::Awake(_) => true,
            Place::Asleep(sleeper) => sleeper.stream.as_ref().is_some_and(|stream| stream.is_rung()),
        };
        self.places.iter().filter(|(_, place)| wanted(place)).map(|(id, _)| id).collect()
    }

    /// What all of them have counted.
    pub fn counted(&self) -> Counted {
        let mut all = self.counted_asleep;
        for place in self.places.values() {
            if let Place::Awake(slot) = place {
                all += Counted::of(&slot.connection);
            }
        }
        all
    }

    /// A new one.
    pub fn insert(&mut self, slot: Slot) -> ConnectionId {
        self.places.insert(Place::Awake(Box::new(slot)))
    }

    /// One that is awake already, to have its memory come near.
    pub fn get_awake(&self, id: ConnectionId) -> Option<&Slot> {
        match self.places.get(id)? {
            Place::Awake(slot) => Some(slot),
            Place::Asleep(_) => None,
        }
    }

    /// Whether there is one of this name, awake or not.
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.places.contains_key(id)
    }

    /// One to look at.
    pub fn view(&self, id: ConnectionId) -> Option<View<'_>> {
        self.places.get(id).map(Place::view)
    }

    /// All of them, to look at.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.places.values().map(Place::view)
    }

    /// One to work with. Wakes it.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Slot> {
        let place = self.places.get_mut(id)?;
        if let Place::Asleep(sleeper) = place {
            let slot = sleeper.read();
            self.counted_asleep -= Counted::of(&slot.connection);
            self.asleep -= 1;
            *place = Place::Awake(Box::new(slot));
        }
        match place {
            Place::Awake(slot) => Some(slot),
            Place::Asleep(_) => unreachable!("it was woken"),
        }
    }

    /// Where one rests whose timer entry of this time has come up too early: when it has something to do.
    pub fn sleeps_until(&self, id: ConnectionId, entry: Instant) -> Option<Option<Instant>> {
        match self.places.get(id)? {
            Place::Asleep(sleeper) if sleeper.timer == Some(entry) => {
                Some(sleeper.due).filter(|due| due.is_none_or(|due| due > entry))
            }
            Place::Asleep(_) | Place::Awake(_) => None,
        }
    }

    /// Its entry in the timers is another one.
    pub fn set_sleeper_entry(&mut self, id: ConnectionId, entry: Option<Instant>) {
        if let Some(Place::Asleep(sleeper)) = self.places.get_mut(id) {
            sleeper.timer = entry;
        }
    }

    /// One whose timer entry of this time has come up. Nothing where it rests, and that entry does not count any more.
    pub fn get_due(&mut self, id: ConnectionId, entry: Instant) -> Option<&mut Slot> {
        if let Place::Asleep(sleeper) = self.places.get(id)?
            && sleeper.timer != Some(entry)
        {
            return None;
        }
        self.get_mut(id)
    }

    /// Takes one out.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Box<Slot>> {
        self.get_mut(id)?;
        match self.places.remove(id)? {
            Place::Awake(slot) => Some(slot),
            Place::Asleep(_) => unreachable!("it was woken"),
        }
    }

    /// Lets one rest that has nothing to do: [`Slot::is_at_rest`].
    pub fn put_to_sleep(&mut self, id: ConnectionId) {
        let Some(place) = self.places.get_mut(id) else { return };
        let Place::Awake(slot) = place else { return };
        debug_assert!(slot.is_at_rest());
        slot.connection.prepare_rest();
        let written = postcard::to_allocvec(&**slot).expect("a vector takes all that is written");
        let sleeper = Sleeper {
            written: written.into_boxed_slice(),
            stream: slot.stream.clone(),
            timer: slot.timer,
            due: slot.poll_timeout(),
        };
        debug_assert_eq!(format!("{:?}", sleeper.read()), format!("{slot:?}"), "nothing is lost");
        self.counted_asleep += Counted::of(&slot.connection);
        self.asleep += 1;
        *place = Place::Asleep(Box::new(sleeper));
    }
}
