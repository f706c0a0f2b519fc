//! `braid ctl`: looks at a running Braid and changes what its path manager does, in the words of `ip mptcp`.

use crate::cli::wrong_usage;
use crate::runtime::EndpointConfig;
use crate::runtime::ctl::protocol::{CtlRequest, DOCUMENTATION};
use crate::runtime::ctl::{FOLDER, live_sockets};
use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use words::Words;

mod text;
mod words;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  braid ctl connections                       tokens, subflows, their figures
  braid ctl endpoint show
  braid ctl endpoint add 10.0.2.1 dev eth2 subflow
                                              open subflows from it
  braid ctl endpoint add 10.0.2.2 signal port 5202
                                              announce it, take joins there
  braid ctl endpoint change id 2 backup       only when nothing else works
  braid ctl endpoint delete id 2
  braid ctl limits set subflows 3 add_addr_accepted 4
  braid ctl subflow add token 5a3e1f0c local 10.0.2.1
                                              one more, of one connection
  braid ctl subflow backup token 5a3e1f0c id 1
  braid ctl subflow remove token 5a3e1f0c id 1
  braid ctl connection token 5a3e1f0c cc olia sched blest
                                              go on with these
  braid ctl monitor                           as ip mptcp monitor tells it
  braid ctl counters                          as nstat tells them
  braid ctl workers                           connections and frames of each worker

Endpoints: a signal endpoint is announced to peers; from a subflow endpoint a subflow is opened to the address that a \
connection was made to, from a fullmesh one to each address that the peer announces, from a laminar one to one of those, \
so that they pair off; a backup is used when nothing else works. An endpoint that says none of this, like one that \
nobody asked for (implicit), is used as the policy has it (--policy of server and client).

Exit status: 0 done, 1 refused or nobody there, 2 the arguments are wrong.";

/// Arguments of `braid ctl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CtlArguments {
    /// The control socket. Default: that of the only process that has one under /run/braid.
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    socket: Option<PathBuf>,
    /// The process whose socket it is.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Answer in JSON: the result of the request, or each event, on one line.
    #[arg(long, short = 'j', global = true)]
    json: bool,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// Local addresses, and what they are for.
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// How many subflows and addresses connections may have.
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Single subflows of single connections.
    #[command(subcommand)]
    Subflow(SubflowCommand),
    /// Change how one runs: token TOKEN [cc NAME] [sched NAME], the names of --cc and --sched of client and server.
    Connection { words: Vec<String> },
    /// List connections with their subflows.
    Connections {
        /// Only the one with this token.
        token: Option<String>,
        /// So many at most.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Tell what was counted: under the kernel's names what the kernel counts, our own with Braid in front.
    Counters {
        /// Those that are zero, too.
        #[arg(long, short = 'z')]
        zeros: bool,
    },
    /// Tell of each worker how many connections are its own, and what frames it has received, as a guest at queues of
    /// other workers, too, and sent; stray are segments that no connection of it knows: frames that missed their owner, for one.
    Workers,
    /// Tell what happens, until Ctrl-C.
    Monitor,
    /// Say how to speak with the socket from a program.
    Protocol,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Add one: IFADDR [port PORT] [dev NIC] [id ID] [signal|subflow|backup|fullmesh|laminar]...
    Add { words: Vec<String> },
    /// Delete one: id ID; or id 0 IFADDR: the address of first subflows.
    #[command(visible_alias = "del")]
    Delete { words: Vec<String> },
    /// List them, or one: [id ID].
    Show { words: Vec<String> },
    /// Delete all of them; what policy uses, too.
    Flush,
    /// Change one: id ID|IFADDR [port PORT] backup|nobackup|fullmesh|nofullmesh...
    Change { words: Vec<String> },
}

#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// Tell them.
    Show,
    /// Change them: [subflows N] [add_addr_accepted N]. Subflows are those beside the first one.
    Set { words: Vec<String> },
}

#[derive(Debug, Subcommand)]
enum SubflowCommand {
    /// Open one: token TOKEN [local IFADDR] [remote ADDR] [port PORT] [backup].
    Add { words: Vec<String> },
    /// Reset one: token TOKEN id ID.
    #[command(visible_alias = "delete")]
    Remove { words: Vec<String> },
    /// Use one only as a backup, and ask the peer to do so: token TOKEN id ID [on|off].
    Backup { words: Vec<String> },
}

