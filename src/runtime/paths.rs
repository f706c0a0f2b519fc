//! How a runtime is told to manage paths: policy, limits, and endpoints in the words of `ip mptcp`.

use crate::pm::{EndpointError, EndpointSpec, Flags, Limits, Policy};
use crate::wire::mptcp::AddressId;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// How to manage the paths of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathConfig {
    /// What addresses are for where no endpoint says it.
    pub policy: Policy,
    /// The policy uses IPv4 and IPv6 addresses of a NIC side by side.
    pub dual_stack: bool,
    /// Subflows of one connection beside its first one, at most [`Limits::SUBFLOWS_MAX`].
    pub subflows: usize,
    /// Addresses of a peer that are kept, at most [`Limits::ADD_ADDR_ACCEPTED_MAX`].
    pub add_addr_accepted: usize,
    /// Endpoints to begin with.
    pub endpoints: Vec<EndpointConfig>,
    /// NICs, by name, whose addresses are used only as backups.
    pub backup: Vec<String>,
}

impl Default for PathConfig {
    fn default() -> Self {
        let Limits { subflows, add_addr_accepted, connections: _ } = Limits::default();
        Self {
            policy: Policy::default(),
            dual_stack: false,
            subflows,
            add_addr_accepted,
            endpoints: Vec::new(),
            backup: Vec::new(),
        }
    }
}

/// An endpoint, as a user writes it: its address, then words. `10.0.1.1 dev eth1 subflow backup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Its address.
    pub addr: IpAddr,
    /// Let joins come to this port of it.
    pub port: Option<u16>,
    /// Only on the NIC of this name.
    pub nic: Option<String>,
    /// Its id; `None`: one that is free.
    pub id: Option<u8>,
    /// What it is for.
    pub flags: Flags,
}

/// Why words are no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointSyntax {
    /// Nothing at all.
    #[error("an endpoint begins with an address: ADDRESS [port PORT] [dev NIC] [id ID] [FLAG...]")]
    Empty,
    /// The first word.
    #[error("'{0}' is no IPv4 or IPv6 address")]
    Address(String),
    /// A word that needs another one.
    #[error("'{0}' needs a value")]
    Missing(&'static str),
    /// A number.
    #[error("'{1}' is no {0}")]
    Number(&'static str, String),
    /// A word that says nothing.
    #[error("'{0}' is no flag; there are: {flags}; and: port PORT, dev NIC, id ID", flags = Flags::NAMES.join(", "))]
    Word(String),
    /// Parts that don't go together.
    #[error(transparent)]
    Contradiction(#[from] EndpointError),
}

impl EndpointConfig {
    /// From words, as `ip mptcp endpoint add` takes them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, EndpointSyntax> {
        let mut words = words.into_iter();
        let first = words.next().ok_or(EndpointSyntax::Empty)?;
        let addr: IpAddr = first.parse().map_err(|_| EndpointSyntax::Address(first.to_owned()))?;
        let addr = addr.to_canonical();
        let mut endpoint = Self { addr, port: None, nic: None, id: None, flags: Flags::NONE };
        while let Some(word) = words.next() {
            let mut value = |what| words.next().ok_or(EndpointSyntax::Missing(what));
            match word {
                "port" => endpoint.port = Some(number("port", value("port")?)?),
                "id" => endpoint.id = Some(number("id", value("id")?)?),
                "dev" => endpoint.nic = Some(value("dev")?.to_owned()),
                flag if endpoint.flags.set(flag, true) => {}
                other => return Err(EndpointSyntax::Word(other.to_owned())),
            }
        }
        endpoint.spec().check()?;
        Ok(endpoint)
    }

    /// Without its NIC's name, which means nothing to the path manager.
    pub(super) fn spec(&self) -> EndpointSpec {
        let Self { addr, port, nic: _, id, flags } = *self;
        EndpointSpec { addr, port, nic: None, id: id.map(AddressId), flags }
    }
}

fn number<T: FromStr>(what: &'static str, text: &str) -> Result<T, EndpointSyntax> {
    text.parse().map_err(|_| EndpointSyntax::Number(what, text.to_owned()))
}

/// The words may have commas between them, and `=` before a value: so it is one argument of a command line.
impl FromStr for EndpointConfig {
    type Err = EndpointSyntax;

    fn from_str(text: &str) -> Result<Self, EndpointSyntax> {
        Self::from_words(text.split([' ', ',', '=']).filter(|word| !word.is_empty()))
    }
}

impl fmt::Display for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, port, nic, id, flags } = self;
        write!(f, "{addr}")?;
        port.iter().try_for_each(|port| write!(f, " port {port}"))?;
        nic.iter().try_for_each(|nic| write!(f, " dev {nic}"))?;
        id.iter().try_for_each(|id| write!(f, " id {id}"))?;
        flags.names().try_for_each(|name| write!(f, " {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_they_are_read_with_or_without_commas() {
        let text = "10.0.1.1 port 5001 dev eth1 id 7 signal backup";
        let endpoint: EndpointConfig = text.parse().expect("an endpoint");
        assert_eq!(endpoint.to_string(), text);
        assert_eq!("10.0.1.1,signal,backup,id=7,dev=eth1,port=5001".parse(), Ok(endpoint));
        let mapped: EndpointConfig = "::ffff:10.0.1.1".parse().expect("an endpoint");
        assert_eq!(mapped.to_string(), "10.0.1.1");
    }

    #[test]
    fn what_is_no_endpoint_is_told() {
        for (text, told) in [
            ("", "begins with an address"),
            ("eth0", "'eth0' is no IPv4"),
            ("10.0.0.1 port", "'port' needs"),
            ("10.0.0.1 port http", "'http' is no port"),
            ("10.0.0.1 id 256", "'256' is no id"),
            ("10.0.0.1 id 0", "id 0"),
            ("10.0.0.1 turbulent", "signal, subflow"),
            ("10.0.0.1 signal fullmesh", "exclude each other"),
            ("10.0.0.1 port 1 subflow", "needs the flag signal"),
        ] {
            let error = text.parse::<EndpointConfig>().expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