impl EndpointCommand {
    fn request(&self) -> Result<CtlRequest, String> {
        match self {
            Self::Add { words } => {
                let endpoint = EndpointConfig::from_words(words.iter().map(String::as_str));
                let EndpointConfig { addr, port, nic, id, flags } =
                    endpoint.map_err(|error| error.to_string())?;
                let flags = flags.names().map(str::to_owned).collect();
                Ok(CtlRequest::EndpointAdd { addr, port, dev: nic, id, flags })
            }
            Self::Delete { words } => {
                let mut words = Words::new(words);
                words.skip("id");
                let id = words.number("an id")?;
                let addr = words.maybe_address()?;
                words.end()?;
                Ok(CtlRequest::EndpointDelete { id, addr })
            }
            Self::Show { words } => {
                let mut words = Words::new(words);
                words.skip("id");
                let id = if words.is_empty() { None } else { Some(words.number("an id")?) };
                words.end()?;
                Ok(CtlRequest::EndpointShow { id })
            }
            Self::Flush => Ok(CtlRequest::EndpointFlush {}),
            Self::Change { words } => {
                let mut words = Words::new(words);
                let (mut id, mut addr, mut port) = (None, None, None);
                if words.skip("id") {
                    id = Some(words.number("an id")?);
                } else {
                    addr = Some(words.address("an id (id ID) or an address")?);
                }
                if words.skip("port") {
                    port = Some(words.number("a port")?);
                }
                let flags: Vec<String> = words.rest();
                if flags.is_empty() {
                    return Err("what to change? backup, nobackup, fullmesh or nofullmesh".to_owned());
                }
                Ok(CtlRequest::EndpointChange { id, addr, port, flags })
            }
        }
    }
}

impl LimitsCommand {
    fn request(&self) -> Result<CtlRequest, String> {
        let Self::Set { words } = self else { return Ok(CtlRequest::LimitsShow {}) };
        let mut words = Words::new(words);
        let (mut subflows, mut add_addr_accepted) = (None, None);
        while let Some(word) = words.next() {
            match word {
                // As ip has it, and as it shows it.
                "subflow" | "subflows" => subflows = Some(words.number("a number of subflows")?),
                "add_addr_accepted" => add_addr_accepted = Some(words.number("a number of addresses")?),
                other => {
                    return Err(format!("'{other}' is no limit; there are: subflows, add_addr_accepted"));
                }
            }
        }
        if subflows.is_none() && add_addr_accepted.is_none() {
            return Err("which limit? subflows N, add_addr_accepted N".to_owned());
        }
        Ok(CtlRequest::LimitsSet { subflows, add_addr_accepted })
    }
}

impl SubflowCommand {
    fn request(&self) -> Result<CtlRequest, String> {
        match self {
            Self::Add { words } => {
                let mut words = Words::new(words);
                let token = words.token()?;
                let (mut local, mut remote, mut port, mut backup) = (None, None, None, false);
                while let Some(word) = words.next() {
                    match word {
                        "local" => local = Some(words.address("a local address")?),
                        "remote" => remote = Some(words.address("an address of the peer")?),
                        "port" => port = Some(words.number("a port")?),
                        "backup" => backup = true,
                        other => {
                            return Err(format!(
                                "'{other}'? There are: local IFADDR, remote ADDR, port PORT, backup"
                            ));
                        }
                    }
                }
                Ok(CtlRequest::SubflowAdd { token, local, remote, port, backup })
            }
            Self::Remove { words } => {
                let mut words = Words::new(words);
                let (token, id) = (words.token()?, words.subflow()?);
                words.end()?;
                Ok(CtlRequest::SubflowRemove { token, id })
            }
            Self::Backup { words } => {
                let mut words = Words::new(words);
                let (token, id) = (words.token()?, words.subflow()?);
                let backup = match words.next() {
                    None | Some("on") => true,
                    Some("off") => false,
                    Some(other) => return Err(format!("'{other}'? A backup is on or off")),
                };
                words.end()?;
                Ok(CtlRequest::SubflowBackup { token, id, backup })
            }
        }
    }
}

impl CtlCommand {
    /// The request of it; `None` for what needs no process.
    fn request(&self) -> Result<Option<CtlRequest>, String> {
        Ok(Some(match self {
            Self::Endpoint(command) => command.request()?,
            Self::Limits(command) => command.request()?,
            Self::Subflow(command) => command.request()?,
            Self::Connection { words } => {
                let mut words = Words::new(words);
                let token = words.token()?;
                let (mut cc, mut sched) = (None, None);
                while let Some(word) = words.next() {
                    match word {
                        "cc" => cc = Some(words.name("a congestion control")?),
                        "sched" => sched = Some(words.name("a scheduler")?),
                        other => return Err(format!("'{other}'? There are: cc NAME, sched NAME")),
                    }
                }
                if cc.is_none() && sched.is_none() {
                    return Err("what to change? cc NAME, sched NAME".to_owned());
                }
                CtlRequest::Connection { token, cc, sched }
            }
            Self::Connections { token, limit } => {
                CtlRequest::Connections { token: token.clone(), limit: *limit }
            }
            Self::Counters { .. } => CtlRequest::Counters {},
            Self::Workers => CtlRequest::Workers {},
            Self::Monitor => CtlRequest::Monitor {},
            Self::Protocol => return Ok(None),
        }))
    }

    /// The result in words.
    fn describe(&self, result: &Value) -> String {
        match self {
            Self::Endpoint(EndpointCommand::Show { .. }) => text::endpoints(result),
            Self::Endpoint(EndpointCommand::Add { .. }) => text::added_endpoint(result),
            Self::Endpoint(EndpointCommand::Flush | EndpointCommand::Delete { .. })
            | Self::Endpoint(EndpointCommand::Change { .. })
            | Self::Subflow(_)
            | Self::Connection { .. }
            | Self::Monitor
            | Self::Protocol => String::new(),
            Self::Limits(_) => text::limits(result),
            Self::Connections { .. } => text::connections(result),
            Self::Counters { zeros } => text::counters(result, *zeros),
            Self::Workers => text::workers(result),
        }
    }
}

/// A connection to a control socket.
struct Socket {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Socket {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!("there is no control socket {}", path.display()),
            ErrorKind::ConnectionRefused => {
                anyhow!("nobody answers at {}: its process is dead", path.display())
            }
            ErrorKind::PermissionDenied => anyhow!(
                "{} belongs to another user; use braid ctl as the user whose process it is (root?)",
                path.display()
            ),
            _ => anyhow::Error::new(error).context(format!("cannot open {}", path.display())),
        })?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).context("cannot set a time-out")?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).context("cannot set a time-out")?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    fn send(&mut self, request: &CtlRequest) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(request).context("a request of ours")?;
        line.push(b'\n');
        let what = || format!("cannot write to {}", self.path.display());
        self.stream.get_mut().write_all(&line).with_context(what)
    }

    /// The next line; `None` at the end.
    fn receive(&mut self) -> anyhow::Result<Option<Value>> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&line).map(Some).context("the answer is no JSON"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("{} does not answer", self.path.display())
            }
            Err(error) => Err(error).context(format!("cannot read from {}", self.path.display())),
        }
    }

    fn ask(&mut self, request: &CtlRequest) -> anyhow::Result<Value> {
        self.send(request)?;
        self.receive()?.ok_or_else(|| anyhow!("{} was closed without an answer", self.path.display()))
    }
}

impl CtlArguments {
    fn open(&self) -> anyhow::Result<Socket> {
        if let Some(path) = &self.socket {
            return Socket::open(path);
        }
        let folder = Path::new(FOLDER);
        if let Some(pid) = self.pid {
            return Socket::open(&folder.join(format!("{pid}.sock")));
        }
        match &live_sockets(folder)[..] {
            [(path, _)] => Socket::open(path),
            [] => bail!(
                "no control socket under {FOLDER}: is braid server or braid client running here (as this user), and \
                 not with --ctl none? --socket names one elsewhere"
            ),
            several => {
                let list = several
                    .iter()
                    .map(|(path, pid)| format!("\n  --pid {}\t{}", pid.unwrap_or_default(), path.display()));
                bail!("several processes have a control socket; choose one:{}", list.collect::<String>())
            }
        }
    }
}

/// Carries out a command.
pub(super) fn run(arguments: &CtlArguments) -> anyhow::Result<ExitCode> {
    let request = match arguments.command.request() {
        Ok(Some(request)) => request,
        Ok(None) => return Ok(print(DOCUMENTATION)),
        Err(error) => wrong_usage(error),
    };
    let mut socket = arguments.open()?;
    let mut response = socket.ask(&request)?;
    let result = response["result"].take();
    if response["ok"] != json!(true) {
        if arguments.json {
            let _ = print(&format!("{response}\n"));
            return Ok(ExitCode::FAILURE);
        }
        bail!("{}", response["error"].as_str().unwrap_or("refused, without a reason"));
    }
    if request == (CtlRequest::Monitor {}) {
        return monitor(&mut socket, arguments.json);
    }
    if arguments.json {
        return Ok(print(&format!("{result}\n")));
    }
    Ok(print(&arguments.command.describe(&result)))
}

fn monitor(socket: &mut Socket, json: bool) -> anyhow::Result<ExitCode> {
    socket.stream.get_ref().set_read_timeout(None).context("cannot wait without end")?;
    while let Some(event) = socket.receive()? {
        let line = if json { format!("{event}\n") } else { text::event(&event) };
        if print(&line) != ExitCode::SUCCESS {
            return Ok(ExitCode::FAILURE);
        }
    }
    // The process has ended.
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. Whoever reads it may have seen enough.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests;
